"""Which of several volumes a parallel slice belongs to, by moments and by the steps that remain.

Moments (temporal position, acquisition) tell the volumes of a series apart, but not every change of
them does: some scanners number each slice as an acquisition of its own, others take one volume in
two acquisitions. So a way to take slices apart is believed where the steps in all parts are even.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from medssl.volumes.planes import Floats, Ints, levels_of, steps_between


def label_volumes(distances: Floats, moments: NDArray[np.int32]) -> Ints:
    """Return the number of the volume of each slice, so that none has two at one place.

    Args:
        distances: Along the normal, mm, `[slices]`.
        moments: As in the manifest, `[slices, 3]`.
    """
    levels = levels_of(distances)
    ways = [labels for labels in _ways(moments) if _is_possible(labels, levels)]
    for labels in ways:
        if all(_is_even(distances[labels == label]) for label in range(labels.max() + 1)):
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


def _is_even(distances: Floats) -> bool:
    return len(distances) < 3 or steps_between(np.sort(distances)).are_even


def _dealt(levels: Ints, moments: NDArray[np.int32]) -> Ints:
    """Deal out the slices at each place, in the order of their moments."""
    order = np.lexsort((*moments.T[::-1], levels))
    firsts = np.searchsorted(levels[order], levels[order], side="left")
    ranks = np.empty(len(levels), np.int64)
    ranks[order] = np.arange(len(levels)) - firsts
    return ranks
