import numpy as np
import pytest

from recssl.sampling.columns import SharedColumns
from recssl.sampling.negatives import Shared
from recssl.sampling.positives import EdgeUniform, UserUniform
from tests.recssl.random_graphs import graph_of, random_graph

GRAPH = random_graph(12, 15, 0.4)
USERS, ITEMS = EdgeUniform(GRAPH).batch(0, 0, 20)
DRAWN = np.array([3, 0, 7, 3])
LIKED_CHANCE = UserUniform(GRAPH).item_probabilities()
DRAWN_CHANCE = Shared(GRAPH, 0.5).probabilities


def columns(kinds: str, **options: bool) -> SharedColumns:
    liked = LIKED_CHANCE if "liked" in kinds else None
    return SharedColumns(
        GRAPH, liked=liked, drawn=DRAWN_CHANCE if "drawn" in kinds else None, **options
    )


def test_log_q_is_the_log_of_the_share_of_interactions() -> None:
    graph = graph_of([[1, 1, 0], [1, 0, 0], [1, 0, 0]])
    made = SharedColumns(graph, liked=EdgeUniform(graph).item_probabilities(), drawn=None)
    log_q = made.log_q(np.array([1, 0, 0, 2]), None)
    assert log_q.dtype == np.float32
    np.testing.assert_allclose(log_q, [np.log(0.25), np.log(0.75), np.log(0.75), -np.inf])


@pytest.mark.parametrize("kinds", ["liked", "drawn", "liked and drawn"])
def test_log_q_is_that_of_the_mixture_of_all_columns(kinds: str) -> None:
    drawn = DRAWN if "drawn" in kinds else None
    counts = (len(ITEMS) * ("liked" in kinds), len(DRAWN) * ("drawn" in kinds))
    asked = [*ITEMS] + ([*DRAWN] if "drawn" in kinds else [])
    expected = [
        np.log((counts[0] * LIKED_CHANCE[i] + counts[1] * DRAWN_CHANCE[i]) / sum(counts))
        for i in asked
    ]
    np.testing.assert_allclose(columns(kinds).log_q(ITEMS, drawn), expected, rtol=1e-5)


def test_the_corrected_sum_over_mixed_columns_estimates_that_over_all_items() -> None:
    values = np.random.default_rng(1).random(GRAPH.num_items)
    rng, made = np.random.default_rng(2), columns("liked and drawn")
    liked = rng.choice(GRAPH.num_items, size=40_000, p=LIKED_CHANCE)
    drawn = rng.choice(GRAPH.num_items, size=20_000, p=DRAWN_CHANCE)
    weights = np.exp(-made.log_q(liked, drawn).astype(np.float64))
    reached = (LIKED_CHANCE + DRAWN_CHANCE) > 0
    estimate = (weights * values[np.concatenate([liked, drawn])]).mean()
    assert estimate == pytest.approx(values[reached].sum(), rel=0.03)


@pytest.mark.parametrize("kinds", ["liked", "drawn", "liked and drawn"])
@pytest.mark.parametrize("accidental", [False, True])
def test_the_mask_is_what_plain_loops_give(kinds: str, accidental: bool) -> None:
    likes = GRAPH.matrix.toarray() > 0
    expected = []
    for i, user in enumerate(USERS):
        row = []
        if "liked" in kinds:
            for j, item in enumerate(ITEMS):
                same = item == ITEMS[i]
                row.append(i != j and bool(same or (accidental and likes[user, item])))
        if "drawn" in kinds:
            row += [bool(likes[user, item]) for item in DRAWN]
        expected.append(row)
    drawn = DRAWN if "drawn" in kinds else None
    made = columns(kinds, accidental=accidental).excluded(USERS, ITEMS, drawn)
    assert made.tolist() == expected
