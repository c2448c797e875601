"""A last column of stored embeddings that adds popularity to the score.

A loss with in-batch negatives learns `log p(item | user) - log p(item)`, since it meets its
negatives by popularity. With a temperature `t`, adding `t * log p(item)` to the scores gives the
order of `p(item | user)` back. As a column, 1 for users and that number for items, the score stays
one inner product. Fold-in and similarity look at the other columns.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from recssl.fold_in import FloatMatrix, FoldIn, RidgeFoldIn
from recssl.matrices import IntArray, count_entries
from recssl.settings.export import FoldInConfig


def log_popularity(counts: IntArray, weight: float) -> NDArray[np.float32]:
    """Return `weight * log(count)`, and 0 for a count of 0: the constant of `p` plays no part."""
    column: NDArray[np.float32] = (weight * np.log(np.maximum(counts, 1))).astype(np.float32)
    return column


def beside(rows: FloatMatrix, column: NDArray[np.float32]) -> FloatMatrix:
    """Append `column`, `[rows]`, to `rows`, `[rows, dim]`."""
    return np.concatenate([rows, column[:, None]], axis=1, dtype=np.float32)


def taste(rows: FloatMatrix, weight: float) -> FloatMatrix:
    """Return stored `rows` without the column of popularity, which `weight` 0 says is not there."""
    return rows[:, :-1] if weight else rows


class FoldInBeside:
    """Folds in all columns but the last, which it computes.

    Rows that no neighbour is known of stay zero in all columns.
    """

    def __init__(
        self,
        inner: FoldIn,
        column: Callable[[csr_array], NDArray[np.float32]],
        *,
        length: float | None = None,
    ) -> None:
        """Prepare.

        Args:
            inner: For the columns before the last.
            column: From histories to the last column, `[rows]`.
            length: To bring the other columns to, since the last one weighs by it; None leaves
                them as they are.
        """
        self._inner = inner
        self._column = column
        self._length = length

    def embed(self, histories: csr_array) -> FloatMatrix:
        """See `FoldIn`."""
        rows = self._inner.embed(histories)
        lengths = np.linalg.norm(rows, axis=1)
        known = lengths > 0
        if self._length is not None:
            rows[known] *= (self._length / lengths[known])[:, None]
        return beside(rows, np.where(known, self._column(histories), np.float32(0)))


def ones(histories: csr_array) -> NDArray[np.float32]:
    """Return the column of users, `[rows]`."""
    return np.ones(histories.shape[0], np.float32)


def ridge_users(
    learnt: csr_array,
    users: FloatMatrix,
    items: FloatMatrix,
    settings: FoldInConfig,
    *,
    popularity: float,
) -> FoldIn:
    """Prepare to embed users from their items by least squares.

    Args:
        learnt: What the run learnt from, `[users, items]`.
        users: Their taste, `[num_users, dim]`.
        items: Their taste, `[num_items, dim]`.
        settings: Of the least squares.
        popularity: Weight in the column that is added; 0 for no column.
    """
    moved = RidgeFoldIn(learnt, items, unseen=settings.unseen, shrinkage=settings.shrinkage)
    if not popularity:
        return moved
    trained = np.linalg.norm(users[count_entries(learnt) > 0], axis=1)
    length = float(trained.mean()) if len(trained) else 1.0
    return FoldInBeside(moved, ones, length=length)
