"""The slow change of brightness over an MR image."""

import torch
from torch import Tensor

from medssl.transforms.base import BatchedTransform, Params
from sslcore.random import SampleRandom

_POWERS = tuple((i, j) for i in range(4) for j in range(4) if 0 < i + j <= 3)


class RandBiasField(BatchedTransform):
    """Multiply each image by the exponential of a random cubic polynomial of position.

    This is how receive coils light an image unevenly.

    Source:
        Van Leemput et al., "Automated model-based bias field correction of MR images of the
        brain", IEEE TMI 1999, 18(10), section II: polynomial in the logarithm of intensity.
    """

    def __init__(self, *, strength: float = 0.3, prob: float = 0.5) -> None:
        """Draw the nine coefficients between `-strength` and `strength`."""
        super().__init__(prob)
        self.strength = strength

    def sample(self, random: SampleRandom) -> dict[str, Tensor]:
        """Draw `coefficients`, `[batch, 9]`; zeros leave an image as it is."""
        draws = random.uniform(shape=(1 + len(_POWERS),))
        applied = (draws[:, :1] < self.prob).float()
        return {"coefficients": applied * self.strength * (2 * draws[:, 1:] - 1)}

    def apply_(self, images: Tensor, params: Params) -> Tensor:
        """Like `apply`, but may overwrite `images`; clipped to 0 to 1."""
        rows, columns = images.shape[-2:]
        y = torch.linspace(-1, 1, rows, device=images.device)[:, None]
        x = torch.linspace(-1, 1, columns, device=images.device)
        basis = torch.stack([(y**i * x**j).flatten() for i, j in _POWERS])
        field = torch.exp_(params["coefficients"] @ basis).view(-1, 1, rows, columns)
        return images.mul_(field).clamp_(0, 1)
