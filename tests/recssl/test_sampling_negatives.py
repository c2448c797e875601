import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recssl.errors import LogError
from recssl.graph import InteractionGraph
from recssl.sampling import negatives as module
from recssl.sampling.alias import AliasTable
from recssl.sampling.negatives import Hard, Negatives, Popularity, Shared, Uniform
from recssl.sampling.row_filter import RowFilter
from sslcore.errors import ConfigError
from tests.recssl.random_graphs import chi_square_fits, graph_of, random_graph

GRAPH = random_graph(12, 30, 0.4)
SAMPLERS: list[Negatives] = [Uniform(GRAPH), Popularity(GRAPH, 0.75), Popularity(GRAPH, 0.0)]


def nearly_full() -> InteractionGraph:
    """Return a graph in which user 1 lacks only items 3 and 250."""
    dense = np.ones((2, 300), dtype=int)
    dense[0, 1:] = 0
    dense[1, [3, 250]] = 0
    dense[0, [3, 250]] = 1
    return graph_of(dense)


def weights_by_hand(graph: InteractionGraph, user: int, alpha: float) -> np.ndarray:
    dense = graph.matrix.toarray()
    return np.array([0 if dense[user, i] else dense[:, i].sum() ** alpha for i in range(30)])


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=60).filter(lambda w: sum(w) > 1e-3))
def test_the_alias_table_has_the_probabilities_of_the_weights(weights: list[float]) -> None:
    given_weights = np.array(weights)
    made = AliasTable.from_weights(given_weights).probabilities()
    np.testing.assert_allclose(made, given_weights / given_weights.sum(), atol=1e-9)


def test_the_alias_table_draws_by_its_probabilities() -> None:
    weights = np.arange(50.0) ** 2
    drawn = AliasTable.from_weights(weights).draw((200, 500), np.random.default_rng(0))
    counts = np.bincount(drawn.ravel(), minlength=50)
    assert counts[0] == 0
    assert chi_square_fits(counts[1:], weights[1:])


@given(st.integers(1, 9), st.integers(1, 60), st.floats(0, 0.9), st.integers(0, 9))
def test_the_filter_never_misses_an_interaction(
    users: int, items: int, density: float, seed: int
) -> None:
    graph = random_graph(users, items, density, seed)
    grid = np.tile(np.arange(items, dtype=np.uint32), (users, 1))
    found = RowFilter(graph).may_contain(np.arange(users), grid)
    assert set(np.flatnonzero(graph.matrix.toarray())) <= set(found)


def test_the_filter_is_right_most_of_the_time_and_small() -> None:
    graph = random_graph(100, 3000, 0.05)
    grid = np.tile(np.arange(3000, dtype=np.uint32), (100, 1))
    made = RowFilter(graph)
    wrong = len(made.may_contain(np.arange(100), grid)) - graph.num_edges
    assert wrong / grid.size < 0.08
    assert made.nbytes < 4.1 * graph.num_edges + 32 * graph.num_users


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(("batch", "count"), [(1, 1), (700, 1), (12, 64), (0, 3)])
def test_no_draw_is_a_positive(sampler: Negatives, batch: int, count: int) -> None:
    users = np.random.default_rng(1).integers(12, size=batch)
    drawn = sampler.draw(users, count, np.random.default_rng(2))
    assert drawn.shape == (batch, count)
    assert drawn.dtype == np.int64
    assert not GRAPH.matrix.toarray()[users[:, None], drawn].any()


@pytest.mark.parametrize(("sampler", "alpha"), list(zip(SAMPLERS, [0, 0.75, 0], strict=True)))
@pytest.mark.parametrize("user", [0, 5, 11])
def test_draws_follow_the_weights_among_what_is_left(
    sampler: Negatives, alpha: float, user: int
) -> None:
    drawn = sampler.draw(np.full(50, user), 400, np.random.default_rng(3))
    expected = weights_by_hand(GRAPH, user, alpha)
    counts = np.bincount(drawn.ravel(), minlength=30)
    assert (counts[expected == 0] == 0).all()
    assert chi_square_fits(counts[expected > 0], expected[expected > 0])


@pytest.mark.parametrize("sampler", [Uniform(nearly_full()), Popularity(nearly_full(), 1.0)])
def test_a_user_with_nearly_all_items_gets_those_left(sampler: Negatives) -> None:
    drawn = sampler.draw(np.array([1, 0, 1]), 400, np.random.default_rng(0))
    counts = np.bincount(drawn[[0, 2]].ravel(), minlength=300)
    assert set(np.flatnonzero(counts)) == {3, 250}
    assert chi_square_fits(counts[[3, 250]], np.ones(2))


def test_a_large_draw_is_made_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 64)
    users = np.random.default_rng(1).integers(12, size=100)
    drawn = Uniform(GRAPH).draw(users, 10, np.random.default_rng(2))
    assert not GRAPH.matrix.toarray()[users[:, None], drawn].any()
    assert len(np.unique(drawn)) == 30


def test_equal_generators_draw_equal_items() -> None:
    users = np.arange(12)
    for sampler in SAMPLERS:
        first, second = (sampler.draw(users, 9, np.random.default_rng((4, 2))) for _ in range(2))
        assert (first == second).all()


def test_refuses_a_user_with_all_items() -> None:
    full = graph_of([[1, 0, 1], [1, 1, 1]])
    for make in (Uniform, lambda graph: Popularity(graph, 1.0)):
        with pytest.raises(LogError, match=r"user row 1 \(of 1 such\) .* all 3 items"):
            make(full)


def test_popularity_refuses_a_user_with_all_items_that_it_draws() -> None:
    graph = graph_of([[1, 1, 0], [1, 0, 0]])
    with pytest.raises(LogError, match=r"user row 0 .* all 2 items that can be drawn"):
        Popularity(graph, 0.5)
    assert Uniform(graph).draw(np.array([0]), 1, np.random.default_rng(0)).tolist() == [[2]]


@pytest.mark.parametrize("alpha", [-0.5, float("nan"), float("inf")])
@pytest.mark.parametrize("sampler", [Popularity, Shared])
def test_a_bad_exponent_is_refused(sampler: type[Popularity | Shared], alpha: float) -> None:
    with pytest.raises(ConfigError, match="alpha >= 0"):
        sampler(GRAPH, alpha)


@pytest.mark.parametrize("alpha", [0.0, 0.75])
def test_shared_draws_follow_the_probabilities_they_name(alpha: float) -> None:
    shared = Shared(GRAPH, alpha)
    expected = GRAPH.item_degrees**alpha
    np.testing.assert_allclose(shared.probabilities, expected / expected.sum())
    drawn = shared.draw(20_000, np.random.default_rng(3))
    assert (drawn.shape, drawn.dtype) == ((20_000,), np.int64)
    counts = np.bincount(drawn, minlength=30)
    assert (counts[expected == 0] == 0).all()
    assert chi_square_fits(counts[expected > 0], expected[expected > 0])


def test_shared_draws_need_an_item_with_weight() -> None:
    with pytest.raises(LogError, match="at least one item"):
        Shared(graph_of(np.zeros((2, 3))), 0.5)


def test_a_hard_negative_is_the_best_scored_candidate() -> None:
    table = np.random.default_rng(7).random((12, 30))
    users = np.arange(12)
    base = Uniform(GRAPH)
    pool = base.draw(users, 4 * 6, np.random.default_rng(5)).reshape(12, 4, 6)
    hard = Hard(base, lambda u, i: table[u[:, None], i], 6)
    drawn = hard.draw(users, 4, np.random.default_rng(5))
    for user in range(12):
        for number in range(4):
            best = max(pool[user, number].tolist(), key=lambda item: table[user, item])
            assert drawn[user, number] == best


def test_one_candidate_draws_like_the_base() -> None:
    users, base = np.arange(12), Uniform(GRAPH)
    hard = Hard(base, lambda u, i: np.zeros(i.shape), 1)
    drawn = hard.draw(users, 5, np.random.default_rng(5))
    assert (drawn == base.draw(users, 5, np.random.default_rng(5))).all()


def test_refuses_to_draw_without_candidates() -> None:
    with pytest.raises(ConfigError, match="at least 1 candidate per negative, got 0"):
        Hard(Uniform(GRAPH), lambda u, i: np.zeros(i.shape), 0)
