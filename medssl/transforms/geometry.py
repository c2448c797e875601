"""Crop, resize, flip, quarter turns and rotation in one resampling."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from medssl.transforms.base import BatchedTransform, Params, per_image
from sslcore.random import SampleRandom

_MAX_SHRINK = 1.5  # bilinear sampling skips pixels when it shrinks by more


class RandGeometry(BatchedTransform):
    """Cut a random box out of each image, turn and flip it, and bring it to one size.

    All of it is one affine map and one bilinear resampling, so nothing is blurred twice. Where a
    box shrinks by more than 1.5, it is sampled from a copy of the image averaged over 2 x 2, 4 x
    4, ... pixels instead. Positions outside the image, which a rotation can reach, show its
    mirror image. The whole image, flipped or turned by quarters, keeps its values. Images are
    expected to be square.
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
        affine = params["affine"]
        grid = _grid(affine, self.size)
        levels = _levels(images, self.size)
        if len(levels) == 1:
            return _resample(images, grid)
        shrink = _shrink(affine, images.shape[-2:], self.size)
        level = torch.log2(shrink / _MAX_SHRINK).ceil().clamp(0, len(levels) - 1)
        result = _resample(images, grid)
        for depth, smaller in enumerate(levels[1:], start=1):
            result = _replace_rows(result, level == depth, smaller, grid)
        return result

    def apply(self, images: Tensor, params: Params) -> Tensor:
        """Return `[batch, channels, size, size]`."""
        return self.apply_(images, params)


def _turn(cos: Tensor, sin: Tensor, quarters: Tensor) -> tuple[Tensor, Tensor]:
    """Add quarter turns to an angle, exactly."""
    sign = 1 - 2 * (quarters >= 2).float()
    odd = quarters % 2 == 1
    return sign * torch.where(odd, -sin, cos), sign * torch.where(odd, cos, sin)


def _grid(affine: Tensor, size: int) -> Tensor:
    """Return the positions to sample, `[batch, size, size, 2]`, x before y."""
    steps = (2 * torch.arange(size, device=affine.device) + 1) / size - 1
    along_x = affine[:, :, 0, None] * steps  # [batch, 2, size]
    along_y = torch.addcmul(affine[:, :, 2, None], affine[:, :, 1, None], steps)
    grid = affine.new_empty(len(affine), size, size, 2)
    torch.add(along_x[:, 0, None, :], along_y[:, 0, :, None], out=grid[..., 0])
    torch.add(along_x[:, 1, None, :], along_y[:, 1, :, None], out=grid[..., 1])
    return grid


def _resample(images: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(
        images, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )


def _replace_rows(result: Tensor, here: Tensor, images: Tensor, grid: Tensor) -> Tensor:
    """Sample `images` instead where `here`; on the CPU only there."""
    if here.device.type != "cpu":
        return torch.where(per_image(here), _resample(images, grid), result)
    rows = here.nonzero().flatten()
    return result.index_copy_(0, rows, _resample(images[rows], grid[rows]))


def _levels(images: Tensor, size: int) -> list[Tensor]:
    """Return the images and their averages, down to where the whole image shrinks little."""
    levels = [images]
    while max(levels[-1].shape[-2:]) > _MAX_SHRINK * size:
        rows, columns = levels[-1].shape[-2:]
        levels.append(F.adaptive_avg_pool2d(levels[-1], (-(-rows // 2), -(-columns // 2))))
    return levels


def _shrink(affine: Tensor, sides: torch.Size, size: int) -> Tensor:
    """Return how many pixels of the image one step in the result covers at most, `[batch]`."""
    pixels = torch.tensor([sides[1], sides[0]], device=affine.device)[None, :, None]
    steps = affine[:, :, :2] * pixels / size  # columns: a step to the right, a step down
    return steps.square().sum(dim=1).sqrt().amax(dim=1)
