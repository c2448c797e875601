"""The slow change of brightness over an MR image."""

from functools import reduce
from itertools import product
from operator import mul

import torch
from torch import Tensor

from medssl.transforms.base import BatchedTransform, Params
from sslcore.random import SampleRandom

_DEGREE = 3


class RandBiasField(BatchedTransform):
    """Multiply each image by the exponential of a random cubic polynomial of position.

    This is how receive coils light an image unevenly.

    Source:
        Van Leemput et al., "Automated model-based bias field correction of MR images of the
        brain", IEEE TMI 1999, 18(10), section II: polynomial in the logarithm of intensity.
    """

    def __init__(self, *, strength: float = 0.3, prob: float = 0.5, dims: int = 2) -> None:
        """Draw the coefficients, 9 of images and 19 of volumes, up to `strength` either way."""
        super().__init__(prob)
        self.strength = strength
        self._powers = [
            powers
            for powers in product(range(_DEGREE + 1), repeat=dims)
            if 0 < sum(powers) <= _DEGREE
        ]

    def sample(self, random: SampleRandom) -> dict[str, Tensor]:
        """Draw `coefficients`, `[batch, 9 or 19]`; zeros leave an image as it is."""
        draws = random.uniform(shape=(1 + len(self._powers),))
        applied = (draws[:, :1] < self.prob).float()
        return {"coefficients": applied * self.strength * (2 * draws[:, 1:] - 1)}

    def apply_(self, images: Tensor, params: Params) -> Tensor:
        """Like `apply`, but may overwrite `images`; clipped to 0 to 1."""
        sides = images.shape[2:]
        steps = [torch.linspace(-1, 1, side, device=images.device) for side in sides]
        places = torch.meshgrid(*steps, indexing="ij")
        basis = torch.stack(
            [reduce(mul, (x**n for x, n in zip(places, powers, strict=True))).flatten()
             for powers in self._powers]
        )  # fmt: skip
        field = torch.exp_(params["coefficients"] @ basis).view(-1, 1, *sides)
        return images.mul_(field).clamp_(0, 1)
