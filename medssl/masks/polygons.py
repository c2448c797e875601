"""Closed contours as pixels."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

_AT_ONCE = 1 << 20  # crossings
_ON_LINE = 0.01  # px: corners are often written in hundredths of a millimetre

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def fill(contours: Iterable[Floats], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the pixels whose centres lie in an odd number of contours, or on one of them.

    So a hole is a second contour. And so both ways to draw around pixels of a mask give the mask
    again: along their edges, and through the centres of the outermost, which belong to it, also at
    a hole.

    Args:
        contours: Row and column of each corner, `[corners, 2]`, the last joined with the first;
            centres of pixels have whole numbers.
        shape: Rows and columns.

    Source:
        Suzuki, Abe, "Topological structural analysis of digitized binary images by border
        following", CVGIP 1985: borders are pixels of the structure. Programs that write them as
        contours: https://github.com/qurit/rt-utils/pull/141.
    """
    rows, columns = shape
    turns = np.zeros((rows, columns + 1), np.int64)
    touched = np.zeros(shape, np.bool_)
    for corners in contours:
        edges = np.concatenate([corners, np.roll(corners, -1, axis=0)], axis=1)
        _count(_downwards(edges), turns)
        _mark(edges, touched)
        _mark(edges[:, [1, 0, 3, 2]], touched.T)
    return np.asarray((turns.cumsum(axis=1)[:, :columns] % 2 == 1) | touched)


def _downwards(edges: Floats) -> Floats:
    """Turn edges, `[edges, 4]`, so that the upper end is the first."""
    return np.where((edges[:, :1] <= edges[:, 2:3]), edges, edges[:, [2, 3, 0, 1]])


def _count(edges: Floats, turns: Integers) -> None:
    """Count, for each row, where an edge crosses it: the first pixel right of the edge."""
    rows, columns = turns.shape[0], turns.shape[1] - 1
    for ends, row in _crossings(edges, np.ceil(edges[:, 0]), np.ceil(edges[:, 2]), rows):
        place = np.clip(np.ceil(_columns_at(ends, row)), 0, columns).astype(np.int64)
        np.add.at(turns, (row, place), 1)


def _mark(edges: Floats, touched: NDArray[np.bool_]) -> None:
    """Mark the pixels whose centres lie on edges that go down no less than they go across."""
    rows, columns = touched.shape
    steep = np.abs(edges[:, 2] - edges[:, 0]) >= np.abs(edges[:, 3] - edges[:, 1])
    edges = _downwards(edges[steep])
    first, end = np.ceil(edges[:, 0] - _ON_LINE), np.floor(edges[:, 2] + _ON_LINE) + 1
    for ends, row in _crossings(edges, first, end, rows):
        column = _columns_at(ends, row)
        near = np.rint(column)
        hit = (np.abs(column - near) <= _ON_LINE) & (near >= 0) & (near < columns)
        touched[row[hit], near[hit].astype(np.int64)] = True


def _crossings(
    edges: Floats, first: Floats, end: Floats, rows: int
) -> Iterator[tuple[Floats, Integers]]:
    """Give edges, `[crossings, 4]`, and each row from `first` to before `end`, so many at once."""
    begin = np.clip(first, 0, rows).astype(np.int64)
    count = np.clip(end, 0, rows).astype(np.int64) - begin
    crossing = np.flatnonzero(count > 0)
    step = max(1, _AT_ONCE // max(rows, 1))
    for part in np.split(crossing, range(step, len(crossing), step)):
        edge = np.repeat(part, count[part])
        before = np.repeat(np.cumsum(count[part]) - count[part], count[part])
        yield edges[edge], np.arange(len(edge)) - before + begin[edge]


def _columns_at(edges: Floats, row: Integers) -> Floats:
    """Return the column of each edge in a row; beyond its ends, that of the end."""
    top, left, bottom, right = edges.T
    high = bottom - top
    share = np.divide(row - top, high, out=np.zeros_like(high), where=high > 0)
    return np.asarray(left + share.clip(0, 1) * (right - left))
