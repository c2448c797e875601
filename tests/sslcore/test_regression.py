"""Cosine regression: the two papers' forms, invariances, both ends, errors, precision."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from sslcore.errors import ShapeError
from sslcore.objectives.regression import negative_cosine, normalised_distance
from tests.reference.checks import (
    assert_autocast_changes_nothing,
    assert_finite_at_the_edge,
    assert_gradient_is_right,
    assert_same_for_any_order,
)
from tests.reference.contrastive import cosine
from tests.reference.waves import pair

shapes = st.tuples(st.integers(1, 9), st.integers(1, 6))
seeds = st.integers(0, 2**31)
both = pytest.mark.parametrize("objective", [negative_cosine, normalised_distance])


@given(shapes, seeds)
def test_matches_the_formula_written_out(shape: tuple[int, int], seed: int) -> None:
    p, z = pair(shape, seed)
    rows = [cosine(a, b) for a, b in zip(p.tolist(), z.tolist(), strict=True)]
    expected = -sum(rows) / len(rows)
    assert negative_cosine(p, z).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(shapes, seeds)
def test_byol_compares_squared_distances_at_length_one(shape: tuple[int, int], seed: int) -> None:
    p, z = pair(shape, seed)
    gaps = (F.normalize(p, dim=1) - F.normalize(z, dim=1)).square().sum(dim=1)
    torch.testing.assert_close(normalised_distance(p, z), gaps.mean())


@both
@given(shape=shapes, seed=seeds)
def test_does_not_depend_on_the_order_of_samples_dimensions_or_views(
    objective, shape: tuple[int, int], seed: int
) -> None:
    assert_same_for_any_order(objective, shape, seed)


@pytest.mark.parametrize(
    ("objective", "same", "right_angle", "opposite"),
    [(negative_cosine, -1, 0, 1), (normalised_distance, 0, 2, 4)],
)
def test_ends_are_those_of_the_paper(
    objective, same: float, right_angle: float, opposite: float
) -> None:
    z = torch.tensor([[3.0, 0.0], [0.0, 0.5]])
    assert objective(z, 7 * z).item() == pytest.approx(same)
    assert objective(z, z.flip(1)).item() == pytest.approx(right_angle)
    assert objective(z, -z).item() == pytest.approx(opposite)


def test_gradient_reaches_a_target_that_is_not_detached() -> None:
    p, z = (value.requires_grad_() for value in pair((4, 3), seed=0))
    negative_cosine(p, z).backward()
    assert z.grad is not None
    assert z.grad.abs().sum() > 0


@both
def test_gradient_is_right(objective) -> None:
    assert_gradient_is_right(objective)


@both
def test_autocast_does_not_lower_the_precision(objective) -> None:
    assert_autocast_changes_nothing(objective)


@both
def test_stays_finite_at_the_edge(objective) -> None:
    assert_finite_at_the_edge(objective)


def test_a_row_of_zeros_does_not_blow_up_the_gradient() -> None:
    p = torch.zeros(2, 3, requires_grad=True)
    negative_cosine(p, torch.ones(2, 3)).backward()
    assert p.grad is not None
    assert p.grad.abs().max() < 1


@pytest.mark.parametrize("scale", [1e-18, 1e18, 1e30])
def test_the_largest_and_smallest_rows_keep_their_direction(scale: float) -> None:
    z: Tensor = pair((4, 3), seed=0)[0].float()
    if scale >= 1:
        assert negative_cosine(z * scale, z).item() == pytest.approx(-1)
    else:  # without a direction
        assert negative_cosine(z * scale, z).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("shape_a", "shape_b", "message"),
    [((4, 3), (4, 2), "one shape"), ((4,), (4,), "batch, dim"), ((0, 3), (0, 3), "at least 1")],
)
def test_refuses_inputs_it_cannot_compare(
    shape_a: tuple[int, ...], shape_b: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        negative_cosine(torch.zeros(shape_a), torch.zeros(shape_b))
