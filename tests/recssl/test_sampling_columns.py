import numpy as np
import pytest

from recssl.sampling.columns import SharedColumns
from recssl.sampling.negatives import Shared
from recssl.sampling.positives import EdgeUniform, UserUniform
from tests.recssl.random_graphs import graph_of, random_graph

GRAPH = random_graph(12, 15, 0.4)
USERS, ITEMS = EdgeUniform(GRAPH).batch(0, 0, 20)
DRAWN = np.array([3, 0, 7, 3])
PAST = np.array([-1, ITEMS[0], 2, -1, 7])
LIKED_CHANCE = UserUniform(GRAPH).item_probabilities()
DRAWN_CHANCE = Shared(GRAPH, 0.5).probabilities

each_kind = pytest.mark.parametrize(
    "kinds", ["batch", "drawn", "batch, drawn", "batch, past", "drawn, past", "batch, drawn, past"]
)


def columns(kinds: str, **options: bool) -> SharedColumns:
    drawn = DRAWN_CHANCE if "drawn" in kinds else None
    return SharedColumns(
        GRAPH, liked=LIKED_CHANCE, drawn=drawn, with_batch="batch" in kinds, **options
    )


def parts(kinds: str) -> tuple[np.ndarray | None, np.ndarray | None]:
    return DRAWN if "drawn" in kinds else None, PAST if "past" in kinds else None


def test_log_q_is_the_log_of_the_share_of_interactions() -> None:
    graph = graph_of([[1, 1, 0], [1, 0, 0], [1, 0, 0]])
    made = SharedColumns(graph, liked=EdgeUniform(graph).item_probabilities())
    log_q = made.log_q(np.array([1, 0, 0, 2]))
    assert log_q.dtype == np.float32
    np.testing.assert_allclose(log_q, [np.log(0.25), np.log(0.75), np.log(0.75), -np.inf])


@each_kind
def test_log_q_is_that_of_the_mixture_of_all_columns(kinds: str) -> None:
    drawn, past = parts(kinds)
    of_pairs = len(ITEMS) * ("batch" in kinds) + 3 * ("past" in kinds)
    of_drawn = len(DRAWN) * ("drawn" in kinds)
    asked = [int(i) for part in (ITEMS, drawn, past) if part is not None for i in part]
    expected = [
        0.0
        if i < 0
        else np.log(
            (of_pairs * LIKED_CHANCE[i] + of_drawn * DRAWN_CHANCE[i]) / (of_pairs + of_drawn)
        )
        for i in asked
    ]
    made = columns(kinds).log_q(ITEMS, drawn, past)
    np.testing.assert_allclose(made, expected, rtol=1e-5)


def test_the_corrected_sum_over_mixed_columns_estimates_that_over_all_items() -> None:
    values = np.random.default_rng(1).random(GRAPH.num_items)
    rng, made = np.random.default_rng(2), columns("batch, drawn")
    liked = rng.choice(GRAPH.num_items, size=40_000, p=LIKED_CHANCE)
    drawn = rng.choice(GRAPH.num_items, size=20_000, p=DRAWN_CHANCE)
    weights = np.exp(-made.log_q(liked, drawn).astype(np.float64))
    reached = (LIKED_CHANCE + DRAWN_CHANCE) > 0
    estimate = (weights * values[np.concatenate([liked, drawn])]).mean()
    assert estimate == pytest.approx(values[reached].sum(), rel=0.03)


@each_kind
@pytest.mark.parametrize("accidental", [False, True])
def test_the_mask_is_what_plain_loops_give(kinds: str, accidental: bool) -> None:
    likes = GRAPH.matrix.toarray() > 0
    drawn, past = parts(kinds)

    def is_left_out(i: int, item: int) -> bool:
        return bool(item == ITEMS[i] or (accidental and likes[USERS[i], item]))

    expected = []
    for i, user in enumerate(USERS):
        row = []
        if "batch" in kinds:
            row += [i != j and is_left_out(i, item) for j, item in enumerate(ITEMS)]
        if drawn is not None:
            row += [bool(likes[user, item]) for item in drawn]
        if past is not None:
            row += [item < 0 or is_left_out(i, item) for item in past.tolist()]
        expected.append(row)
    made = columns(kinds, accidental=accidental).excluded(USERS, ITEMS, drawn, past)
    assert made.tolist() == expected
