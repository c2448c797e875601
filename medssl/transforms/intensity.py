"""Brightness, contrast and gamma: how exposure, window and display differ between machines."""

import math

import torch
from torch import Tensor

from medssl.transforms.base import BatchedTransform, Params, change_rows, per_image, unless
from sslcore.random import SampleRandom


class RandBrightnessContrast(BatchedTransform):
    """Stretch the values of each image around its mean, then shift them; clipped to 0 to 1."""

    def __init__(
        self, *, brightness: float = 0.2, contrast: float = 0.3, prob: float = 0.8
    ) -> None:
        """Describe the change.

        Args:
            brightness: Largest shift, either way, of values between 0 and 1.
            contrast: Largest change of the stretch, either way; factors are `1 ± contrast`.
            prob: Share of samples that are changed.
        """
        super().__init__(prob)
        self.brightness = brightness
        self.contrast = contrast

    def sample(self, random: SampleRandom) -> dict[str, Tensor]:
        """Draw `factor` and `shift`, `[batch]`."""
        draws = random.uniform(shape=(3,))
        applied = draws[:, 0] < self.prob
        factor = 1 + self.contrast * (2 * draws[:, 1] - 1)
        shift = self.brightness * (2 * draws[:, 2] - 1)
        return {"factor": unless(applied, factor, 1), "shift": unless(applied, shift, 0)}

    def apply_(self, images: Tensor, params: Params) -> Tensor:
        """Like `apply`, but may overwrite `images`."""
        means = images.mean(dim=tuple(range(1, images.ndim)))
        offset = params["shift"] + (1 - params["factor"]) * means
        factor = per_image(params["factor"], images)
        return images.mul_(factor).add_(per_image(offset, images)).clamp_(0, 1)


class RandGamma(BatchedTransform):
    """Raise values of 0 to 1 to a random power: below 1 it lightens, above it darkens."""

    def __init__(self, *, low: float = 0.7, high: float = 1.5, prob: float = 0.3) -> None:
        """Draw powers between `low` and `high`, evenly on a logarithmic scale."""
        super().__init__(prob)
        self.low = low
        self.high = high

    def sample(self, random: SampleRandom) -> dict[str, Tensor]:
        """Draw `gamma`, `[batch]`."""
        draws = random.uniform(shape=(2,))
        low, high = math.log(self.low), math.log(self.high)
        gamma = torch.exp(low + (high - low) * draws[:, 1])
        return {"gamma": unless(draws[:, 0] < self.prob, gamma, 1)}

    def apply_(self, images: Tensor, params: Params) -> Tensor:
        """Like `apply`, but may overwrite `images`."""
        gamma = params["gamma"]
        return change_rows(_power, images, gamma != 1, gamma)


def _power(images: Tensor, gamma: Tensor) -> Tensor:
    """Return `images ** gamma`, in place; by way of the logarithm it takes half the time."""
    return images.clamp_(min=0).log_().mul_(per_image(gamma, images)).exp_()
