"""Adam whose work follows the rows of the batch, not the size of the table."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW


class RowAdam(AdamW):
    """AdamW that changes only the rows that stand in a row-sparse gradient.

    Parameters with an ordinary gradient get the ordinary step. A row that no sample of the batch
    uses keeps its weights and its averages, and is not decayed: for it no time has passed. All
    of a table's rows share one step count.

    Source:
        Rows: torch's `SparseAdam`, which this equals without weight decay. Decay: Loshchilov,
        Hutter, "Decoupled weight decay regularization", ICLR 2019, arXiv:1711.05101.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
    ) -> None:
        """Set the values of groups that bring none of their own; see `torch.optim.AdamW`."""
        # fused: one pass over the memory, a third of the time where a whole table has a gradient
        super().__init__(params, lr=lr, betas=betas, weight_decay=weight_decay, fused=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Change the weights by one step."""
        value = None
        if closure is not None:
            with torch.enable_grad():
                value = closure()
        held: list[tuple[Tensor, Tensor]] = []
        for group in self.param_groups:
            for weights in group["params"]:
                if weights.grad is not None and weights.grad.is_sparse:
                    self._update_rows(weights, weights.grad.coalesce(), group)
                    held.append((weights, weights.grad))
                    weights.grad = None
        super().step()
        for weights, gradient in held:
            weights.grad = gradient
        return value

    def _update_rows(self, weights: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        rows, slopes = gradient.indices()[0], gradient.values()
        state = self.state[weights]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(weights)
            state["exp_avg_sq"] = torch.zeros_like(weights)
        state["step"] += 1
        steps, (beta_1, beta_2) = state["step"].item(), group["betas"]
        mean = state["exp_avg"][rows].lerp_(slopes, 1 - beta_1)
        square = state["exp_avg_sq"][rows].mul_(beta_2).addcmul_(slopes, slopes, value=1 - beta_2)
        state["exp_avg"][rows] = mean
        state["exp_avg_sq"][rows] = square
        size = square.div_(1 - beta_2**steps).sqrt_().add_(group["eps"])
        current = weights[rows].mul_(1 - group["lr"] * group["weight_decay"])
        weights[rows] = current.addcdiv_(mean, size, value=-group["lr"] / (1 - beta_1**steps))
