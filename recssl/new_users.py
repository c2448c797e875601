"""Users of whom nothing was learnt, but something is known.

A split by users keeps an earlier part of each held-out user's history, the `support`; a user whom
a split by time meets first in valid is known from there when test is measured. Whatever scores
such a user does it from these items, never by a row that was not trained.
"""

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array


@runtime_checkable
class ScoresNewUsers(Protocol):
    """A scorer that can be told what is known of users it has learnt nothing of.

    Attributes:
        new_users: How it then scores them, in words.
    """

    new_users: str

    def with_known(self, known: csr_array) -> "ScoresNewUsers":
        """Return the same model, where users without a learnt interaction have these histories.

        Args:
            known: `[num_users, num_items]`; rows of users who were learnt from are not looked at.
        """
        ...

    def scores(self, users: NDArray[np.int64]) -> NDArray[np.float32]:
        """See `recssl.retrieval.Scorer`."""
        ...


def keep_rows(matrix: csr_array, keep: NDArray[np.bool_]) -> csr_array:
    """Return a matrix of the same shape in which only some rows have entries.

    Args:
        matrix: `[rows, columns]`, canonical.
        keep: `[rows]`.
    """
    lengths = np.diff(matrix.indptr)
    indptr = np.zeros_like(np.asarray(matrix.indptr))
    np.cumsum(np.where(keep, lengths, 0), out=indptr[1:])
    chosen = np.repeat(keep, lengths)
    return csr_array((matrix.data[chosen], matrix.indices[chosen], indptr), shape=matrix.shape)


def unlearnt(known: csr_array, learnt: csr_array) -> csr_array:
    """Return `known` without the rows of users who have an entry in `learnt`."""
    return keep_rows(known, np.diff(learnt.indptr) == 0)


def support_of(part: csr_array, support: csr_array) -> csr_array:
    """Return the rows of `support` whose users have an entry in `part`."""
    return keep_rows(support, np.diff(part.indptr) > 0)
