"""Blur and sharpening: focus, motion, detector and reconstruction kernel."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from medssl.transforms.base import BatchedTransform, Params, change_rows, per_image, unless
from sslcore.random import SampleRandom


class RandGaussianBlur(BatchedTransform):
    """Convolve each image with a Gaussian of its own width; borders are repeated outwards."""

    def __init__(self, *, low: float = 0.1, high: float = 1.0, prob: float = 0.5) -> None:
        """Draw the standard deviation, px of the result, between `low` and `high`."""
        super().__init__(prob)
        self.low = low
        self.high = high
        self.radius = max(1, math.ceil(2.5 * high))

    def sample(self, random: SampleRandom) -> dict[str, Tensor]:
        """Draw `sigma`, `[batch]`, px; 0 leaves an image as it is."""
        draws = random.uniform(shape=(2,))
        sigma = self.low + (self.high - self.low) * draws[:, 1]
        return {"sigma": unless(draws[:, 0] < self.prob, sigma, 0)}

    def apply_(self, images: Tensor, params: Params) -> Tensor:
        """Like `apply`, but may overwrite `images`."""
        sigma = params["sigma"]
        return change_rows(_convolve, images, sigma > 0, gaussian_weights(sigma, self.radius))


class RandSharpness(BatchedTransform):
    """Move each image away from (sharper) or towards (softer) its 3 x 3 (x 3) binomial average."""

    def __init__(self, *, softest: float = -0.5, sharpest: float = 1.0, prob: float = 0.3) -> None:
        """Draw the amount between `softest` and `sharpest`; 0 changes nothing."""
        super().__init__(prob)
        self.softest = softest
        self.sharpest = sharpest

    def sample(self, random: SampleRandom) -> dict[str, Tensor]:
        """Draw `amount`, `[batch]`."""
        draws = random.uniform(shape=(2,))
        amount = self.softest + (self.sharpest - self.softest) * draws[:, 1]
        return {"amount": unless(draws[:, 0] < self.prob, amount, 0)}

    def apply_(self, images: Tensor, params: Params) -> Tensor:
        """Like `apply`, but may overwrite `images`; clipped to 0 to 1."""
        amount = params["amount"]
        return change_rows(_sharpen, images, amount != 0, amount)


def gaussian_weights(sigma: Tensor, radius: int) -> Tensor:
    """Return one normalised kernel per sample, `[batch, 2 * radius + 1]`; a unit where sigma is 0.

    Values belong to pixel centres. Sigma 0 gives exactly the identity.
    """
    distance = torch.arange(-radius, radius + 1, device=sigma.device)
    exponent = -0.5 * (distance / sigma.clamp(min=1e-3)[:, None]).square()
    weights = torch.exp(exponent)
    return weights / weights.sum(dim=1, keepdim=True)


def _convolve(images: Tensor, weights: Tensor) -> Tensor:
    """Convolve each image along all its sides with its own kernel, `weights[batch, taps]`."""
    batch, channels, *sides = images.shape
    taps = weights.shape[1]
    radius = taps // 2
    kernels = weights.repeat_interleave(channels, dim=0)
    flat = images.reshape(1, batch * channels, *sides)
    flat = F.pad(flat, (radius, radius) * len(sides), mode="replicate")
    convolve = F.conv2d if len(sides) == 2 else F.conv3d
    for axis in reversed(range(len(sides))):
        shape = [taps if each == axis else 1 for each in range(len(sides))]
        flat = convolve(flat, kernels.view(-1, 1, *shape), groups=batch * channels)
    return flat.view(batch, channels, *sides)


def _sharpen(images: Tensor, amount: Tensor) -> Tensor:
    dims = images.ndim - 2
    sums = F.pad(images, (1, 1) * dims, mode="replicate")
    for axis in range(2, images.ndim):
        count = images.shape[axis]
        before, here, after = (sums.narrow(axis, start, count) for start in range(3))
        sums = (before + after).add_(here, alpha=2)
    weight = per_image(amount, images)
    return images.mul_(1 + weight).addcmul_(sums, weight, value=-(4.0**-dims)).clamp_(0, 1)
