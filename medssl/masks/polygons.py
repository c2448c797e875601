"""Closed contours as pixels."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

_AT_ONCE = 1 << 20  # crossings


def fill(contours: Iterable[NDArray[np.float64]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the pixels whose centres lie in an odd number of contours: a hole is a second one.

    Args:
        contours: Row and column of each corner, `[corners, 2]`, the last joined with the first;
            centres of pixels have whole numbers.
        shape: Rows and columns.
    """
    rows, columns = shape
    turns = np.zeros((rows, columns + 1), np.int64)
    for corners in contours:
        for part in _edges(corners, rows):
            _count(part, turns)
    return np.asarray(turns.cumsum(axis=1)[:, :columns] % 2 == 1)


def _edges(corners: NDArray[np.float64], rows: int) -> Iterable[NDArray[np.float64]]:
    """Give edges that cross rows of pixels, `[edges, 4]`, upper end first, so many at a time."""
    ends = np.concatenate([corners, np.roll(corners, -1, axis=0)], axis=1)
    ends = np.where((ends[:, :1] <= ends[:, 2:3]), ends, ends[:, [2, 3, 0, 1]])
    ends = ends[(np.ceil(ends[:, 0]) < np.ceil(ends[:, 2])) & (ends[:, 2] > 0)]
    step = max(1, _AT_ONCE // max(rows, 1))
    for first in range(0, len(ends), step):
        yield ends[first : first + step]


def _count(ends: NDArray[np.float64], turns: NDArray[np.int64]) -> None:
    """Count, for each row, where an edge crosses it: the first pixel right of the edge."""
    rows, columns = turns.shape[0], turns.shape[1] - 1
    first = np.clip(np.ceil(ends[:, 0]), 0, rows).astype(np.int64)
    last = np.clip(np.ceil(ends[:, 2]), 0, rows).astype(np.int64)
    crossed = last - first
    edge = np.repeat(np.arange(len(ends)), crossed)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(crossed) - crossed, crossed) + first[edge]
    top, left, bottom, right = ends[edge].T
    column = left + (row - top) / (bottom - top) * (right - left)
    place = np.clip(np.ceil(column), 0, columns).astype(np.int64)
    np.add.at(turns, (row, place), 1)
