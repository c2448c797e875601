"""VICReg: parity with the paper and the authors, invariances, collapse, errors, precision."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sslcore.errors import ShapeError
from sslcore.objectives.vicreg import VICReg, vicreg_terms
from tests.reference.checks import (
    assert_autocast_changes_nothing,
    assert_finite_at_the_edge,
    assert_gradient_is_right,
    assert_same_for_any_order,
)
from tests.reference.vicreg import vicreg_by_hand
from tests.reference.waves import pair, wave

shapes = st.tuples(st.integers(2, 9), st.integers(1, 6))
seeds = st.integers(0, 2**31)


def loss(z_a: Tensor, z_b: Tensor) -> Tensor:
    value: Tensor = VICReg()(z_a, z_b)[0]
    return value


@given(shapes, seeds)
def test_matches_the_formula_written_out(shape: tuple[int, int], seed: int) -> None:
    z_a, z_b = pair(shape, seed)
    expected = vicreg_by_hand(z_a.tolist(), z_b.tolist())
    for name, value in vicreg_terms(z_a, z_b)._asdict().items():
        assert value.item() == pytest.approx(expected[name], rel=1e-9, abs=1e-12), name


def test_matches_the_authors_code() -> None:
    # 8 x 6 wave inputs through facebookresearch/vicreg@4e12602, float64, weights 25, 25, 1.
    loss, _ = VICReg()(wave(8, 6, 0.0), wave(8, 6, 0.3))
    assert loss.item() == pytest.approx(8.61342665712561, rel=1e-9)


@given(shapes, seeds)
def test_does_not_depend_on_the_order_of_samples_dimensions_or_views(
    shape: tuple[int, int], seed: int
) -> None:
    assert_same_for_any_order(lambda a, b: torch.stack(vicreg_terms(a, b)), shape, seed)


def test_does_not_depend_on_a_common_shift() -> None:
    z_a, z_b = pair((16, 4), seed=0)
    torch.testing.assert_close(
        torch.stack(vicreg_terms(z_a + 5, z_b + 5)), torch.stack(vicreg_terms(z_a, z_b))
    )


def test_weights_apply_to_their_terms() -> None:
    z_a, z_b = pair((16, 4), seed=0)
    for name, value in vicreg_terms(z_a, z_b)._asdict().items():
        weights = {"invariance": 0.0, "variance": 0.0, "covariance": 0.0} | {name: 3.0}
        assert VICReg(**weights)(z_a, z_b)[0].item() == pytest.approx(3 * value.item()), name


def test_collapsed_embeddings_pay_the_full_variance_term() -> None:
    z = torch.ones(16, 4)
    terms = vicreg_terms(z, z)
    assert terms.invariance == 0
    assert terms.covariance == 0
    assert terms.variance.item() == pytest.approx(1 - math.sqrt(1e-4))


def test_equal_views_with_spread_unrelated_dimensions_are_the_optimum() -> None:
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert loss(signs, signs) == 0


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
        vicreg_terms(torch.zeros(shape_a), torch.zeros(shape_b))
