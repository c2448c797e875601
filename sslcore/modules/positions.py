"""Where a patch lies: fixed sine and cosine codes, and learnt codes fitted to other grids."""

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from sslcore.numerics import in_full_precision

_LONGEST = 10_000.0  # periods lie between 2 pi and this times 2 pi, in patches


def sincos_positions(grid: tuple[int, ...], dim: int) -> Tensor:
    """Return the codes of all patches of a grid, `[count, dim]`, float32, row by row.

    Each axis has an equal share of the columns, half sines and half cosines; columns that cannot
    be shared out evenly are zero.

    Args:
        grid: Patches along each side.
        dim: Columns, at least twice the number of sides.

    Source:
        Vaswani et al., "Attention is all you need", 2017, arXiv:1706.03762, section 3.5, once per
        axis as in the published code of MAE, arXiv:2111.06377, which puts the columns of the last
        axis first; with three axes for volumes.
    """
    each = dim // (2 * len(grid))
    rates = _LONGEST ** -(torch.arange(each, dtype=torch.float64) / each)
    places = torch.meshgrid(*(torch.arange(side).double() for side in grid), indexing="ij")
    angles = [place.flatten()[:, None] * rates for place in places]
    codes = torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1)
    return F.pad(codes, (0, dim - codes.shape[1])).float()


@in_full_precision
def resize_positions(positions: Tensor, *, old: tuple[int, ...], new: tuple[int, ...]) -> Tensor:
    """Fit the codes of a grid to another grid over the same image, axis by axis.

    Args:
        positions: `[count, dim]`, row by row.
        old: Their grid.
        new: The wanted one.

    Returns:
        `[new count, dim]`, cubic between the old places, and smoothed where there are fewer; the
        same numbers at every run, unlike torch's interpolation on a GPU.
    """
    codes = positions.reshape(*old, -1)
    for axis, (before, after) in enumerate(zip(old, new, strict=True)):
        if before != after:
            weights = _resampling(before, after).to(codes)
            codes = torch.tensordot(weights, codes.movedim(axis, 0), dims=1).movedim(0, axis)
    return codes.reshape(-1, positions.shape[1])


@cache
def _resampling(before: int, after: int) -> Tensor:
    """Return what each of `after` places takes from each of `before`, `[after, before]`."""
    unit = torch.eye(before, dtype=torch.float64)[None, None]
    size = (before, after)
    columns = F.interpolate(unit, size, mode="bicubic", align_corners=False, antialias=True)
    return columns[0, 0].T
