"""Every baseline gives the scores of its formula, written out in float64."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from recssl.baselines import ease, gf_cf, ials, item_knn, popularity
from recssl.baselines.histories import co_occurrence
from recssl.matrices import binary, inverse_root
from recssl.retrieval import Scorer
from sslcore.errors import ConfigError
from tests.recssl.ranking_by_hand import matrix, random_pairs

USERS, ITEMS = 9, 7
seeds = st.integers(0, 10_000)


def histories(seed: int, *, share: float = 0.35) -> csr_array:
    """Return a few histories; the last user and the last item have nothing."""
    pairs = random_pairs(np.random.default_rng(seed), USERS - 1, ITEMS - 1, share)
    return matrix(pairs | {(0, 0), (0, 1), (1, 1)}, USERS, ITEMS)


def all_scores(scorer: Scorer) -> np.ndarray:
    return scorer.scores(np.arange(USERS)).astype(np.float64)


def test_popularity_counts_the_users_of_an_item() -> None:
    train = histories(0)
    expected = train.toarray().sum(0)
    assert all_scores(popularity.fit(train)).tolist() == [expected.tolist()] * USERS


@settings(max_examples=30, deadline=None)
@given(seed=seeds, neighbours=st.integers(1, 8), shrink=st.sampled_from([0.0, 2.5]))
def test_item_knn_sums_the_similarities_of_the_nearest_items(
    seed: int, neighbours: int, shrink: float
) -> None:
    train = histories(seed)
    rated = train.toarray().astype(int)
    users_of = [set(np.flatnonzero(rated[:, item])) for item in range(ITEMS)]
    expected = np.zeros((USERS, ITEMS))
    for item in range(ITEMS):
        similar = []
        for other in range(ITEMS):
            both = len(users_of[item] & users_of[other])
            if other != item and both:
                root = math.sqrt(len(users_of[item]) * len(users_of[other]))
                similar.append((-np.float32(both / (root + shrink)), other))
        for value, other in sorted(similar)[:neighbours]:
            expected[:, item] -= rated[:, other] * float(value)
    found = all_scores(item_knn.fit(train, neighbours=neighbours, shrink=shrink))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, l2=st.sampled_from([0.5, 3.0, 100.0]))
def test_ease_weights_solve_each_items_constrained_regression(seed: int, l2: float) -> None:
    train = histories(seed)
    rated = train.toarray().astype(np.float64)
    weights = np.zeros((ITEMS, ITEMS))
    for item in range(ITEMS):  # the definition: regress each item on all others
        others = [other for other in range(ITEMS) if other != item]
        left = rated[:, others].T @ rated[:, others] + l2 * np.eye(ITEMS - 1)
        weights[others, item] = np.linalg.solve(left, rated[:, others].T @ rated[:, item])
    np.testing.assert_allclose(all_scores(ease.fit(train, l2=l2)), rated @ weights, atol=2e-4)


def test_ease_is_refused_above_the_memory_limit_with_the_way_out() -> None:
    assert ease.refusal(20_000, 2.0) is None
    with pytest.raises(ConfigError, match=r"1\.0 GB for 16000 items.*0\.5; raise it, or leave"):
        ease.fit(csr_array((2, 16_000), dtype=np.float32), memory_gb=0.5)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, rank=st.sampled_from([1, 3, 20]), weight=st.sampled_from([0.0, 0.3, 2.0]))
def test_gf_cf_adds_the_ideal_low_pass_filter_to_the_linear_one(
    seed: int, rank: int, weight: float
) -> None:
    train = histories(seed)
    rated = train.toarray().astype(np.float64)
    by_user, by_item = rated.sum(1), rated.sum(0)
    users = np.array([count**-0.5 if count else 0.0 for count in by_user])
    items = np.array([count**-0.5 if count else 0.0 for count in by_item])
    smooth = users[:, None] * rated * items[None, :]
    _, values, vectors = np.linalg.svd(smooth)
    rank_of_all = np.linalg.matrix_rank(smooth)
    # of equal singular values, as of two components with 1 each, no vector comes first
    assume(rank >= rank_of_all or values[rank - 1] - values[rank] > 1e-6)
    vectors = vectors[: min(rank, rank_of_all)]
    ideal = items[:, None] * (vectors.T @ vectors) * np.sqrt(by_item)[None, :]
    expected = rated @ (smooth.T @ smooth + weight * ideal)
    found = gf_cf.fit(train, rank=rank, ideal_weight=weight)
    np.testing.assert_allclose(all_scores(found), expected, atol=2e-5)
    other = gf_cf.fit(train, rank=rank, ideal_weight=7.0).with_weight(weight)
    np.testing.assert_allclose(all_scores(other), expected, atol=2e-5)


def ials_objective(
    rated: np.ndarray, users: np.ndarray, items: np.ndarray, weight: float, l2: float, power: float
) -> float:
    total = 0.0
    for user in range(USERS):
        for item in range(ITEMS):
            score = float(users[user] @ items[item])
            total += weight * score**2
            if rated[user, item]:
                total += (1 - score) ** 2
    for user in range(USERS):
        strength = rated[user].sum() + weight * ITEMS
        total += l2 * strength**power * float(users[user] @ users[user])
    for item in range(ITEMS):
        strength = rated[:, item].sum() + weight * USERS
        total += l2 * strength**power * float(items[item] @ items[item])
    return total


@settings(max_examples=10, deadline=None)
@given(seed=seeds, power=st.sampled_from([0.0, 0.5, 1.0]))
def test_ials_ends_where_no_item_embedding_can_be_improved(seed: int, power: float) -> None:
    train = histories(seed)
    rated = train.toarray().astype(np.float64)
    setting = {"unobserved_weight": 0.2, "l2": 0.05}
    scorer = ials.fit(train, dim=3, epochs=3, exponent=power, **setting)
    users, items = (part.astype(np.float64) for part in (scorer._users, scorer._items))
    best = ials_objective(rated, users, items, 0.2, 0.05, power)
    for item in range(ITEMS):  # the last half epoch solved for items, given the users
        for axis in range(3):
            for step in (-0.01, 0.01):
                moved = items.copy()
                moved[item, axis] += step
                assert ials_objective(rated, users, moved, 0.2, 0.05, power) > best - 1e-9


def test_ials_with_enough_dimensions_nearly_reproduces_the_histories() -> None:
    train = histories(3)
    rated = train.toarray() > 0
    found = all_scores(ials.fit(train, dim=7, epochs=50, unobserved_weight=0.05, l2=0.0005))
    assert found[rated].min() > 0.8
    assert found[~rated].max() < 0.5


def test_ials_of_equal_seeds_is_equal() -> None:
    one, other, another = (ials.fit(histories(1), dim=4, seed=seed) for seed in (5, 5, 6))
    assert (all_scores(one) == all_scores(other)).all()
    assert (all_scores(one) != all_scores(another)).any()


def test_a_user_without_history_gets_scores_that_are_finite() -> None:
    train = histories(2)
    for scorer in (ease.fit(train), gf_cf.fit(train), item_knn.fit(train), ials.fit(train)):
        last = scorer.scores(np.array([USERS - 1]))
        assert last.shape == (1, ITEMS)
        assert np.isfinite(last).all()


def test_weights_of_interactions_do_not_matter() -> None:
    train = histories(4)
    for module in (popularity, item_knn, ease, gf_cf, ials):
        found = module.fit(train), module.fit(train * 3)
        np.testing.assert_array_equal(all_scores(found[0]), all_scores(found[1]))


def test_an_interaction_of_weight_zero_is_an_interaction() -> None:
    assert binary(csr_array((np.zeros(1), ([0], [1])), shape=(1, 2))).toarray().tolist() == [[0, 1]]


@pytest.mark.parametrize("products", [1, 10, 10_000])
def test_co_occurrence_is_the_same_in_any_blocks(products: int) -> None:
    train = binary(histories(5))
    blocks = list(co_occurrence(train, products=products))
    found = np.concatenate([block.toarray() for _, block in blocks])
    assert found.tolist() == (train.T @ train).toarray().tolist()
    assert (len(blocks) == 1) == (products == 10_000)
    assert all(block.has_sorted_indices for _, block in blocks)


def test_nobody_divides_by_a_count_of_zero() -> None:
    assert inverse_root(np.array([0, 4])).tolist() == [0, 0.5]


@pytest.mark.parametrize(
    ("module", "wrong"),
    [
        (item_knn, {"neighbours": 0}),
        (item_knn, {"shrink": -1.0}),
        (ease, {"l2": 0.0}),
        (gf_cf, {"rank": 0}),
        (gf_cf, {"ideal_weight": -0.1}),
        (ials, {"dim": 0}),
        (ials, {"l2": 0.0}),
        (ials, {"unobserved_weight": 0.0}),
    ],
)
def test_settings_out_of_range_are_refused(module: object, wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        module.fit(histories(0), **wrong)  # type: ignore[attr-defined]


def test_blocks_of_any_size_give_the_same_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    train = histories(7, share=0.7)
    whole = [all_scores(module.fit(train)) for module in (ials, gf_cf)]
    monkeypatch.setattr(ials, "_ENTRIES", 2)  # rows are longer
    monkeypatch.setattr(gf_cf, "BLOCK", 1)
    for module, expected in zip((ials, gf_cf), whole, strict=True):
        np.testing.assert_allclose(all_scores(module.fit(train)), expected, atol=1e-5)
