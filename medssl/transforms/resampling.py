"""One affine map of images or volumes, and one linear resampling, so that nothing is blurred twice.

Where a box shrinks by more than 1.5, it is sampled from a copy of the image averaged over 2, 4, ...
pixels a side instead. Positions outside the image, which a rotation can reach, show its mirror
image.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from medssl.transforms.base import per_image

_MAX_SHRINK = 1.5  # linear sampling skips pixels when it shrinks by more


def resample(images: Tensor, affine: Tensor, size: int) -> Tensor:
    """Return `[batch, channels, size, size]`, of volumes `[batch, channels, size, size, size]`.

    Args:
        images: `[batch, channels, *sides]`; they stay as they are.
        affine: From places in the result to places in the image, each side from -1 to 1, the last
            side first: `[batch, 2, 3]`, of volumes `[batch, 3, 4]`.
        size: Side of the result, px.
    """
    grid = _grid(affine, size) if images.ndim == 4 else _grid_of_volumes(affine, size)
    levels = _levels(images, size)
    result = _sample(images, grid)
    if len(levels) == 1:
        return result
    shrink = _shrink(affine, images.shape[2:], size)
    level = torch.log2(shrink / _MAX_SHRINK).ceil().clamp(0, len(levels) - 1)
    for depth, smaller in enumerate(levels[1:], start=1):
        result = _replace_rows(result, level == depth, smaller, grid)
    return result


def resample_labels(labels: Tensor, affine: Tensor, size: int) -> Tensor:
    """Return the labels of the nearest pixels, `[batch, size, size(, size)]`, uint8.

    Args:
        labels: `[batch, *sides]`, uint8.
        affine: See `resample`.
        size: Side of the result, px.
    """
    grid = _grid(affine, size) if labels.ndim == 3 else _grid_of_volumes(affine, size)
    found = F.grid_sample(
        labels[:, None].float(),
        grid,
        mode="nearest",
        padding_mode="reflection",
        align_corners=False,
    )
    return found[:, 0].to(torch.uint8)


def _grid(affine: Tensor, size: int) -> Tensor:
    """Return the positions to sample, `[batch, size, size, 2]`, x before y."""
    steps = (2 * torch.arange(size, device=affine.device) + 1) / size - 1
    along_x = affine[:, :, 0, None] * steps  # [batch, 2, size]
    along_y = torch.addcmul(affine[:, :, 2, None], affine[:, :, 1, None], steps)
    grid = affine.new_empty(len(affine), size, size, 2)
    torch.add(along_x[:, 0, None, :], along_y[:, 0, :, None], out=grid[..., 0])
    torch.add(along_x[:, 1, None, :], along_y[:, 1, :, None], out=grid[..., 1])
    return grid


def _grid_of_volumes(affine: Tensor, size: int) -> Tensor:
    shape = [len(affine), 1, size, size, size]
    grid: Tensor = F.affine_grid(affine, shape, align_corners=False)
    return grid


def _sample(images: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(
        images, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )


def _replace_rows(result: Tensor, here: Tensor, images: Tensor, grid: Tensor) -> Tensor:
    """Sample `images` instead where `here`; on the CPU only there."""
    if here.device.type != "cpu":
        return torch.where(per_image(here, result), _sample(images, grid), result)
    rows = here.nonzero().flatten()
    return result.index_copy_(0, rows, _sample(images[rows], grid[rows]))


def _levels(images: Tensor, size: int) -> list[Tensor]:
    """Return the images and their averages, down to where the whole image shrinks little."""
    levels = [images]
    while max(levels[-1].shape[2:]) > _MAX_SHRINK * size:
        halves = [-(-side // 2) for side in levels[-1].shape[2:]]
        levels.append(F.interpolate(levels[-1], halves, mode="area"))
    return levels


def _shrink(affine: Tensor, sides: torch.Size, size: int) -> Tensor:
    """Return how many pixels of the image one step in the result covers at most, `[batch]`."""
    pixels = torch.tensor(list(sides)[::-1], device=affine.device)[None, :, None]
    steps = affine[:, :, :-1] * pixels / size  # columns: a step along each side of the result
    return steps.square().sum(dim=1).sqrt().amax(dim=1)
