"""Items similar to those of the user's history."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from recssl.baselines.histories import LinearScorer, co_occurrence
from recssl.matrices import IntArray, binary, count_users
from sslcore.errors import ConfigError


def fit(train: csr_array, *, neighbours: int = 100, shrink: float = 10.0) -> LinearScorer:
    """Score an item by the summed similarity of its nearest items that the user has.

    The similarity of two items is `both / (sqrt(n_i n_j) + shrink)`, with `both` the number of
    users who have both, and `n` those who have one.

    Args:
        train: `[num_users, num_items]`, canonical; weights do not matter.
        neighbours: Kept for each item that is scored; of equally similar ones the lower numbers.
        shrink: Pulls similarities that rest on few users towards 0; 0 is the plain cosine.

    Raises:
        ConfigError: `neighbours` below 1, or a negative `shrink`.

    Source:
        Deshpande, Karypis, "Item-based top-n recommendation algorithms", TOIS 2004, section 4,
        with the neighbours chosen per scored item and the shrinkage of Bell, Koren (ICDM 2007) as
        in Ferrari Dacrema, Cremonesi, Jannach, "Are we really making much progress?", RecSys 2019,
        arXiv:1907.06902.
    """
    if neighbours < 1 or shrink < 0:
        raise ConfigError(
            f"expected neighbours of 1 or more and shrink of 0 or more, got {neighbours}, {shrink}"
        )
    histories = binary(train)
    root = np.sqrt(count_users(histories).astype(np.float64))
    kept = [
        _nearest(block, start, root, neighbours, shrink)
        for start, block in co_occurrence(histories)
    ]
    counts = np.concatenate([counts for counts, _, _ in kept] or [np.zeros(0, np.int64)])
    indptr = np.concatenate([[0], np.cumsum(counts)])
    columns = np.concatenate([columns for _, columns, _ in kept] or [np.zeros(0, np.int32)])
    values = np.concatenate([values for _, _, values in kept] or [np.zeros(0, np.float32)])
    shape = (train.shape[1], train.shape[1])
    by_target = csr_array((values, columns, indptr), shape=shape)
    return LinearScorer(histories, by_target.T.tocsr())


def _nearest(
    block: csr_array, first: int, root: NDArray[np.float64], neighbours: int, shrink: float
) -> tuple[IntArray, IntArray, NDArray[np.float32]]:
    """Keep the nearest other items of each row: their counts, columns and similarities."""
    lengths = np.diff(block.indptr)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    similar = block.data / (root[first + rows] * root[block.indices] + shrink)
    similar = np.where(block.indices == first + rows, 0.0, similar).astype(np.float32)
    kept = []
    for start, stop in zip(block.indptr[:-1], block.indptr[1:], strict=True):
        kept.append(start + _largest(similar[start:stop], neighbours))
    counts = np.array([len(entries) for entries in kept], np.int64)
    entries = np.concatenate(kept)
    return counts, block.indices[entries], similar[entries]


def _largest(values: NDArray[np.float32], count: int) -> IntArray:
    """Return the positions of the `count` largest positive values, of equal ones the first."""
    if len(values) <= count:
        return np.flatnonzero(values > 0)
    edge = np.partition(values, len(values) - count)[len(values) - count]
    above = np.flatnonzero(values > edge)
    if edge <= 0:
        return above
    return np.sort(np.append(above, np.flatnonzero(values == edge)[: count - len(above)]))
