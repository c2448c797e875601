import pytest
import torch
from torch import Tensor

from sslcore.errors import ShapeError
from sslcore.modules.random_masks import PatchMask, random_mask
from sslcore.random import SampleRandom


def mask_of(keys: Tensor, grid: tuple[int, ...] = (6, 8), **options: float) -> PatchMask:
    return random_mask(SampleRandom(keys), grid, **{"share": 0.75, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize(("share", "expected"), [(0.75, 36), (0.5, 24), (0.01, 1), (0.999, 47)])
def test_every_sample_hides_the_same_number(share: float, expected: int) -> None:
    mask = mask_of(torch.arange(5), share=share)
    assert mask.hidden.shape == (5, 48)
    assert mask.hidden.sum(dim=1).tolist() == [expected] * 5


def test_visible_are_the_numbers_of_the_others_in_their_order() -> None:
    mask = mask_of(torch.arange(5))
    for hidden, visible in zip(mask.hidden, mask.visible, strict=True):
        assert visible.tolist() == (~hidden).nonzero().flatten().tolist()


def test_every_patch_is_hidden_equally_often() -> None:
    shares = mask_of(torch.arange(4000), (3, 4), share=0.5).hidden.float().mean(dim=0)
    torch.testing.assert_close(shares, torch.full((12,), 0.5), atol=0.04, rtol=0)


def test_a_mask_depends_on_the_sample_and_on_how_often_it_was_drawn() -> None:
    keys = torch.arange(40, 48)
    whole = mask_of(keys).hidden
    assert torch.equal(mask_of(keys[3:5]).hidden, whole[3:5])
    assert not torch.equal(whole[0], whole[1])
    random = SampleRandom(keys)
    first, second = (random_mask(random, (6, 8), share=0.75).hidden for _ in range(2))
    assert torch.equal(first, whole)
    assert not torch.equal(first, second)


def test_blocks_are_hidden_as_a_whole() -> None:
    mask = mask_of(torch.arange(4), (4, 6), share=0.5, block=2)
    blocks = mask.hidden.reshape(4, 2, 2, 3, 2).transpose(2, 3).reshape(4, 6, 4)
    assert torch.equal(blocks.all(dim=2), blocks.any(dim=2))
    assert blocks.all(dim=2).sum(dim=1).tolist() == [3] * 4
    assert mask.visible.shape == (4, 12)


def test_volumes_have_cubes() -> None:
    mask = mask_of(torch.arange(3), (2, 2, 4), share=0.5, block=2)
    assert mask.hidden.shape == (3, 16)
    assert mask.hidden.sum(dim=1).tolist() == [8] * 3
    cube = mask.hidden[0].reshape(2, 2, 4)[..., :2]
    assert cube.all() or not cube.any()


@pytest.mark.parametrize(("grid", "block"), [((5, 4), 2), ((2, 2), 2), ((1, 1), 1)])
def test_a_grid_without_two_whole_blocks_is_refused(grid: tuple[int, int], block: int) -> None:
    with pytest.raises(ShapeError, match=rf"blocks of {block} patches a side in a grid of"):
        mask_of(torch.arange(2), grid, block=block)
