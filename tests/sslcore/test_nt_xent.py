"""NT-Xent: parity with the paper and two other codes, invariances, both ends, errors, precision."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorch_metric_learning.losses import NTXentLoss

from sslcore.errors import ShapeError
from sslcore.objectives.nt_xent import NTXent, nt_xent_loss
from tests.reference.checks import (
    assert_autocast_changes_nothing,
    assert_finite_at_the_edge,
    assert_gradient_is_right,
    assert_same_for_any_order,
)
from tests.reference.contrastive import nt_xent_by_hand
from tests.reference.waves import pair, wave

shapes = st.tuples(st.integers(2, 9), st.integers(1, 6))
seeds = st.integers(0, 2**31)
temperatures = st.floats(0.05, 2.0)


@given(shapes, seeds, temperatures)
def test_matches_the_formula_written_out(
    shape: tuple[int, int], seed: int, temperature: float
) -> None:
    z_a, z_b = pair(shape, seed)
    expected = nt_xent_by_hand(z_a.tolist(), z_b.tolist(), temperature)
    actual = nt_xent_loss(z_a, z_b, temperature=temperature).item()
    assert actual == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("temperature", "expected"), [(0.5, 1.436572906), (0.1, 0.377346914)])
def test_matches_the_recorded_numbers(temperature: float, expected: float) -> None:
    # 8 x 6 wave inputs through lightly's NTXentLoss, float64.
    loss, _ = NTXent(temperature=temperature)(wave(8, 6, 0.0), wave(8, 6, 0.3))
    assert loss.item() == pytest.approx(expected, rel=1e-8)


@given(shapes, seeds, temperatures)
def test_matches_pytorch_metric_learning(
    shape: tuple[int, int], seed: int, temperature: float
) -> None:
    z_a, z_b = pair(shape, seed)
    rows = torch.arange(shape[0])
    theirs = NTXentLoss(temperature=temperature)(torch.cat([z_a, z_b]), torch.cat([rows, rows]))
    torch.testing.assert_close(nt_xent_loss(z_a, z_b, temperature=temperature), theirs)


@given(shapes, seeds)
def test_does_not_depend_on_the_order_of_samples_dimensions_or_views(
    shape: tuple[int, int], seed: int
) -> None:
    assert_same_for_any_order(nt_xent_loss, shape, seed)


@given(shapes, seeds)
def test_does_not_depend_on_the_length_of_rows(shape: tuple[int, int], seed: int) -> None:
    z_a, z_b = pair(shape, seed)
    lengths = torch.rand(shape[0], 1, dtype=torch.float64) * 1e3 + 1e-3
    torch.testing.assert_close(nt_xent_loss(z_a * lengths, z_b), nt_xent_loss(z_a, z_b))


def test_collapsed_embeddings_pay_for_guessing() -> None:
    z = torch.ones(16, 4)
    loss, terms = NTXent()(z, z)
    assert loss.item() == pytest.approx(math.log(2 * 16 - 1))
    assert terms["positive_similarity"].item() == pytest.approx(1)


def test_opposite_samples_with_equal_views_are_the_optimum() -> None:
    z = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert nt_xent_loss(z, z, temperature=0.05).item() == pytest.approx(0, abs=1e-6)


def test_a_view_is_never_its_own_negative() -> None:
    z = torch.eye(2, dtype=torch.float64)
    alone = math.log(math.e + 2) - 1  # partner at cosine 1, two views of the other sample at 0
    assert nt_xent_loss(z, z, temperature=1.0).item() == pytest.approx(alone)


def test_gradient_is_right() -> None:
    assert_gradient_is_right(nt_xent_loss)


def test_autocast_does_not_lower_the_precision() -> None:
    assert_autocast_changes_nothing(nt_xent_loss)


def test_stays_finite_at_the_edge() -> None:
    assert_finite_at_the_edge(nt_xent_loss)
    assert_finite_at_the_edge(lambda a, b: nt_xent_loss(a, b, temperature=0.01))


@pytest.mark.parametrize(
    ("shape_a", "shape_b", "message"),
    [((4, 3), (4, 2), "one shape"), ((4,), (4,), "batch, dim"), ((1, 3), (1, 3), "at least 2")],
)
def test_refuses_inputs_it_cannot_compare(
    shape_a: tuple[int, ...], shape_b: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        nt_xent_loss(torch.zeros(shape_a), torch.zeros(shape_b))
