"""Masks of patches: how many, where, and that they depend on the sample only."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from sslcore.modules.patch_masks import MaskShape, draw_patch_mask
from sslcore.random import SampleRandom, derive_keys

shapes = pytest.mark.parametrize("shape", ["block", "random"])
grids = pytest.mark.parametrize("grid", [(8, 8), (4, 7), (3, 4, 5), (9,), (1, 1)])


def mask_of(count: int, grid: tuple[int, ...], **options: Any) -> Tensor:
    return draw_patch_mask(SampleRandom(derive_keys(torch.arange(count))), grid, **options)


@shapes
@grids
def test_a_masked_sample_hides_a_share_between_the_bounds(
    shape: MaskShape, grid: tuple[int, ...]
) -> None:
    patches = math.prod(grid)
    mask = mask_of(500, grid, shape=shape, share=(0.2, 0.6))
    assert mask.shape == (500, patches)
    hidden = mask.sum(dim=1)
    is_masked = hidden > 0
    assert 0.4 < is_masked.float().mean() < 0.6
    assert hidden[is_masked].min() >= max(1, math.floor(0.2 * patches))
    assert hidden[is_masked].max() <= max(1, 0.6 * patches)
    if patches > 50:
        assert hidden[is_masked].float().mean().item() == pytest.approx(0.4 * patches, rel=0.05)


@shapes
def test_every_patch_is_hidden_at_times(shape: MaskShape) -> None:
    often = mask_of(2000, (6, 6), shape=shape, probability=1.0).float().mean(dim=0)
    assert often.min() > 0.1
    assert often.max() < 0.5


@shapes
def test_depends_on_the_sample_and_not_on_its_batch(shape: MaskShape) -> None:
    whole = mask_of(10, (6, 6), shape=shape)
    assert torch.equal(mask_of(4, (6, 6), shape=shape), whole[:4])
    assert len({tuple(row) for row in whole[whole.any(dim=1)].tolist()}) > 1


def test_two_masks_of_one_sample_differ() -> None:
    random = SampleRandom(derive_keys(torch.arange(10)))
    first, second = (draw_patch_mask(random, (6, 6), probability=1.0) for _ in range(2))
    assert not torch.equal(first, second)


def neighbours(mask: Tensor, side: int) -> float:
    """Mean share of a hidden patch's right neighbours that are hidden too."""
    square = mask.reshape(-1, side, side)
    return (square[:, :, :-1] & square[:, :, 1:]).sum().item() / square[:, :, :-1].sum().item()


def test_blocks_hang_together_and_random_patches_do_not() -> None:
    options = {"share": (0.3, 0.3), "probability": 1.0}
    block, random = (mask_of(300, (8, 8), shape=s, **options) for s in ("block", "random"))
    assert neighbours(block, 8) > 0.65
    assert neighbours(random, 8) == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize(("probability", "share"), [(0.0, 0.0), (1.0, 1.0)])
def test_none_or_all_samples_are_masked(probability: float, share: float) -> None:
    mask = mask_of(50, (4, 4), probability=probability)
    assert mask.any(dim=1).float().mean() == share


def test_a_share_of_one_hides_everything() -> None:
    assert mask_of(5, (4, 4), probability=1.0, share=(1.0, 1.0)).all()
