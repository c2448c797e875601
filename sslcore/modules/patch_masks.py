"""Which patches of an image are hidden, drawn for each sample alone."""

import math
from typing import Literal

import torch
from torch import Tensor

from sslcore.random import SampleRandom

MaskShape = Literal["block", "random"]
_STRETCH = math.log(1 / 0.3) / 2  # sides of a block differ by a factor of up to 1 / 0.3


def draw_patch_mask(
    random: SampleRandom,
    grid: tuple[int, ...],
    *,
    share: tuple[float, float] = (0.1, 0.5),
    probability: float = 0.5,
    shape: MaskShape = "block",
    num_blocks: int = 2,
) -> Tensor:
    """Return which patches are masked, `[batch, count]`, bool, patches row by row.

    Args:
        random: One stream per sample.
        grid: Patches along each side of an image or a volume.
        share: Of the patches of a masked sample, drawn between these; at least one patch.
        probability: That a sample is masked at all.
        shape: Blocks that grow from random places until the share is reached, or single patches.
        num_blocks: How many.

    Source:
        Blocks and their side ratios as in Bao et al., "BEiT", ICLR 2022, arXiv:2106.08254, section
        2.3, which adds one block after the other; shares and probability as in DINOv2,
        arXiv:2304.07193. Here the share is met exactly, and each sample has its own.
    """
    count = math.prod(grid)
    is_masked = random.chance(probability)
    wanted = (random.uniform(*share) * count).long().clamp(1, count)
    order = random.uniform(shape=(count,))
    if shape == "block":
        order = _distance_to_block(random, grid, num_blocks) + 1e-2 * order  # breaks ties
    rank = order.argsort(dim=1).argsort(dim=1)
    return (rank < wanted[:, None]) & is_masked[:, None]


def _distance_to_block(random: SampleRandom, grid: tuple[int, ...], num_blocks: int) -> Tensor:
    """Return how far each patch is from the nearest of some random centres, `[batch, count]`."""
    axes = [torch.arange(side, device=random.device) + 0.5 for side in grid]
    places = torch.cartesian_prod(*axes).reshape(1, 1, -1, len(grid))
    drawn = (num_blocks, 1, len(grid))
    centres = random.uniform(shape=drawn) * torch.tensor(grid, device=random.device)
    stretch = torch.exp(random.uniform(-_STRETCH, _STRETCH, shape=drawn))
    gaps: Tensor = ((places - centres).abs() / stretch).amax(dim=-1)
    return gaps.amin(dim=1)
