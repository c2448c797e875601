"""Intervals of means over users, by drawing the users again.

Equal seeds give equal draws. So two methods measured on the same users are paired, and the mean
of a difference in one resample is the difference of their means in it.

Source:
    Efron, Tibshirani, "An introduction to the bootstrap", 1993, chapter 13 (percentile interval).
"""

from collections.abc import Iterator

import numpy as np

from recssl.matrices import IntArray
from recssl.metrics import FloatArray

CONFIDENCE = (2.5, 97.5)  # percentiles of the interval

_CELLS = 2**21  # users times resamples at a time: 16 MB


def resampled_means(
    values: FloatArray, groups: IntArray, num_groups: int, *, count: int, seed: int
) -> FloatArray:
    """Average over users drawn with replacement: over all of them, and over each group.

    Args:
        values: `[users, columns]`.
        groups: Group of each user, `[users]`, from 0.
        num_groups: Groups, each with a user.
        count: Resamples.
        seed: Of the draws.

    Returns:
        `[count, 1 + num_groups, columns]`: all users first. A resample without any user of a group
        has the group's plain mean.
    """
    members = [np.flatnonzero(groups == group) for group in range(num_groups)]
    inside = [values[rows] for rows in members]
    plain = [rows.mean(0) for rows in inside]
    blocks = []
    for times in _draws(len(values), count, seed):
        means = [times @ values / len(values)]
        for rows, group_values, fallback in zip(members, inside, plain, strict=True):
            weights = times[:, rows]
            total = weights.sum(1, keepdims=True)
            sums = weights @ group_values
            means.append(np.where(total > 0, sums / np.maximum(total, 1), fallback))
        blocks.append(np.stack(means, axis=1))
    empty = np.zeros((0, 1 + num_groups, values.shape[1]))
    return np.concatenate([empty, *blocks])


def interval(value: float, resampled: FloatArray) -> dict[str, float | None]:
    """Return `value` with the 2.5th and 97.5th percentile of its resamples, None without any."""
    if not len(resampled):
        return {"value": value, "low": None, "high": None}
    low, high = np.percentile(resampled, CONFIDENCE)
    return {"value": value, "low": float(low), "high": float(high)}


def _draws(num_users: int, count: int, seed: int) -> Iterator[FloatArray]:
    """Yield how often each user was drawn, `[some resamples, num_users]`, `count` rows in all."""
    rng = np.random.default_rng(seed)
    block = max(1, _CELLS // num_users)
    for start in range(0, count, block):
        rows = min(block, count - start)
        picks = rng.integers(num_users, size=(rows, num_users))
        cells = picks + num_users * np.arange(rows)[:, None]
        times = np.bincount(cells.ravel(), minlength=num_users * rows)
        yield times.reshape(rows, num_users).astype(np.float64)
