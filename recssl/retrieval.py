"""Scores of users for items, and the best unseen items of each user.

Memory is bounded for any number of users and items: scores exist only for a block of users and,
for embeddings, a block of items.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array

from recssl.matrices import IntArray, row_entries
from sslcore.errors import DivergedError, ShapeError

ScoreArray = NDArray[np.float32]

BLOCK = 2**24  # scores held at once: 64 MB
_SPAN = 2**16  # items at once, where they can be taken in parts
_MOST_USERS = 4096


class Scorer(Protocol):
    """Anything that can say how well each item suits a user."""

    def scores(self, users: IntArray) -> ScoreArray:
        """Score all items for `users`, `[batch]`: `[batch, num_items]`, higher is better.

        The result is the caller's own, who may change it. An item of score `-inf` is never
        recommended.
        """
        ...


@runtime_checkable
class RangeScorer(Scorer, Protocol):
    """A scorer that can take the items in parts, so that their number does not matter."""

    def scores_between(self, users: IntArray, start: int, stop: int) -> ScoreArray:
        """Score the items `start` to `stop - 1` for `users`: `[batch, stop - start]`."""
        ...


class EmbeddingScorer:
    """Scores as inner products of embeddings."""

    def __init__(self, users: NDArray[Any], items: NDArray[Any]) -> None:
        """Take the embeddings as they are; nothing is normalised.

        Args:
            users: `[num_users, dim]`, float32; may be memory-mapped.
            items: `[num_items, dim]`, float32.

        Raises:
            ShapeError: They are not two matrices of one width.
        """
        if users.ndim != 2 or items.ndim != 2 or users.shape[1] != items.shape[1]:
            raise ShapeError(
                "expected embeddings [num_users, dim] and [num_items, dim] of one dim,"
                f" got {users.shape} and {items.shape}"
            )
        self._users = users
        self._items = items

    @property
    def shape(self) -> tuple[int, int]:
        """Number of users and of items."""
        return len(self._users), len(self._items)

    def scores(self, users: IntArray) -> ScoreArray:
        """See `Scorer`."""
        return self.scores_between(users, 0, len(self._items))

    def scores_between(self, users: IntArray, start: int, stop: int) -> ScoreArray:
        """See `RangeScorer`."""
        rows = np.asarray(self._users[users], np.float32)
        found: ScoreArray = rows @ np.asarray(self._items[start:stop], np.float32).T
        return found


@dataclass(frozen=True, slots=True)
class TopK:
    """The best items of some users.

    Attributes:
        items: `[users, k]`, best first, of equal scores the lower number first; -1 where a user
            has fewer than `k` unseen items.
        scores: `[users, k]`; `-inf` where the item is -1.
    """

    items: IntArray
    scores: ScoreArray


def top_k(scorer: Scorer, users: IntArray, seen: csr_array, k: int, *, block: int = BLOCK) -> TopK:
    """Find the `k` best items of each user among those it has not seen.

    Args:
        scorer: Of the same users and items as `seen`.
        users: User numbers, `[users]`, in any order.
        seen: `[num_users, num_items]`, canonical; its stored entries are never recommended, at
            whatever weight.
        k: Items per user; may exceed the number of items.
        block: Scores held at once, about.

    Returns:
        The same items for every `block`, up to the rounding of the scores.

    Raises:
        ShapeError: `k` is not positive, or the scorer gives another number of items than `seen`.
        DivergedError: A score is NaN or `+inf`.
    """
    if k < 1:
        raise ShapeError(f"expected k of 1 or more, got {k}")
    in_parts = isinstance(scorer, RangeScorer)
    span = max(1, min(seen.shape[1], _SPAN, block)) if in_parts else seen.shape[1]
    step = min(_MOST_USERS, max(1, block // max(span, 1)))
    blocks = [
        _block_top_k(scorer, users[start : start + step], seen, k, span)
        for start in range(0, len(users), step)
    ]
    blocks = blocks or [_nothing(0, k)]
    return TopK(
        np.concatenate([found.items for found in blocks]),
        np.concatenate([found.scores for found in blocks]),
    )


def _block_top_k(scorer: Scorer, users: IntArray, seen: csr_array, k: int, span: int) -> TopK:
    rows, columns = row_entries(seen, users)
    num_items = seen.shape[1]
    best = _nothing(len(users), k)
    for start in range(0, num_items, span):
        stop = min(start + span, num_items)
        scores = _scores(scorer, users, start, stop, num_items)
        if (start, stop) == (0, num_items):
            scores[rows, columns] = -np.inf
        else:
            inside = (columns >= start) & (columns < stop)
            scores[rows[inside], columns[inside] - start] = -np.inf
        best = _merged(best, _best_of(scores, start, k))
    return best


def _scores(scorer: Scorer, users: IntArray, start: int, stop: int, num_items: int) -> ScoreArray:
    if isinstance(scorer, RangeScorer) and stop - start < num_items:
        scores = scorer.scores_between(users, start, stop)
    else:
        scores = scorer.scores(users)
    if scores.shape != (len(users), stop - start):
        raise ShapeError(
            f"expected scores [{len(users)}, {stop - start}] for {num_items} items,"
            f" got {list(scores.shape)}"
        )
    return scores


def _best_of(scores: ScoreArray, first_item: int, k: int) -> TopK:
    """Find the best columns of each row; `first_item` is the number of the first column."""
    count = scores.shape[1]
    taken = min(k + 1, count)  # one more, to see whether a tie crosses the edge
    values, columns = torch.from_numpy(scores).topk(taken, dim=1)
    best, items = values.numpy(), columns.numpy()
    if not (best < np.inf).all():  # topk puts NaN first
        raise DivergedError("a score is NaN or infinite; the embeddings or weights are not finite")
    if taken > k:
        edge = best[:, k - 1]
        for row in np.flatnonzero((best[:, k] == edge) & (edge > -np.inf)):
            items[row, :k] = _first_of_ties(scores[row], edge[row], k)
        items = items[:, :k]
        best = np.take_along_axis(scores, items, axis=1)
    return TopK(np.where(best > -np.inf, items + first_item, -1), best)


def _first_of_ties(row: ScoreArray, edge: np.float32, k: int) -> IntArray:
    """Return the `k` best columns of a row where several of score `edge` compete for the rest."""
    above = np.flatnonzero(row > edge)
    return np.concatenate([above, np.flatnonzero(row == edge)[: k - len(above)]])


def _merged(one: TopK, other: TopK) -> TopK:
    k = one.items.shape[1]
    items = np.concatenate([one.items, other.items], axis=1)
    scores = np.concatenate([one.scores, other.scores], axis=1)
    order = np.lexsort((items, -scores), axis=1)[:, :k]
    return TopK(np.take_along_axis(items, order, 1), np.take_along_axis(scores, order, 1))


def _nothing(users: int, k: int) -> TopK:
    return TopK(np.full((users, k), -1, np.int64), np.full((users, k), -np.inf, np.float32))
