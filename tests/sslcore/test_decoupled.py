"""The decoupled loss: parity with loops and with NT-Xent, invariances, both ends, errors."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sslcore.errors import ShapeError
from sslcore.objectives.decoupled import Decoupled, decoupled_loss
from sslcore.objectives.nt_xent import nt_xent_loss
from tests.reference.checks import (
    assert_autocast_changes_nothing,
    assert_finite_at_the_edge,
    assert_gradient_is_right,
    assert_same_for_any_order,
)
from tests.reference.contrastive import decoupled_by_hand
from tests.reference.waves import pair

shapes = st.tuples(st.integers(2, 9), st.integers(1, 6))
seeds = st.integers(0, 2**31)
temperatures = st.floats(0.05, 2.0)


@given(shapes, seeds, temperatures)
def test_matches_the_formula_written_out(
    shape: tuple[int, int], seed: int, temperature: float
) -> None:
    z_a, z_b = pair(shape, seed)
    expected = decoupled_by_hand(z_a.tolist(), z_b.tolist(), temperature)
    actual = decoupled_loss(z_a, z_b, temperature=temperature).item()
    assert actual == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(shapes, seeds)
def test_is_always_below_nt_xent_which_counts_the_partner_too(
    shape: tuple[int, int], seed: int
) -> None:
    z_a, z_b = pair(shape, seed)
    assert decoupled_loss(z_a, z_b) < nt_xent_loss(z_a, z_b, temperature=0.1)


@given(shapes, seeds)
def test_does_not_depend_on_the_order_of_samples_dimensions_or_views(
    shape: tuple[int, int], seed: int
) -> None:
    assert_same_for_any_order(decoupled_loss, shape, seed)


def test_collapsed_embeddings_pay_for_guessing() -> None:
    z = torch.ones(16, 4)
    loss, terms = Decoupled()(z, z)
    assert loss.item() == pytest.approx(math.log(2 * 16 - 2))
    assert terms["positive_similarity"].item() == pytest.approx(1)


def test_opposite_samples_with_equal_views_are_the_optimum() -> None:
    z = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert decoupled_loss(z, z, temperature=0.5).item() == pytest.approx(math.log(2) - 4)


def test_partners_pull_as_strongly_when_they_are_near() -> None:
    # NT-Xent's pull fades as the partner wins; here the partner's part is linear.
    angle = torch.tensor(0.01, requires_grad=True)
    far = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    turned = torch.stack(
        [torch.stack([angle.cos(), angle.sin()]), torch.stack([-angle.cos(), angle.sin()])]
    )
    (of_decoupled,) = torch.autograd.grad(decoupled_loss(far, turned), angle, retain_graph=True)
    (of_nt_xent,) = torch.autograd.grad(nt_xent_loss(far, turned, temperature=0.1), angle)
    assert of_decoupled > 1000 * of_nt_xent > 0


def test_gradient_is_right() -> None:
    assert_gradient_is_right(decoupled_loss)


def test_autocast_does_not_lower_the_precision() -> None:
    assert_autocast_changes_nothing(decoupled_loss)


def test_stays_finite_at_the_edge() -> None:
    assert_finite_at_the_edge(decoupled_loss)
    assert_finite_at_the_edge(lambda a, b: decoupled_loss(a, b, temperature=0.01))


@pytest.mark.parametrize(
    ("shape_a", "shape_b", "message"),
    [((4, 3), (4, 2), "one shape"), ((4,), (4,), "batch, dim"), ((1, 3), (1, 3), "at least 2")],
)
def test_refuses_inputs_it_cannot_compare(
    shape_a: tuple[int, ...], shape_b: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        decoupled_loss(torch.zeros(shape_a), torch.zeros(shape_b))
