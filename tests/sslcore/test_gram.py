"""Gram anchoring: parity with the paper, invariances, both ends, errors, precision."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sslcore.errors import ShapeError
from sslcore.objectives.gram import gram_loss
from tests.reference.checks import (
    assert_autocast_changes_nothing,
    assert_finite_at_the_edge,
    assert_gradient_is_right,
    assert_same_for_any_order,
)
from tests.reference.clustering import gram_by_hand
from tests.reference.waves import pair

shapes = st.tuples(st.integers(1, 9), st.integers(1, 6))
seeds = st.integers(0, 2**31)


def of_one_image(patches: Tensor, anchor: Tensor) -> Tensor:
    loss: Tensor = gram_loss(patches[None], anchor[None])
    return loss


def images(batch: int, shape: tuple[int, int], seed: int) -> tuple[Tensor, Tensor]:
    flat = pair((batch * shape[0], shape[1]), seed)
    patches, anchor = (z.reshape(batch, *shape) for z in flat)
    return patches, anchor


@given(st.integers(1, 4), shapes, seeds)
def test_matches_the_formula_written_out(batch: int, shape: tuple[int, int], seed: int) -> None:
    patches, anchor = images(batch, shape, seed)
    expected = gram_by_hand(patches.tolist(), anchor.tolist())
    assert gram_loss(patches, anchor).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(shapes, seeds)
def test_order_of_patches_dimensions_and_sides_does_not_matter(
    shape: tuple[int, int], seed: int
) -> None:
    assert_same_for_any_order(of_one_image, shape, seed)


@given(shapes, seeds)
def test_neither_lengths_nor_a_rotation_matter(shape: tuple[int, int], seed: int) -> None:
    patches, anchor = images(2, shape, seed)
    rotation = torch.linalg.qr(pair((shape[1], shape[1]), seed)[0])[0]
    lengths = torch.arange(1, shape[0] + 1, dtype=torch.float64)[:, None]
    torch.testing.assert_close(
        gram_loss(lengths * patches @ rotation, anchor), gram_loss(patches, anchor)
    )


def test_images_are_not_compared_with_each_other() -> None:
    patches, anchor = images(3, (4, 5), seed=0)
    alone = [gram_loss(patches[i : i + 1], anchor[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(gram_loss(patches, anchor), torch.stack(alone).mean())


def test_widths_may_differ() -> None:
    patches = images(2, (4, 3), seed=0)[0]
    wider = torch.nn.functional.pad(patches, (0, 5))
    assert gram_loss(patches, wider).item() == pytest.approx(0, abs=1e-12)


def test_ends_are_the_same_likeness_and_collapse() -> None:
    apart, collapsed = torch.eye(4)[None], torch.ones(1, 4, 4)
    assert gram_loss(apart, 3 * apart) == 0
    assert gram_loss(collapsed, apart).item() == pytest.approx(1 - 1 / 4)


def test_the_largest_value_is_that_of_opposite_likeness() -> None:
    same, opposite = torch.ones(1, 2, 1), torch.tensor([[[1.0], [-1.0]]])
    assert gram_loss(same, opposite).item() == pytest.approx(4 / 2)  # the diagonal always agrees


def test_gradient_is_right() -> None:
    assert_gradient_is_right(of_one_image)


def test_autocast_does_not_lower_the_precision() -> None:
    assert_autocast_changes_nothing(of_one_image)


def test_stays_finite_at_the_edge() -> None:
    assert_finite_at_the_edge(of_one_image)


@pytest.mark.parametrize(
    ("shape_a", "shape_b", "message"),
    [
        ((2, 4, 3), (2, 5, 3), "same patches"),
        ((2, 4, 3), (1, 4, 3), "same patches"),
        ((4, 3), (4, 3), r"\[batch, count, dim\]"),
        ((2, 0, 3), (2, 0, 3), "at least one patch"),
    ],
)
def test_refuses_tokens_it_cannot_compare(
    shape_a: tuple[int, ...], shape_b: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        gram_loss(torch.zeros(shape_a), torch.zeros(shape_b))
