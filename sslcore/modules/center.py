"""How a teacher's scores become assignments that no single prototype always wins."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from sslcore.distributed import gather_rows
from sslcore.objectives.self_distillation import sharpened
from sslcore.objectives.sinkhorn import sinkhorn


class Centering(nn.Module, ABC):
    """From a teacher's scores, `[rows, prototypes]`, to assignments of the same shape."""

    @abstractmethod
    def forward(self, scores: Tensor, *, temperature: float) -> Tensor:
        """Return the assignments; every row sums to 1."""

    def update(self) -> None:
        """Move what is kept between steps, once after each step and on all processes."""


class SinkhornCentering(Centering):
    """All prototypes are used alike within each batch of all processes. Keeps nothing."""

    def __init__(self, *, iterations: int = 3) -> None:
        super().__init__()
        self.iterations = iterations

    def forward(self, scores: Tensor, *, temperature: float) -> Tensor:
        """See `Centering.forward`."""
        return sinkhorn(scores, epsilon=temperature, iterations=self.iterations)


class RunningCenter(Centering):
    """Scores minus their running mean over past batches of all processes.

    Source:
        Caron et al., "DINO", ICCV 2021, arXiv:2104.14294, equation 4.
    """

    center: Tensor

    def __init__(self, num_prototypes: int, *, momentum: float = 0.9) -> None:
        """Start the centre at 0.

        Args:
            num_prototypes: Width of the scores.
            momentum: Share of the old centre that stays at each step, 0 to 1.
        """
        super().__init__()
        self.momentum = momentum
        self.register_buffer("center", torch.zeros(num_prototypes))
        self._pending: Tensor | None = None

    def forward(self, scores: Tensor, *, temperature: float) -> Tensor:
        """See `Centering.forward`. In training, keep the sum of `scores` for `update`."""
        if self.training:
            count = scores.new_tensor([len(scores)], dtype=self.center.dtype)
            self._pending = torch.cat([scores.detach().to(self.center).sum(dim=0), count])
        return sharpened(scores, self.center, temperature=temperature)

    @torch.no_grad()
    def update(self) -> None:
        """Move the centre towards the mean of the last scores, whatever process had them."""
        if self._pending is None:
            return
        total = gather_rows(self._pending[None]).sum(dim=0)
        sums, count = total[:-1], total[-1]
        mean = torch.where(count > 0, sums / count.clamp_min(1), self.center)
        self.center.lerp_(mean, 1 - self.momentum)
        self._pending = None
