"""The best unseen items are exactly those of a full sort, at any block size."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from recssl.matrices import IntArray, row_entries
from recssl.retrieval import BLOCK, EmbeddingScorer, ScoreArray, top_k
from sslcore.errors import DivergedError, ShapeError
from tests.recssl.ranking_by_hand import best_unseen, matrix, random_pairs


class Table:
    """Scores that are given."""

    def __init__(self, table: np.ndarray) -> None:
        self.table = table.astype(np.float32)

    def scores(self, users: IntArray) -> ScoreArray:
        return self.table[users].copy()


class RangeTable(Table):
    def scores_between(self, users: IntArray, start: int, stop: int) -> ScoreArray:
        return self.table[users, start:stop].copy()


def nothing_seen(num_users: int, num_items: int) -> csr_array:
    return csr_array((num_users, num_items), dtype=np.float32)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    k=st.integers(1, 14),
    levels=st.sampled_from([1, 2, 4, 1000]),
    block=st.sampled_from([1, 3, 7, 25, BLOCK]),
    in_parts=st.booleans(),
)
def test_lists_are_those_of_a_full_sort_with_ties_by_item_number(
    seed: int, k: int, levels: int, block: int, in_parts: bool
) -> None:
    rng = np.random.default_rng(seed)
    table = rng.integers(levels, size=(6, 11)).astype(np.float32)
    table[rng.random(table.shape) < 0.1] = -np.inf
    pairs = random_pairs(rng, 6, 11, rng.random())
    users = rng.permutation(6)[:4]
    scorer = RangeTable(table) if in_parts else Table(table)
    found = top_k(scorer, users, matrix(pairs, 6, 11), k, block=block)
    for row, user in enumerate(users):
        seen = {item for owner, item in pairs if owner == user}
        expected = best_unseen(table[user].tolist(), seen, k)
        assert found.items[row].tolist() == expected
        scores = [table[user, item] if item >= 0 else -np.inf for item in expected]
        assert found.scores[row].tolist() == scores


def test_embeddings_score_by_their_inner_product() -> None:
    rng = np.random.default_rng(0)
    users = rng.normal(size=(5, 3)).astype(np.float32)
    items = rng.normal(size=(40, 3)).astype(np.float32)
    found = top_k(EmbeddingScorer(users, items), np.arange(5), nothing_seen(5, 40), 6, block=16)
    expected = np.argsort(-(users.astype(np.float64) @ items.T), axis=1)[:, :6]
    assert found.items.tolist() == expected.tolist()


def test_memory_does_not_follow_the_number_of_items() -> None:
    users = np.ones((64, 2), np.float32)
    items = np.random.default_rng(0).normal(size=(200_000, 2)).astype(np.float32)
    scorer, seen = EmbeddingScorer(users, items), nothing_seen(64, 200_000)
    tracemalloc.start()
    top_k(scorer, np.arange(64), seen, 10, block=2**14)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**14 * 4 * 16  # all scores at once would be 51 MB


def test_a_user_who_has_seen_everything_gets_nothing() -> None:
    seen = matrix({(0, item) for item in range(3)}, 1, 3)
    found = top_k(Table(np.ones((1, 3))), np.array([0]), seen, 2)
    assert found.items.tolist() == [[-1, -1]]
    assert (found.scores == -np.inf).all()


def test_no_users_give_an_empty_result() -> None:
    found = top_k(Table(np.ones((1, 3))), np.zeros(0, np.int64), nothing_seen(1, 3), 2)
    assert found.items.shape == (0, 2)


def test_an_interaction_of_weight_zero_is_seen() -> None:
    seen = csr_array((np.zeros(1, np.float32), ([0], [1])), shape=(1, 3))
    assert top_k(Table(np.ones((1, 3))), np.array([0]), seen, 3).items.tolist() == [[0, 2, -1]]


def test_row_entries_follow_the_rows_asked_for() -> None:
    seen = matrix({(0, 1), (2, 0), (2, 3)}, 3, 4)
    positions, columns = row_entries(seen, np.array([2, 1, 0, 2]))
    assert positions.tolist() == [0, 0, 2, 3, 3]
    assert columns.tolist() == [0, 3, 1, 0, 3]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_refused(bad: float) -> None:
    table = np.ones((2, 30))
    table[1, 17] = bad
    with pytest.raises(DivergedError, match="not finite"):
        top_k(Table(table), np.arange(2), nothing_seen(2, 30), 3)


def test_a_scorer_of_another_number_of_items_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"\[1, 4\] for 4 items, got \[1, 3\]"):
        top_k(Table(np.ones((1, 3))), np.array([0]), nothing_seen(1, 4), 2)


def test_no_place_in_the_list_is_refused() -> None:
    with pytest.raises(ShapeError, match="got 0"):
        top_k(Table(np.ones((1, 3))), np.array([0]), nothing_seen(1, 3), 0)


def test_embeddings_of_two_widths_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(2, 3\) and \(2, 4\)"):
        EmbeddingScorer(np.ones((2, 3), np.float32), np.ones((2, 4), np.float32))
