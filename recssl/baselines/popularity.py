"""The most popular items for everybody."""

from typing import Self

import numpy as np
from scipy.sparse import csr_array

from recssl.matrices import IntArray, count_users
from recssl.retrieval import ScoreArray


class PopularityScorer:
    """The same scores for all users."""

    new_users = "like all users"

    def __init__(self, popularity: IntArray) -> None:
        """Take the number of users of each item, `[num_items]`."""
        self._scores = popularity.astype(np.float32)

    def scores(self, users: IntArray) -> ScoreArray:
        """See `recssl.retrieval.Scorer`."""
        return np.tile(self._scores, (len(users), 1))

    def with_known(self, known: csr_array) -> Self:
        """See `recssl.new_users.ScoresNewUsers`."""
        return self


def fit(train: csr_array) -> PopularityScorer:
    """Score each item by the number of its users.

    Args:
        train: `[num_users, num_items]`, canonical; weights do not matter.
    """
    return PopularityScorer(count_users(train))
