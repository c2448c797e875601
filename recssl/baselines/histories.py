"""Training histories as the sparse matrices that the baselines multiply."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from recssl.metrics import count_entries, count_users
from recssl.retrieval import IntArray, ScoreArray


def binary(train: csr_array) -> csr_array:
    """Return `train` with every stored entry 1: the baselines ask whether, not how much.

    Indices are 32-bit where they fit, which halves the time of sparse products.
    """
    small = train.nnz < np.iinfo(np.int32).max
    indptr = np.asarray(train.indptr, np.int32 if small else np.int64)
    indices = np.asarray(train.indices, indptr.dtype)
    return csr_array((np.ones(train.nnz, np.float32), indices, indptr), shape=train.shape)


def inverse_root(counts: IntArray) -> NDArray[np.float64]:
    """Return `counts ** -0.5`, and 0 for a count of 0."""
    return np.where(counts > 0, 1 / np.sqrt(np.maximum(counts, 1)), 0.0)


def normalised(histories: csr_array) -> csr_array:
    """Return `D_U^-1/2 R D_I^-1/2` in float32, computed in float64; degrees are counts."""
    users = inverse_root(count_entries(histories))
    items = inverse_root(count_users(histories))
    rows = np.repeat(users, count_entries(histories))
    values = (rows * items[histories.indices]).astype(np.float32)
    return csr_array((values, histories.indices, histories.indptr), shape=histories.shape)


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

    def __init__(self, histories: csr_array, weights: csr_array | NDArray[np.float32]) -> None:
        """Take the histories and the weights, `[num_items, num_items]`, sparse or dense."""
        self._histories = histories
        self._weights = weights

    def scores(self, users: IntArray) -> ScoreArray:
        """See `recssl.retrieval.Scorer`."""
        product = self._histories[users] @ self._weights
        found: ScoreArray = product if isinstance(product, np.ndarray) else product.toarray()
        return found
