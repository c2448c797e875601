"""What a data set looks like, in numbers: density, popularity, lengths of histories."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

_TOP_SHARES = (0.001, 0.01, 0.05, 0.1, 0.2, 0.5)
_QUANTILES = {"min": 0.0, "q25": 0.25, "median": 0.5, "q75": 0.75, "q99": 0.99, "max": 1.0}


def summarise(parts: Mapping[str, csr_array]) -> dict[str, Any]:
    """Describe the parts of a data set, for `dataset.json`.

    Args:
        parts: Name to matrix `[users, items]`, all of one shape; one is called `train`.

    Returns:
        `counts` per part; and under `summary` the density of all parts together, and of train the
        popularity of items (share of the interactions that the most popular ones hold, and their
        Gini coefficient) and the lengths of users' histories.
    """
    train = parts["train"]
    popularity = np.bincount(train.indices, minlength=train.shape[1])
    histories = np.diff(train.indptr)
    total = sum(matrix.nnz for matrix in parts.values())
    return {
        "counts": {name: _counts(matrix) for name, matrix in parts.items()},
        "summary": {
            "density": total / max(1, train.shape[0] * train.shape[1]),
            "popularity": {
                "top_shares": _top_shares(popularity),
                "gini": gini(popularity),
                "interactions_per_item": _spread(popularity[popularity > 0]),
            },
            "history_lengths": _spread(histories[histories > 0]),
        },
    }


def gini(counts: NDArray[np.int64]) -> float:
    """Return how unevenly interactions fall on items: 0 all alike, towards 1 all on one.

    Args:
        counts: Interactions of each item, `[items]`, items without any among them.

    Source:
        Gini, "Variabilità e mutabilità", 1912, as the sum over ordered counts.
    """
    total = int(counts.sum())
    if total == 0:
        return 0.0
    rising = np.sort(counts)
    ranks = np.arange(1, len(rising) + 1)
    return float((2 * ranks - len(rising) - 1) @ rising / (len(rising) * total))


def _counts(matrix: csr_array) -> dict[str, int]:
    return {
        "interactions": int(matrix.nnz),
        "users": int(np.count_nonzero(np.diff(matrix.indptr))),
        "items": int(
            np.count_nonzero(np.bincount(matrix.indices, minlength=max(1, matrix.shape[1])))
        ),
    }


def _top_shares(counts: NDArray[np.int64]) -> dict[str, float]:
    total = max(1, int(counts.sum()))
    held = np.concatenate([[0], np.cumsum(np.sort(counts)[::-1])])
    return {
        f"{share:g}": float(held[int(np.ceil(share * len(counts)))] / total)
        for share in _TOP_SHARES
    }


def _spread(values: NDArray[np.int64]) -> dict[str, float]:
    if len(values) == 0:
        return {}
    spread = {name: float(np.quantile(values, q)) for name, q in _QUANTILES.items()}
    return spread | {"mean": float(values.mean())}
