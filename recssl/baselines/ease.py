"""The linear item-item model with a closed form (EASE)."""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack
from scipy.sparse import csr_array

from recssl.baselines.histories import LinearScorer, co_occurrence
from recssl.matrices import binary
from sslcore.errors import ConfigError

_ROWS = 1024


def refusal(num_items: int, memory_gb: float) -> str | None:
    """Say why EASE is not fitted for so many items, None if it is."""
    needed = num_items**2 * 4 / 1e9
    if needed <= memory_gb:
        return None
    return (
        f"EASE holds items x items numbers, {needed:.1f} GB for {num_items} items,"
        f" which is more than baselines.memory_gb {memory_gb:g}"
    )


def fit(train: csr_array, *, l2: float = 250.0, memory_gb: float = 2.0) -> LinearScorer:
    """Find the item-item weights that best reproduce each history from its other items.

    With `P = (R^T R + l2 I)^-1`, the weights are `B = I - P / diag(P)`, column by column; the
    diagonal is 0. Time grows with the cube of the number of items.

    Args:
        train: `[num_users, num_items]`, canonical; weights do not matter.
        l2: Regularisation, above 0.
        memory_gb: Most that the matrix may take; one copy is held, in float32.

    Raises:
        ConfigError: The matrix does not fit, or `l2` is not positive.

    Source:
        Steck, "Embarrassingly shallow autoencoders for sparse data", WWW 2019, arXiv:1905.03375,
        equation 8.
    """
    reason = refusal(train.shape[1], memory_gb)
    if reason:
        raise ConfigError(f"{reason}; raise it, or leave ease out of the baselines")
    if l2 <= 0:
        raise ConfigError(f"expected l2 above 0, got {l2}")
    histories = binary(train)
    inverse = _inverse(_gram(histories), l2)
    weights = inverse
    weights /= -np.diagonal(inverse).copy()[None, :]
    np.fill_diagonal(weights, 0)
    return LinearScorer(histories, weights)


def _gram(histories: csr_array) -> NDArray[np.float32]:
    """Return `R^T R`, dense; in column order, so that LAPACK works on it without a copy."""
    num_items = histories.shape[1]
    gram = np.zeros((num_items, num_items), np.float32, order="F")
    for start, block in co_occurrence(histories):
        # symmetric: columns as good as rows, and contiguous
        for row in range(0, block.shape[0], _ROWS):
            part = block[row : row + _ROWS].toarray()
            gram[:, start + row : start + row + len(part)] = part.T
    return gram


def _inverse(gram: NDArray[np.float32], l2: float) -> NDArray[np.float32]:
    """Invert `gram + l2 I` in place."""
    diagonal = np.arange(len(gram))
    gram[diagonal, diagonal] += l2
    factor, failed = lapack.spotrf(gram, lower=1, overwrite_a=1)
    if failed:
        raise ConfigError(f"R^T R + l2 I is numerically singular at l2 {l2:g}; raise l2")
    inverse, _ = lapack.spotri(factor, lower=1, overwrite_c=1)
    for start in range(0, len(inverse), _ROWS):  # only the lower half is written so far
        stop = min(start + _ROWS, len(inverse))
        inverse[start:stop, stop:] = inverse[stop:, start:stop].T
        square = inverse[start:stop, start:stop]
        inverse[start:stop, start:stop] = np.tril(square) + np.tril(square, -1).T
    found: NDArray[np.float32] = inverse
    return found
