"""Self-distillation: parity with the papers, invariances, both ends, errors, precision."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sslcore.errors import ShapeError
from sslcore.objectives.self_distillation import (
    assignment_loss,
    masked_patch_loss,
    mean_entropy,
    sharpened,
)
from tests.reference.checks import (
    assert_autocast_changes_nothing,
    assert_finite_at_the_edge,
    assert_gradient_is_right,
    assert_same_for_any_order,
)
from tests.reference.clustering import cross_entropies_by_hand, softmax_by_hand
from tests.reference.waves import pair, wave

shapes = st.tuples(st.integers(1, 9), st.integers(1, 6))
seeds = st.integers(0, 2**31)
temperatures = st.floats(0.1, 2.0)


def distilled(scores: Tensor, theirs: Tensor) -> Tensor:
    """The loss against a teacher's scores, so that both inputs are of one kind."""
    loss: Tensor = assignment_loss(scores, sharpened(theirs, theirs.new_zeros(theirs.shape[1])))
    return loss


def of_patches(scores: Tensor, theirs: Tensor) -> Tensor:
    """Likewise for masked patches: two in the first sample, all others in the second."""
    count = len(scores)
    masked = torch.zeros(3, count, dtype=torch.bool)
    masked[0, :2] = True
    masked[1, 2:] = True
    targets = sharpened(theirs, theirs.new_zeros(theirs.shape[1]))
    loss: Tensor = masked_patch_loss(scores, targets, masked=masked)
    return loss


both = pytest.mark.parametrize("objective", [distilled, of_patches])


@given(shapes, seeds, temperatures)
def test_matches_the_formula_written_out(
    shape: tuple[int, int], seed: int, temperature: float
) -> None:
    scores, theirs = pair(shape, seed)
    targets = torch.softmax(theirs, dim=1)
    losses = cross_entropies_by_hand(scores.tolist(), targets.tolist(), temperature)
    actual = assignment_loss(scores, targets, temperature=temperature).item()
    assert actual == pytest.approx(sum(losses) / len(losses), rel=1e-9, abs=1e-12)


@given(st.integers(1, 4), st.integers(1, 6), seeds)
def test_patches_are_averaged_within_their_sample_first(batch: int, count: int, seed: int) -> None:
    masked = torch.rand(batch, count, generator=torch.Generator().manual_seed(seed)) < 0.5
    scores, theirs = pair((int(masked.sum()), 5), seed)
    targets = torch.softmax(theirs, dim=1)
    losses = iter(cross_entropies_by_hand(scores.tolist(), targets.tolist(), 0.3))
    means = []
    for row in masked.tolist():
        of_sample = [next(losses) for hidden in row if hidden]
        means.append(sum(of_sample) / max(1, len(of_sample)))
    actual = masked_patch_loss(scores, targets, masked=masked, temperature=0.3).item()
    assert actual == pytest.approx(sum(means) / batch, rel=1e-9, abs=1e-12)


@given(shapes, seeds, temperatures)
def test_a_teacher_is_centred_and_sharpened(
    shape: tuple[int, int], seed: int, temperature: float
) -> None:
    scores, other = pair(shape, seed)
    center = other.mean(dim=0)
    rows = [[x - c for x, c in zip(row, center.tolist(), strict=True)] for row in scores.tolist()]
    expected = [softmax_by_hand(row, temperature) for row in rows]
    actual = sharpened(scores, center, temperature=temperature)
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64))


@given(shapes, seeds)
def test_order_of_samples_and_prototypes_does_not_matter(shape: tuple[int, int], seed: int) -> None:
    assert_same_for_any_order(distilled, shape, seed, views=False)


@given(shapes, seeds)
def test_an_offset_of_all_scores_of_a_sample_does_not_matter(
    shape: tuple[int, int], seed: int
) -> None:
    scores, theirs = pair(shape, seed)
    offset = torch.arange(shape[0], dtype=torch.float64)[:, None]
    torch.testing.assert_close(
        distilled(scores + offset, theirs + offset), distilled(scores, theirs)
    )


@given(shapes, seeds)
def test_is_least_where_both_agree(shape: tuple[int, int], seed: int) -> None:
    scores, other = pair(shape, seed)
    targets = torch.softmax(scores / 0.1, dim=1)
    least = assignment_loss(scores, targets, temperature=0.1)
    torch.testing.assert_close(least, mean_entropy(targets), atol=1e-9, rtol=1e-9)
    assert assignment_loss(other, targets, temperature=0.1) >= least - 1e-9


def test_ends_are_certain_agreement_and_a_guess_among_all() -> None:
    certain, even = torch.eye(4), torch.full((4, 4), 0.25)
    assert assignment_loss(certain, certain, temperature=0.01).item() == pytest.approx(0, abs=1e-6)
    assert assignment_loss(even, certain).item() == pytest.approx(math.log(4))
    assert assignment_loss(even, even).item() == pytest.approx(math.log(4))
    assert mean_entropy(certain) == 0
    assert mean_entropy(even).item() == pytest.approx(math.log(4))


def test_scores_at_the_center_become_even() -> None:
    center = wave(1, 6, 0.0)[0]
    torch.testing.assert_close(
        sharpened(center[None], center), torch.full((1, 6), 1 / 6, dtype=torch.float64)
    )


def test_without_masked_patches_the_loss_is_zero_and_has_a_gradient() -> None:
    scores = torch.zeros(0, 5, requires_grad=True)
    loss = masked_patch_loss(scores, torch.zeros(0, 5), masked=torch.zeros(3, 4, dtype=torch.bool))
    loss.backward()
    assert loss == 0
    assert scores.grad is not None


@both
def test_gradient_is_right(objective: Any) -> None:
    assert_gradient_is_right(objective)


@both
def test_autocast_does_not_lower_the_precision(objective: Any) -> None:
    assert_autocast_changes_nothing(objective)


@both
def test_stays_finite_at_the_edge(objective: Any) -> None:
    assert_finite_at_the_edge(objective)


@pytest.mark.parametrize(
    ("shape_a", "shape_b", "message"),
    [((4, 3), (4, 2), "one shape"), ((4,), (4,), "batch, dim"), ((0, 3), (0, 3), "at least 1")],
)
def test_refuses_inputs_it_cannot_compare(
    shape_a: tuple[int, ...], shape_b: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        assignment_loss(torch.zeros(shape_a), torch.zeros(shape_b))


@pytest.mark.parametrize(
    ("shape", "mask", "message"),
    [((4, 3), (2, 2), "one shape"), ((4, 2), (2, 3), "of 4 patches, got .2, 3. with 6")],
)
def test_refuses_another_number_of_patches(
    shape: tuple[int, int], mask: tuple[int, int], message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        masked_patch_loss(
            torch.zeros(4, 2), torch.zeros(shape), masked=torch.ones(mask, dtype=torch.bool)
        )


@pytest.mark.parametrize(("scores", "center"), [((4, 3), (2,)), ((4,), (4,)), ((4, 3), (1, 3))])
def test_refuses_a_center_of_another_width(
    scores: tuple[int, ...], center: tuple[int, ...]
) -> None:
    with pytest.raises(ShapeError, match=r"a center \[prototypes\]"):
        sharpened(torch.zeros(scores), torch.zeros(center))
