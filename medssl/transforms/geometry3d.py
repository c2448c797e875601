"""Crop, resize, flip and rotation of volumes in one resampling."""

import math

import torch
from torch import Tensor

from medssl.transforms.base import BatchedTransform, Params
from medssl.transforms.resampling import resample
from sslcore.random import SampleRandom

_AXES = 3


class RandGeometry3d(BatchedTransform):
    """Cut a random box out of each volume, turn and flip it, and bring it to one size.

    All of it is one affine map and one resampling: see `medssl.transforms.resampling`. Volumes are
    expected to be cubes, `[batch, channels, slices, rows, columns]`, with voxels as long as wide.
    """

    def __init__(
        self,
        size: int,
        *,
        crop_scale: tuple[float, float] = (0.3, 1.0),
        aspect: tuple[float, float] = (3 / 4, 4 / 3),
        flips: tuple[float, float, float] = (0.0, 0.0, 0.0),
        rotation: float = 0.0,
    ) -> None:
        """Describe the random geometry.

        Args:
            size: Side of the result, px.
            crop_scale: Smallest and largest share of the volume that a box covers.
            aspect: Smallest and largest side over the mean side of a box.
            flips: Probability to turn round slices, rows, columns.
            rotation: Largest rotation in degrees, around an axis of any direction.
        """
        super().__init__()
        self.size = size
        self.crop_scale = crop_scale
        self.aspect = aspect
        self.flips = flips
        self.rotation = rotation

    def sample(self, random: SampleRandom) -> dict[str, Tensor]:
        """Draw box and map, `affine`: `[batch, 3, 4]`, result to volume, both -1 to 1."""
        draws = random.uniform(shape=(13,))
        sides = self._sides(draws[:, :3])
        angle = math.radians(self.rotation) * (2 * draws[:, 3] - 1)
        turned = _rotation(draws[:, 4:6], angle) * sides[:, None, :]
        # Where the turned box fits into the volume, it is placed inside.
        free = (1 - turned.abs().sum(dim=2)).clamp(min=0)
        center = free * (2 * draws[:, 6:9] - 1)
        probabilities = torch.tensor(self.flips[::-1], device=draws.device)  # columns first
        flip = 1 - 2 * (draws[:, 9:12] < probabilities).float()
        return {"affine": torch.cat([turned * flip[:, None, :], center[:, :, None]], dim=2)}

    def apply_(self, images: Tensor, params: Params) -> Tensor:
        """Return `[batch, channels, size, size, size]`; `images` stay as they are."""
        return resample(images, params["affine"], self.size)

    def apply(self, images: Tensor, params: Params) -> Tensor:
        """Return `[batch, channels, size, size, size]`."""
        return self.apply_(images, params)

    def _sides(self, draws: Tensor) -> Tensor:
        """Return the sides of the boxes, parts of the whole, `[batch, 3]`."""
        smallest, largest = self.crop_scale
        mean = (smallest + (largest - smallest) * draws[:, 0]).pow(1 / _AXES)
        low, high = (math.log(bound) for bound in self.aspect)
        two = low + (high - low) * draws[:, 1:]
        three = torch.cat([two, -two.sum(dim=1, keepdim=True)], dim=1) / 2
        return (mean[:, None] * three.exp()).clamp(max=1)


def _rotation(draws: Tensor, angle: Tensor) -> Tensor:
    """Return rotations by `angle` around random axes, `[batch, 3, 3]`: Rodrigues' formula."""
    z = 2 * draws[:, 0] - 1
    around = 2 * math.pi * draws[:, 1]
    flat = (1 - z.square()).clamp(min=0).sqrt()
    x, y = flat * torch.cos(around), flat * torch.sin(around)
    none = torch.zeros_like(x)
    cross = torch.stack([none, -z, y, z, none, -x, -y, x, none], dim=1).view(-1, _AXES, _AXES)
    sin, cos = torch.sin(angle)[:, None, None], torch.cos(angle)[:, None, None]
    return torch.eye(_AXES, device=draws.device) + sin * cross + (1 - cos) * (cross @ cross)
