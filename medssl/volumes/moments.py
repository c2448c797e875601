"""Which of several volumes a parallel slice belongs to, by moments and by the steps that remain.

Moments (temporal position, acquisition) tell the volumes of a series apart, but not every change of
them does: some scanners number each slice, or each turn of the tube, as an acquisition of its own,
others take one volume in two acquisitions. So a way to take slices apart is believed where the
steps in all parts are even; and, if all slices could be one volume, only if temporal positions
tell, or long parts stand apart. A volume with a gap stays one volume, and its gap is told.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from medssl.sources.place import UNKNOWN
from medssl.volumes.planes import GAP, Floats, Ints, levels_of, steps_between

_FEWEST = 5  # slices of a part that may stand apart
_NEARLY_EVEN = 0.2  # of the usual step; two halves of one volume that was taken in turns


def label_volumes(distances: Floats, moments: NDArray[np.int32]) -> Ints:
    """Return the number of the volume of each slice, so that none has two at one place.

    Args:
        distances: Along the normal, mm, `[slices]`.
        moments: As in the manifest, `[slices, 3]`.
    """
    levels = levels_of(distances)
    ways = [labels for labels in _ways(moments) if _is_possible(labels, levels)]
    if levels.max() + 1 == len(levels):  # all could be one volume
        is_told = bool((moments[:, 0] != UNKNOWN).any())
        ways = [
            labels
            for labels in ways
            if is_told or labels.max() == 0 or _stand_apart(distances, labels)
        ]
    for labels in ways:
        if all(_is_even(part) for part in _parts(distances, labels)):
            return labels
    return ways[0] if ways else _dealt(levels, moments)


def _ways(moments: NDArray[np.int32]) -> Iterator[Ints]:
    """Yield ways to take slices apart, the surest first; none tells slices of one moment apart."""
    temporal, acquisition = moments[:, 0], moments[:, 1]
    together = np.zeros_like(temporal)
    for told in ((temporal,), (together,), (acquisition,), (temporal, acquisition)):
        _, labels = np.unique(np.stack(told, axis=1), axis=0, return_inverse=True)
        yield labels.reshape(-1).astype(np.int64)


def _is_possible(labels: Ints, levels: Ints) -> bool:
    """Refuse two slices at one place, and parts of one slice unless there are as few as can be."""
    sizes = np.bincount(labels)
    if sizes.min() < 2 and len(sizes) > np.bincount(levels).max():
        return False
    places = labels * (levels.max() + 1) + levels
    return len(np.unique(places)) == len(levels)


def _parts(distances: Floats, labels: Ints) -> list[Floats]:
    """Return the distances of each part in rising order."""
    return [np.sort(distances[labels == label]) for label in range(labels.max() + 1)]


def _stand_apart(distances: Floats, labels: Ints) -> bool:
    """Tell long parts that overlap, or do not go on in each other, from the pieces of one."""
    parts = sorted(_parts(distances, labels), key=lambda part: float(part[0]))
    if min(map(len, parts)) < _FEWEST:
        return False
    whole = steps_between(np.sort(distances))
    if not whole.missing and whole.uneven_mm <= _NEARLY_EVEN * whole.usual:
        return False
    steps = [steps_between(part).usual for part in parts]
    gaps = [float(after[0] - before[-1]) for before, after in pairwise(parts)]
    return all(
        gap < 0 or max(gap, *pair) > GAP * min(pair)
        for gap, pair in zip(gaps, pairwise(steps), strict=True)
    )


def _is_even(distances: Floats) -> bool:
    return len(distances) < 3 or steps_between(np.sort(distances)).are_even


def _dealt(levels: Ints, moments: NDArray[np.int32]) -> Ints:
    """Deal out the slices at each place, in the order of their moments.

    Where a place has fewer slices than others, each goes where its number fits: numbers follow the
    places in a line, whether the scanner counted through a volume first or through a place.
    """
    order = np.lexsort((*moments.T[::-1], levels))
    firsts = np.searchsorted(levels[order], levels[order], side="left")
    ranks = np.empty(len(levels), np.int64)
    ranks[order] = np.arange(len(levels)) - firsts
    counts = np.bincount(levels)
    is_full = counts == counts.max()
    numbers = moments[:, 2].astype(np.float64)
    if is_full.all() or is_full.sum() < 2 or UNKNOWN in numbers:
        return ranks
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415, as long as a second scan

    lines = [
        np.polyfit(levels[own], numbers[own], 1)
        for own in (is_full[levels] & (ranks == rank) for rank in range(counts.max()))
    ]
    for level in np.flatnonzero(~is_full):
        here = np.flatnonzero(levels == level)
        expected = np.array([np.polyval(line, level) for line in lines])
        slices, volumes = linear_sum_assignment(np.abs(numbers[here, None] - expected))
        ranks[here[slices]] = volumes
    return ranks
