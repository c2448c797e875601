"""Barlow Twins: parity with paper and authors, invariances, both ends, errors, precision."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sslcore.errors import ShapeError
from sslcore.objectives.barlow_twins import BarlowTwins, barlow_twins_terms
from tests.reference.barlow_twins import barlow_twins_by_hand
from tests.reference.checks import (
    assert_autocast_changes_nothing,
    assert_finite_at_the_edge,
    assert_gradient_is_right,
    assert_same_for_any_order,
)
from tests.reference.waves import pair, wave

shapes = st.tuples(st.integers(2, 9), st.integers(1, 6))
seeds = st.integers(0, 2**31)


def loss(z_a: Tensor, z_b: Tensor) -> Tensor:
    value: Tensor = BarlowTwins()(z_a, z_b)[0]
    return value


@given(shapes, seeds)
def test_matches_the_formula_written_out(shape: tuple[int, int], seed: int) -> None:
    z_a, z_b = pair(shape, seed)
    expected = barlow_twins_by_hand(z_a.tolist(), z_b.tolist())
    for name, value in barlow_twins_terms(z_a, z_b)._asdict().items():
        assert value.item() == pytest.approx(expected[name], rel=1e-9, abs=1e-9), name


@pytest.mark.parametrize(("weight", "expected"), [(0.0051, 0.0705132239), (0.005, 0.0693813089)])
def test_matches_the_recorded_numbers(weight: float, expected: float) -> None:
    # 8 x 6 wave inputs, float64; 0.0051 through the authors' code, 0.005 through lightly.
    value, _ = BarlowTwins(redundancy_weight=weight)(wave(8, 6, 0.0), wave(8, 6, 0.3))
    assert value.item() == pytest.approx(expected, rel=1e-8)


@given(shapes, seeds)
def test_does_not_depend_on_the_order_of_samples_dimensions_or_views(
    shape: tuple[int, int], seed: int
) -> None:
    assert_same_for_any_order(loss, shape, seed)


def test_does_not_depend_on_shift_and_scale_of_a_dimension() -> None:
    z_a, z_b = pair((32, 4), seed=0)
    scale = torch.tensor([1.0, 2.0, 5.0, 20.0], dtype=torch.float64)
    torch.testing.assert_close(loss(z_a * scale + scale, z_b), loss(z_a, z_b), rtol=1e-3, atol=0)


def test_collapsed_embeddings_pay_the_full_invariance_term() -> None:
    z = torch.ones(16, 4)
    terms = barlow_twins_terms(z, z)
    assert terms.invariance.item() == pytest.approx(4)
    assert terms.redundancy == 0


def test_equal_views_with_unrelated_dimensions_are_the_optimum() -> None:
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert loss(signs, signs).item() == pytest.approx(0, abs=1e-8)


def test_copies_of_one_dimension_pay_the_full_redundancy_term() -> None:
    z = pair((64, 1), seed=0)[0].repeat(1, 4)
    terms = barlow_twins_terms(z, z)
    assert terms.invariance.item() == pytest.approx(0, abs=1e-6)
    assert terms.redundancy.item() == pytest.approx(4 * 3, rel=1e-3)


def test_gradient_is_right() -> None:
    assert_gradient_is_right(loss)


def test_autocast_does_not_lower_the_precision() -> None:
    assert_autocast_changes_nothing(loss)


def test_stays_finite_at_the_edge() -> None:
    assert_finite_at_the_edge(loss)


@pytest.mark.parametrize(
    ("shape_a", "shape_b", "message"),
    [((4, 3), (4, 2), "one shape"), ((4,), (4,), "batch, dim"), ((1, 3), (1, 3), "at least 2")],
)
def test_refuses_inputs_it_cannot_compare(
    shape_a: tuple[int, ...], shape_b: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        barlow_twins_terms(torch.zeros(shape_a), torch.zeros(shape_b))
