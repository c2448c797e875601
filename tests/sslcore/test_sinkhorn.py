"""Sinkhorn: parity with the paper, what it keeps equal, both ends, extreme inputs, errors."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sslcore.errors import ShapeError
from sslcore.objectives.sinkhorn import sinkhorn
from tests.reference.clustering import sinkhorn_by_hand
from tests.reference.waves import degenerate, pair, wave

shapes = st.tuples(st.integers(1, 9), st.integers(1, 6))
seeds = st.integers(0, 2**31)


def total_use(shares: Tensor) -> Tensor:
    return shares.sum(dim=0) * shares.shape[1] / shares.shape[0]


@given(shapes, seeds, st.floats(0.1, 2.0), st.integers(0, 5))
def test_matches_the_algorithm_written_out(
    shape: tuple[int, int], seed: int, epsilon: float, iterations: int
) -> None:
    scores = pair(shape, seed)[0]
    expected = sinkhorn_by_hand(scores.tolist(), epsilon, iterations)
    actual = sinkhorn(scores, epsilon=epsilon, iterations=iterations)
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64))


@given(shapes, seeds)
def test_every_row_sums_to_one(shape: tuple[int, int], seed: int) -> None:
    shares = sinkhorn(pair(shape, seed)[0])
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(shape[0], dtype=torch.float64))


def test_all_prototypes_are_used_alike_after_many_iterations() -> None:
    few, many = (sinkhorn(wave(8, 6, 0.0), epsilon=0.5, iterations=n) for n in (3, 200))
    assert (total_use(few) - 1).abs().max() > 1e-4
    torch.testing.assert_close(total_use(many), torch.ones(6, dtype=torch.float64))


@given(shapes, seeds)
def test_order_of_samples_and_prototypes_does_not_matter(shape: tuple[int, int], seed: int) -> None:
    scores = pair(shape, seed)[0]
    rows, columns = torch.randperm(shape[0]), torch.randperm(shape[1])
    expected = sinkhorn(scores)
    torch.testing.assert_close(sinkhorn(scores[rows]), expected[rows])
    torch.testing.assert_close(sinkhorn(scores[:, columns]), expected[:, columns])


@given(shapes, seeds)
def test_a_prototype_that_is_near_to_all_wins_nothing(shape: tuple[int, int], seed: int) -> None:
    scores = pair(shape, seed)[0]
    offset = 5 * torch.randn(shape[1], dtype=torch.float64)
    torch.testing.assert_close(sinkhorn(scores + offset), sinkhorn(scores))


def test_equal_samples_are_spread_over_all_prototypes() -> None:
    torch.testing.assert_close(
        sinkhorn(wave(1, 6, 0.0).repeat(8, 1)).float(), torch.full((8, 6), 1 / 6)
    )


def test_samples_at_their_own_prototypes_stay_there() -> None:
    torch.testing.assert_close(sinkhorn(torch.eye(4)), torch.eye(4), atol=1e-6, rtol=0)


def test_no_iteration_is_a_softmax() -> None:
    scores = wave(8, 6, 0.0)
    torch.testing.assert_close(
        sinkhorn(scores, epsilon=0.2, iterations=0), torch.softmax(scores / 0.2, dim=1)
    )


def test_has_no_gradient() -> None:
    assert not sinkhorn(wave(8, 6, 0.0).requires_grad_()).requires_grad


def test_autocast_does_not_lower_the_precision() -> None:
    scores = wave(8, 6, 0.0).float()
    with torch.autocast("cpu", torch.bfloat16):
        actual = sinkhorn(scores)
    torch.testing.assert_close(actual, sinkhorn(scores), rtol=0, atol=0)
    assert sinkhorn(scores.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("epsilon", [1e-4, 0.05, 10.0])
def test_stays_finite_at_the_edge(epsilon: float) -> None:
    for name, views in degenerate().items():
        for scores in views:
            assert sinkhorn(scores, epsilon=epsilon).isfinite().all(), name


def test_agrees_with_double_precision_where_powers_would_overflow() -> None:
    scores = wave(8, 6, 0.0)
    torch.testing.assert_close(
        sinkhorn(scores.float(), epsilon=0.005).double(),
        sinkhorn(scores, epsilon=0.005),
        atol=1e-4,
        rtol=1e-3,
    )


def test_a_process_without_rows_gets_none() -> None:
    assert sinkhorn(torch.zeros(0, 4)).shape == (0, 4)


@pytest.mark.parametrize("shape", [(4,), (4, 0), (2, 3, 4)])
def test_refuses_scores_that_are_no_table(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"scores \[rows, prototypes > 0\]"):
        sinkhorn(torch.zeros(shape))
