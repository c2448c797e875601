"""KoLeo: parity with the paper, invariances, both ends, errors, precision."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sslcore.errors import ShapeError
from sslcore.objectives.koleo import koleo_loss
from tests.reference.checks import (
    assert_autocast_changes_nothing,
    assert_finite_at_the_edge,
    assert_gradient_is_right,
    assert_same_for_any_order,
)
from tests.reference.clustering import koleo_by_hand
from tests.reference.waves import pair, wave

shapes = st.tuples(st.integers(2, 9), st.integers(2, 6))
seeds = st.integers(0, 2**31)


def of_both(z_a: Tensor, z_b: Tensor) -> Tensor:
    """Each view by itself, as the methods take it."""
    loss: Tensor = koleo_loss(z_a) + koleo_loss(z_b)
    return loss


@given(shapes, seeds)
def test_matches_the_formula_written_out(shape: tuple[int, int], seed: int) -> None:
    z = pair(shape, seed)[0]
    assert koleo_loss(z).item() == pytest.approx(koleo_by_hand(z.tolist(), 1e-4), rel=1e-6)


def test_matches_the_authors_formula_where_rows_differ() -> None:
    # facebookresearch/dinov2, dinov2/loss/koleo_loss.py, whose eps is too small to be seen here
    z = torch.nn.functional.normalize(wave(8, 6, 0.0), dim=1)
    nearest = (z @ z.T - 2 * torch.eye(8)).argmax(dim=1)
    theirs = -torch.log(torch.nn.PairwiseDistance(2, eps=1e-8)(z, z[nearest]) + 1e-8).mean()
    torch.testing.assert_close(koleo_loss(z), theirs, rtol=1e-6, atol=0)


@given(shapes, seeds)
def test_order_of_samples_and_dimensions_does_not_matter(shape: tuple[int, int], seed: int) -> None:
    assert_same_for_any_order(of_both, shape, seed)


@given(shapes, seeds)
def test_neither_lengths_nor_a_rotation_matter(shape: tuple[int, int], seed: int) -> None:
    z = pair(shape, seed)[0]
    rotation = torch.linalg.qr(pair((shape[1], shape[1]), seed)[0])[0]
    lengths = torch.arange(1, shape[0] + 1, dtype=torch.float64)[:, None]
    torch.testing.assert_close(koleo_loss(lengths * z @ rotation), koleo_loss(z))


def test_collapsed_features_pay_most_and_get_no_gradient_beyond_bounds() -> None:
    z = torch.ones(6, 4, requires_grad=True)
    loss = koleo_loss(z)
    loss.backward()
    assert loss.item() == pytest.approx(-math.log(1e-4))
    assert z.grad is not None
    assert z.grad.abs().max() < 1


def test_opposite_features_are_the_optimum() -> None:
    z = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert koleo_loss(z).item() == pytest.approx(-math.log(2))


def test_a_step_against_the_gradient_moves_neighbours_apart() -> None:
    z = wave(8, 6, 0.0).requires_grad_()
    koleo_loss(z).backward()
    assert z.grad is not None
    assert koleo_loss(z.detach() - 0.01 * z.grad) < koleo_loss(z)


def test_gradient_is_right() -> None:
    assert_gradient_is_right(of_both)


def test_autocast_does_not_lower_the_precision() -> None:
    assert_autocast_changes_nothing(of_both)


def test_stays_finite_at_the_edge() -> None:
    assert_finite_at_the_edge(of_both)


@pytest.mark.parametrize("shape", [(1, 4), (4,), (2, 3, 4)])
def test_refuses_features_without_neighbours(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"features \[batch > 1, dim\]"):
        koleo_loss(torch.zeros(shape))
