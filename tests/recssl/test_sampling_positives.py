import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recssl.errors import LogError
from recssl.graph import InteractionGraph
from recssl.sampling.permutation import Permutation
from recssl.sampling.positives import EdgeUniform, Positives, UserUniform
from tests.recssl.random_graphs import chi_square_fits, graph_of, random_graph

GRAPH = random_graph(15, 20, 0.3)


def edges_of(pairs: tuple[np.ndarray, np.ndarray], graph: InteractionGraph = GRAPH) -> np.ndarray:
    """Return the number of each pair's edge; fails for a pair that is none."""
    numbers = {
        edge: number
        for number, edge in enumerate(zip(graph.edge_users, graph.edge_items, strict=True))
    }
    return np.array([numbers[edge] for edge in zip(*pairs, strict=True)])


@given(st.integers(1, 3000), st.integers(0, 99))
def test_a_permutation_has_every_number_once(size: int, seed: int) -> None:
    order = Permutation(size, np.random.default_rng(seed))(np.arange(size))
    assert sorted(order.tolist()) == list(range(size))


def test_permutations_put_any_two_numbers_in_any_two_places() -> None:
    size = 11
    counts = np.zeros((size, size))
    rng = np.random.default_rng(0)
    for _ in range(4000):
        first, second = Permutation(size, rng)(np.array([0, 1]))
        counts[first, second] += 1
    assert (np.diag(counts) == 0).all()
    assert chi_square_fits(counts[~np.eye(size, dtype=bool)], np.ones(size * (size - 1)))


def test_positions_beyond_32_bits_stay_a_permutation() -> None:
    size = 5_000_000_000
    order = Permutation(size, np.random.default_rng(0))(np.arange(size - 5000, size))
    assert len(np.unique(order)) == 5000
    assert order.min() >= 0
    assert order.max() < size
    counts = np.bincount(order * 10 // size, minlength=10)
    assert chi_square_fits(counts, np.ones(10))


def test_an_epoch_has_every_interaction_once_also_across_batches() -> None:
    positives, edges, size = EdgeUniform(GRAPH), [], 7
    for step in range(-(-3 * GRAPH.num_edges // size)):
        edges.extend(edges_of(positives.batch(3, step, size)).tolist())
    epochs = [
        edges[start : start + GRAPH.num_edges]
        for start in range(0, 3 * GRAPH.num_edges, GRAPH.num_edges)
    ]
    assert all(sorted(epoch) == list(range(GRAPH.num_edges)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_batch_may_be_longer_than_several_epochs() -> None:
    graph = graph_of([[1, 0], [1, 1]])
    edges = edges_of(EdgeUniform(graph).batch(0, 1, 9), graph)
    assert np.bincount(edges).tolist() == [3, 3, 3]


@pytest.mark.parametrize("kind", [EdgeUniform, UserUniform])
def test_a_batch_depends_on_seed_and_step_only(
    kind: type[EdgeUniform] | type[UserUniform],
) -> None:
    used, fresh = kind(GRAPH), kind(GRAPH)
    for step in range(5):
        used.batch(1, step, 32)
    for unbroken, resumed in zip(used.batch(1, 7, 32), fresh.batch(1, 7, 32), strict=True):
        assert unbroken.dtype == np.int64
        assert (unbroken == resumed).all()
    others = (fresh.batch(2, 7, 32), fresh.batch(1, 8, 32))
    assert all((edges_of(used.batch(1, 7, 32)) != edges_of(other)).any() for other in others)


def test_users_are_drawn_alike_and_then_their_items() -> None:
    edges = edges_of(UserUniform(GRAPH).batch(0, 0, 40_000))
    counts = np.bincount(edges, minlength=GRAPH.num_edges)
    assert chi_square_fits(counts, 1 / GRAPH.user_degrees[GRAPH.edge_users])


@pytest.mark.parametrize("positives", [EdgeUniform(GRAPH), UserUniform(GRAPH)])
def test_items_come_as_often_as_their_probability_says(positives: Positives) -> None:
    probabilities = positives.item_probabilities()
    assert probabilities.sum() == pytest.approx(1)
    items = positives.batch(5, 0, 100 * GRAPH.num_edges).items
    counts = np.bincount(items, minlength=GRAPH.num_items)
    drawn = probabilities > 0
    assert (counts[~drawn] == 0).all()
    assert chi_square_fits(counts[drawn], probabilities[drawn])


@pytest.mark.parametrize("kind", [EdgeUniform, UserUniform])
def test_refuses_a_graph_without_interactions(
    kind: type[EdgeUniform] | type[UserUniform],
) -> None:
    with pytest.raises(LogError, match="at least one training interaction"):
        kind(graph_of([[0, 0]]))
