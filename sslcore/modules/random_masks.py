"""Which patches of each sample are hidden."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from sslcore.errors import ShapeError
from sslcore.random import SampleRandom


class PatchMask(NamedTuple):
    """Which patches are hidden, the same number in every sample.

    Attributes:
        hidden: `[batch, count]`, bool; patches row by row (and slice by slice).
        visible: Numbers of the others, rising, `[batch, seen]`, int64.
    """

    hidden: Tensor
    visible: Tensor


def random_mask(
    random: SampleRandom, grid: tuple[int, ...], *, share: float, block: int = 1
) -> PatchMask:
    """Hide patches at random.

    Args:
        random: One stream per sample.
        grid: Patches along each side.
        share: Hidden part of them, 0 to 1; at least one is hidden, and at least one is not.
        block: Side of the squares or cubes of patches that are hidden as a whole.

    Raises:
        ShapeError: `block` does not divide a side, or there are fewer than two blocks.
    """
    coarse = tuple(side // block for side in grid)
    count = math.prod(coarse)
    if any(side % block for side in grid) or count < 2:
        raise ShapeError(
            f"expected two or more blocks of {block} patches a side in a grid of {grid};"
            " take smaller blocks or larger views"
        )
    hidden_count = min(max(round(share * count), 1), count - 1)
    order = random.uniform(shape=(count,)).argsort(dim=1, stable=True)
    hidden = torch.zeros_like(order, dtype=torch.bool).scatter(1, order[:, :hidden_count], True)
    hidden = hidden.reshape(-1, *coarse)
    for axis in range(len(grid)):
        hidden = hidden.repeat_interleave(block, dim=1 + axis)
    hidden = hidden.flatten(1)
    seen = (count - hidden_count) * block ** len(grid)
    return PatchMask(hidden, hidden.to(torch.uint8).argsort(dim=1, stable=True)[:, :seen])
