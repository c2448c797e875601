import pytest
import torch
from torch import nn

from sslcore.errors import ConfigError, ShapeError
from sslcore.modules.tokens import count_patches, require_tokens, take_patches
from tests.sslcore.toy_token_encoder import ToyTokenEncoder


def test_patches_are_taken_by_their_numbers() -> None:
    patches = torch.arange(2 * 4 * 3).reshape(2, 4, 3)
    taken = take_patches(patches, torch.tensor([[2, 0], [1, 1]]))
    assert torch.equal(taken[0], patches[0, [2, 0]])
    assert torch.equal(taken[1], patches[1, [1, 1]])


@pytest.mark.parametrize("shape", [(3, 2), (2,)])
def test_numbers_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"expected numbers of patches \[2, seen\], got"):
        take_patches(torch.zeros(2, 4, 3), torch.zeros(shape, dtype=torch.long))


def test_a_grid_has_a_side_for_each_dimension() -> None:
    assert count_patches(torch.zeros(1, 3, 8, 12), (4, 2), channels=3) == (2, 6)
    assert count_patches(torch.zeros(1, 1, 8, 12, 6), (4, 2, 3), channels=1) == (2, 6, 2)


@pytest.mark.parametrize("shape", [(1, 1, 7, 8), (1, 3, 8, 8), (1, 1, 8), (1, 1, 8, 8, 8)])
def test_views_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"multiples of 4 x 2 px, got \(1, "):
        count_patches(torch.zeros(shape), (4, 2), channels=1)


def test_only_an_encoder_with_tokens_will_do() -> None:
    encoder = ToyTokenEncoder()
    assert require_tokens(encoder, method="mae") is encoder
    with pytest.raises(ConfigError, match=r"mae needs a transformer.*backbone\.name"):
        require_tokens(nn.Linear(2, 2), method="mae")
