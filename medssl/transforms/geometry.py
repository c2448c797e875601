"""Crop, resize, flip, quarter turns and rotation in one resampling."""

import math

import torch
from torch import Tensor

from medssl.transforms.base import BatchedTransform, Params
from medssl.transforms.resampling import resample
from sslcore.random import SampleRandom


class RandGeometry(BatchedTransform):
    """Cut a random box out of each image, turn and flip it, and bring it to one size.

    All of it is one affine map and one resampling: see `medssl.transforms.resampling`. The whole
    image, flipped or turned by quarters, keeps its values. Images are expected to be square.
    """

    def __init__(
        self,
        size: int,
        *,
        crop_scale: tuple[float, float] = (0.3, 1.0),
        aspect: tuple[float, float] = (3 / 4, 4 / 3),
        horizontal_flip: float = 0.0,
        vertical_flip: float = 0.0,
        quarter_turns: bool = False,
        rotation: float = 0.0,
    ) -> None:
        """Describe the random geometry.

        Args:
            size: Side of the result, px.
            crop_scale: Smallest and largest share of the area that a box covers.
            aspect: Smallest and largest width over height of a box.
            horizontal_flip: Probability to swap left and right.
            vertical_flip: Probability to swap top and bottom.
            quarter_turns: Whether to turn by 0, 90, 180 or 270 degrees, each equally often.
            rotation: Largest further rotation in degrees, either way.
        """
        super().__init__()
        self.size = size
        self.crop_scale = crop_scale
        self.aspect = aspect
        self.horizontal_flip = horizontal_flip
        self.vertical_flip = vertical_flip
        self.quarter_turns = quarter_turns
        self.rotation = rotation

    def sample(self, random: SampleRandom) -> dict[str, Tensor]:
        """Draw the box and the map, `affine`: `[batch, 2, 3]`, result to image, both -1 to 1."""
        draws = random.uniform(shape=(8,))
        low, high = (math.log(bound) for bound in self.aspect)
        area = self.crop_scale[0] + (self.crop_scale[1] - self.crop_scale[0]) * draws[:, 0]
        stretch = torch.exp(0.5 * (low + (high - low) * draws[:, 1]))
        width = (area.sqrt() * stretch).clamp(max=1)
        height = (area.sqrt() / stretch).clamp(max=1)
        angle = math.radians(self.rotation) * (2 * draws[:, 4] - 1)
        cos, sin = torch.cos(angle), torch.sin(angle)
        if self.quarter_turns:
            cos, sin = _turn(cos, sin, (4 * draws[:, 7]).long())
        # Where the turned box fits into the image, it is placed inside.
        free_x = (1 - width * cos.abs() - height * sin.abs()).clamp(min=0)
        free_y = (1 - width * sin.abs() - height * cos.abs()).clamp(min=0)
        center_x = free_x * (2 * draws[:, 2] - 1)
        center_y = free_y * (2 * draws[:, 3] - 1)
        flip_x = 1 - 2 * (draws[:, 5] < self.horizontal_flip).float()
        flip_y = 1 - 2 * (draws[:, 6] < self.vertical_flip).float()
        across = torch.stack([width * cos * flip_x, -height * sin * flip_y, center_x], dim=1)
        down = torch.stack([width * sin * flip_x, height * cos * flip_y, center_y], dim=1)
        return {"affine": torch.stack([across, down], dim=1)}

    def apply_(self, images: Tensor, params: Params) -> Tensor:
        """Return `[batch, channels, size, size]`; `images` stay as they are."""
        return resample(images, params["affine"], self.size)

    def apply(self, images: Tensor, params: Params) -> Tensor:
        """Return `[batch, channels, size, size]`."""
        return self.apply_(images, params)


def _turn(cos: Tensor, sin: Tensor, quarters: Tensor) -> tuple[Tensor, Tensor]:
    """Add quarter turns to an angle, exactly."""
    sign = 1 - 2 * (quarters >= 2).float()
    odd = quarters % 2 == 1
    return sign * torch.where(odd, -sin, cos), sign * torch.where(odd, cos, sin)
