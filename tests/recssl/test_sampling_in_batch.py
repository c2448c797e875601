import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recssl.graph import InteractionGraph
from recssl.sampling.in_batch import InBatch
from recssl.sampling.positives import EdgeUniform
from sslcore.errors import ShapeError
from tests.recssl.random_graphs import graph_of, random_graph

GRAPH = random_graph(12, 15, 0.4)


def mask_by_hand(
    graph: InteractionGraph,
    users: np.ndarray,
    items: np.ndarray,
    *,
    accidental: bool,
    same_item: bool,
) -> list[list[bool]]:
    dense = graph.matrix.toarray()
    return [
        [
            i != j and bool((accidental and dense[user, item]) or (same_item and items[i] == item))
            for j, item in enumerate(items)
        ]
        for i, user in enumerate(users)
    ]


@pytest.mark.parametrize("accidental", [False, True])
@pytest.mark.parametrize("same_item", [False, True])
@given(st.integers(0, 40), st.integers(0, 50))
def test_the_mask_is_what_plain_loops_give(
    accidental: bool, same_item: bool, batch: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    users, items = rng.integers(12, size=batch), rng.integers(15, size=batch)
    switches = {"accidental": accidental, "same_item": same_item}
    made = InBatch(GRAPH).mask(users, items, **switches)
    assert made.shape == (batch, batch)
    assert made.tolist() == mask_by_hand(GRAPH, users, items, **switches)


@given(st.integers(0, 30), st.integers(1, 40), st.integers(0, 50))
def test_the_mask_of_drawn_items_marks_exactly_what_the_user_likes(
    batch: int, count: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    users, drawn = rng.integers(12, size=batch), rng.integers(15, size=count)
    made = InBatch(GRAPH).mask_drawn(users, drawn)
    assert made.dtype == np.bool_
    expected = [[bool(GRAPH.matrix[user, item]) for item in drawn] for user in users]
    assert made.tolist() == expected


def test_of_interactions_the_same_item_is_an_accidental_positive_too() -> None:
    users, items = EdgeUniform(GRAPH).batch(0, 0, 60)
    in_batch = InBatch(GRAPH)
    accidental = set(zip(*in_batch.accidental(users, items), strict=True))
    same = set(zip(*in_batch.same_item(items), strict=True))
    assert same
    assert same < accidental


def test_positives_without_weight_are_still_positives() -> None:
    matrix = graph_of([[1, 1], [1, 1]]).matrix.copy()
    matrix.data[:] = 0
    made = InBatch(InteractionGraph(matrix)).mask(np.array([0, 1]), np.array([0, 1]))
    assert made.tolist() == [[False, True], [True, False]]


def test_refuses_pairs_of_different_lengths() -> None:
    with pytest.raises(ShapeError, match=r"one shape \[batch\], got \(2,\) and \(3,\)"):
        InBatch(GRAPH).mask(np.arange(2), np.arange(3))
