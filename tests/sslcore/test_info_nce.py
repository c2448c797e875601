"""InfoNCE: parity with the paper, in the batch and with a queue; both ends, errors, precision."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from sslcore.errors import ShapeError
from sslcore.objectives.info_nce import info_nce_loss
from tests.reference.checks import (
    assert_autocast_changes_nothing,
    assert_finite_at_the_edge,
    assert_gradient_is_right,
    assert_same_for_any_order,
)
from tests.reference.contrastive import info_nce_by_hand
from tests.reference.waves import pair, wave

shapes = st.tuples(st.integers(2, 9), st.integers(1, 6))
seeds = st.integers(0, 2**31)
temperatures = st.floats(0.05, 2.0)


def queued(queries: Tensor, keys: Tensor) -> Tensor:
    negatives = wave(7, queries.shape[1], 1.0).to(queries)
    return info_nce_loss(queries, keys, negatives=negatives)


@given(shapes, seeds, temperatures)
def test_matches_the_formula_written_out(
    shape: tuple[int, int], seed: int, temperature: float
) -> None:
    queries, keys = pair(shape, seed)
    expected = info_nce_by_hand(queries.tolist(), keys.tolist(), temperature)
    actual = info_nce_loss(queries, keys, temperature=temperature).item()
    assert actual == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(shapes, seeds, temperatures)
def test_matches_the_formula_written_out_with_a_queue(
    shape: tuple[int, int], seed: int, temperature: float
) -> None:
    queries, keys = pair(shape, seed)
    negatives = wave(5, shape[1], 0.7)
    expected = info_nce_by_hand(
        queries.tolist(), keys.tolist(), temperature, negatives=negatives.tolist()
    )
    actual = info_nce_loss(queries, keys, negatives=negatives, temperature=temperature).item()
    assert actual == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(shapes, seeds)
def test_does_not_depend_on_the_order_of_samples_or_dimensions(
    shape: tuple[int, int], seed: int
) -> None:
    assert_same_for_any_order(info_nce_loss, shape, seed, views=False)


@given(seeds)
def test_does_not_depend_on_the_order_of_the_queue(seed: int) -> None:
    queries, keys = pair((4, 5), seed)
    negatives = wave(9, 5, 0.7)
    shuffled = negatives[torch.randperm(9, generator=torch.Generator().manual_seed(seed))]
    torch.testing.assert_close(
        info_nce_loss(queries, keys, negatives=negatives),
        info_nce_loss(queries, keys, negatives=shuffled),
    )


def test_a_queue_of_the_other_keys_is_the_loss_in_the_batch_for_one_query() -> None:
    queries, keys = pair((6, 4), seed=3)
    each = [
        info_nce_loss(queries[i : i + 1], keys[i : i + 1], negatives=keys[torch.arange(6) != i])
        for i in range(6)
    ]
    torch.testing.assert_close(torch.stack(each).mean(), info_nce_loss(queries, keys))


def test_collapsed_embeddings_pay_for_guessing() -> None:
    z = torch.ones(8, 4)
    assert info_nce_loss(z, z).item() == pytest.approx(math.log(8))
    queue = torch.ones(31, 4)
    assert info_nce_loss(z, z, negatives=queue).item() == pytest.approx(math.log(32))


def test_separated_samples_with_equal_views_are_the_optimum() -> None:
    z = torch.eye(5)
    assert info_nce_loss(z, z, temperature=0.02).item() == pytest.approx(0, abs=1e-6)
    assert info_nce_loss(z, z, negatives=-z, temperature=0.02).item() == pytest.approx(0, abs=1e-6)


def test_a_queue_in_half_precision_is_compared_in_full() -> None:
    queries, keys = (z.float() for z in pair((4, 5), seed=0))
    negatives = wave(9, 5, 0.7).bfloat16()
    torch.testing.assert_close(
        info_nce_loss(queries, keys, negatives=negatives),
        info_nce_loss(queries, keys, negatives=negatives.float()),
    )


def test_keys_get_a_gradient_unless_detached() -> None:
    queries, keys = (z.requires_grad_() for z in pair((4, 5), seed=0))
    info_nce_loss(queries, keys).backward()
    assert keys.grad is not None
    assert F.cosine_similarity(keys.grad, keys.detach()).abs().max() < 1e-12  # length is free


@pytest.mark.parametrize("objective", [info_nce_loss, queued])
def test_gradient_is_right(objective) -> None:
    assert_gradient_is_right(objective)


@pytest.mark.parametrize("objective", [info_nce_loss, queued])
def test_autocast_does_not_lower_the_precision(objective) -> None:
    assert_autocast_changes_nothing(objective)


@pytest.mark.parametrize("objective", [info_nce_loss, queued])
def test_stays_finite_at_the_edge(objective) -> None:
    assert_finite_at_the_edge(objective)


@pytest.mark.parametrize(
    ("shape_a", "shape_b", "negatives", "message"),
    [
        ((4, 3), (4, 2), None, "one shape"),
        ((4,), (4,), None, "batch, dim"),
        ((1, 3), (1, 3), None, "at least 2"),
        ((0, 3), (0, 3), (4, 3), "at least 1"),
        ((4, 3), (4, 3), (4, 2), r"negatives \[count > 0, 3\], got \(4, 2\)"),
        ((4, 3), (4, 3), (0, 3), r"got \(0, 3\)"),
    ],
)
def test_refuses_inputs_it_cannot_compare(
    shape_a: tuple[int, ...],
    shape_b: tuple[int, ...],
    negatives: tuple[int, ...] | None,
    message: str,
) -> None:
    queue = None if negatives is None else torch.zeros(negatives)
    with pytest.raises(ShapeError, match=message):
        info_nce_loss(torch.zeros(shape_a), torch.zeros(shape_b), negatives=queue)


@pytest.mark.parametrize("block", [None, 2])
def test_excluded_negatives_are_as_if_they_were_not_there(block: int | None) -> None:
    queries, keys = pair((5, 4), seed=0)
    negatives = wave(6, 4, 0.7)
    excluded = torch.arange(30).view(5, 6) % 4 == 0
    excluded[3] = True  # nothing is left, and nothing to lose
    losses = [
        info_nce_loss(queries[i : i + 1], keys[i : i + 1], negatives=negatives[~excluded[i]])
        for i in (0, 1, 2, 4)
    ]
    loss = info_nce_loss(queries, keys, negatives=negatives, excluded=excluded, block=block)
    torch.testing.assert_close(loss, torch.stack(losses).sum() / 5)


def test_refuses_a_mask_of_other_negatives() -> None:
    queries, keys = pair((5, 4), seed=0)
    with pytest.raises(ShapeError, match=r"a mask \[5, 6\] of negatives, got \(6, 5\)"):
        info_nce_loss(queries, keys, negatives=wave(6, 4, 0.7), excluded=torch.zeros(6, 5).bool())
