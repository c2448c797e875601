"""Which of many samples to show."""

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def evenly(count: int, most: int) -> IntArray:
    """Return at most `most` of the numbers below `count`, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def apart(points: FloatArray, *, distance: float, most: int) -> list[int]:
    """Choose points of which no two are nearer than `distance` in both directions.

    They are taken in the order of a fixed shuffle, so that dense and thin regions both show.
    """
    chosen: list[int] = []
    for index in np.random.default_rng(0).permutation(len(points)):
        gaps = np.abs(points[chosen] - points[index]).max(1)
        if not chosen or gaps.min() >= distance:
            chosen.append(int(index))
            if len(chosen) == most:
                break
    return chosen


def in_turns(groups: NDArray[np.generic], most: int) -> list[int]:
    """Choose `most` samples, from each group in turn, evenly spaced within it.

    Args:
        groups: Number or name of each sample's group, `[samples]`.
        most: Samples, if there are as many.
    """
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    turns = -(-most // max(1, len(members)))
    places = (np.arange(turns) + 0.5) / turns
    picks = [np.unique(rows[(places * len(rows)).astype(np.int64)]) for rows in members]
    chosen = [int(rows[turn]) for turn in range(turns) for rows in picks if turn < len(rows)]
    return chosen[:most]
