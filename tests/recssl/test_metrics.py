"""The metrics are those of plain loops over lists."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recssl.matrices import count_users
from recssl.metrics import (
    find_hits,
    gini,
    list_metrics,
    ndcg,
    per_user_metrics,
    popularity_buckets,
    recall,
    recall_by_bucket,
)
from sslcore.errors import ShapeError
from tests.recssl import ranking_by_hand as by_hand
from tests.recssl.ranking_by_hand import matrix, random_pairs

USERS, ITEMS, LENGTH = 7, 12, 6


def random_lists(rng: np.random.Generator) -> np.ndarray:
    lists = np.stack([rng.permutation(ITEMS)[:LENGTH] for _ in range(USERS)])
    lists[0, 2:] = -1
    return lists


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.floats(0.05, 0.95))
def test_every_metric_matches_its_formula_written_out(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    pairs = random_pairs(rng, USERS, ITEMS, share) | {(user, user) for user in range(USERS)}
    relevant = matrix(pairs, USERS, ITEMS)
    users, lists = rng.permutation(USERS), random_lists(rng)
    counts = np.diff(relevant.indptr)[users].astype(np.int64)
    found = per_user_metrics(find_hits(lists, users, relevant), counts, (1, 3, LENGTH))
    assert len(found) == 3 * len(by_hand.PER_USER)
    for name, formula in by_hand.PER_USER.items():
        for k in (1, 3, LENGTH):
            expected = [
                formula(row.tolist(), {item for owner, item in pairs if owner == user}, k)
                for user, row in zip(users, lists, strict=True)
            ]
            assert found[f"{name}@{k}"].tolist() == pytest.approx(expected, rel=1e-12), (name, k)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_metrics_of_all_lists_match_plain_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lists, popularity = random_lists(rng), rng.integers(0, 9, size=ITEMS)
    found = list_metrics(lists, popularity, 20, (2, LENGTH))
    for k in (2, LENGTH):
        expected = by_hand.lists(lists.tolist(), popularity.tolist(), 20, k)
        for name, value in expected.items():
            assert found[f"{name}@{k}"] == pytest.approx(value, rel=1e-12), (name, k)


def test_an_ideal_list_reaches_one_also_with_more_relevant_items_than_ranks() -> None:
    hits, counts = np.ones((2, 3), bool), np.array([3, 9])
    assert ndcg(hits, counts, 3).tolist() == pytest.approx([1, 1])
    assert recall(hits, counts, 3).tolist() == pytest.approx([1, 1 / 3])


def test_lists_without_an_item_have_no_novelty_and_no_popularity() -> None:
    found = list_metrics(np.full((2, 3), -1), np.array([1, 2]), 2, (3,))
    assert found == {"coverage@3": 0, "gini@3": 0, "novelty@3": 0, "mean_popularity@3": 0}


def test_gini_is_zero_for_equal_counts_and_near_one_for_a_single_item() -> None:
    assert gini(np.array([4, 4, 4])) == 0
    assert gini(np.array([0] * 99 + [7])) == pytest.approx(0.99)


def test_a_hit_of_the_last_item_is_not_taken_for_the_next_users_missing_one() -> None:
    relevant = matrix({(0, 2), (1, 0)}, 2, 3)
    assert find_hits(np.array([[2], [-1]]), np.array([0, 1]), relevant).tolist() == [
        [True],
        [False],
    ]


def test_buckets_hold_about_equally_many_interactions_and_rise_with_popularity() -> None:
    rng = np.random.default_rng(0)
    popularity = rng.zipf(1.8, size=5000).clip(max=200)
    buckets = popularity_buckets(popularity, 4)
    mass = np.bincount(buckets, weights=popularity)
    assert mass.max() < 0.4 * mass.sum()
    order = np.argsort(popularity)
    assert (np.diff(buckets[order]) >= 0).all()
    for value in np.unique(popularity):
        assert len(np.unique(buckets[popularity == value])) == 1


def test_recall_by_bucket_counts_test_items_over_all_users() -> None:
    relevant = matrix({(0, 0), (0, 3), (1, 3), (1, 2)}, 2, 4)
    buckets = np.array([0, 0, 1, 1])
    lists = np.array([[3, 1], [3, 0]])
    found = recall_by_bucket(lists, np.array([0, 1]), relevant, buckets, 2)
    assert found == [
        {"items": 2, "wanted": 1, "recall": 0.0, "share": 0.5},
        {"items": 2, "wanted": 3, "recall": pytest.approx(2 / 3), "share": 0.5},
    ]


def test_a_bucket_in_which_nothing_is_wanted_has_no_recall() -> None:
    relevant = matrix({(0, 1)}, 1, 2)
    found = recall_by_bucket(np.array([[1]]), np.array([0]), relevant, np.array([0, 1]), 1)
    assert [bucket["recall"] for bucket in found] == [None, 1.0]


def test_popularity_counts_users_not_weights() -> None:
    weighted = matrix({(0, 1), (1, 1), (1, 0)}, 2, 3) * 5
    assert count_users(weighted).tolist() == [1, 2, 0]


def test_a_list_shorter_than_k_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"at least 4.*\(2, 3\)"):
        recall(np.ones((2, 3), bool), np.array([1, 1]), 4)
