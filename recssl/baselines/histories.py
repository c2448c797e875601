"""Training histories as the sparse matrices that the baselines multiply."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from recssl.matrices import IntArray, count_entries, union
from recssl.new_users import unlearnt
from recssl.retrieval import ScoreArray


def co_occurrence(
    histories: csr_array, *, products: int = 2**25
) -> Iterator[tuple[int, csr_array]]:
    """Count for each pair of items how many users have both, a block of items at a time.

    Args:
        histories: See `binary`.
        products: Multiplications, and so at most entries, of one block, about.

    Yields:
        The number of the first item, and `[items of the block, num_items]`, canonical.
    """
    transposed = histories.T.tocsr()
    cost = np.cumsum(transposed @ count_entries(histories).astype(np.float64))
    start = 0
    while start < len(cost):
        spent = cost[start - 1] if start else 0.0
        stop = max(start + 1, int(np.searchsorted(cost, spent + products, side="right")))
        block = transposed[start:stop] @ histories
        block.sort_indices()
        yield start, block
        start = stop


class LinearScorer:
    """Scores of a linear model of the histories: `R[users] @ weights`."""

    new_users = "from their known items"

    def __init__(self, histories: csr_array, weights: csr_array | NDArray[np.float32]) -> None:
        """Take the histories and the weights, `[num_items, num_items]`, sparse or dense."""
        self._histories = histories
        self._weights = weights

    def scores(self, users: IntArray) -> ScoreArray:
        """See `recssl.retrieval.Scorer`."""
        product = self._histories[users] @ self._weights
        found: ScoreArray = product if isinstance(product, np.ndarray) else product.toarray()
        return found

    def with_known(self, known: csr_array) -> "LinearScorer":
        """See `recssl.new_users.ScoresNewUsers`."""
        return LinearScorer(filled(self._histories, known), self._weights)


def filled(histories: csr_array, known: csr_array) -> csr_array:
    """Return `histories` with the rows of `known` where they have none, every entry 1."""
    return union(histories, unlearnt(known, histories))
