"""Parallel planes: how far they lie along their normal, and whether their steps are even."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SAME_PLACE_MM = 0.01  # along the normal; scanners round positions to less
UNEVEN = 0.05  # of the usual step
GAP = 1.5  # times the usual step


class Steps(NamedTuple):
    """The distances from slice to slice.

    Attributes:
        usual: The median, mm.
        missing: Slices that gaps leave out.
        uneven_mm: The largest difference of a step from the usual one, gaps left out.
    """

    usual: float
    missing: int
    uneven_mm: float

    @property
    def are_even(self) -> bool:
        """Whether nothing is to be told of them."""
        return not self.missing and self.uneven_mm <= UNEVEN * self.usual


def along_normal(planes: Floats) -> Floats:
    """Return how far parallel planes, `[planes, 9]`, lie along their normal, mm, `[planes]`."""
    right, down = planes[:, 3:6].mean(axis=0), planes[:, 6:9].mean(axis=0)
    normal = np.cross(right, down)
    distances: Floats = planes[:, :3] @ (normal / np.linalg.norm(normal))
    return distances


def steps_between(distances: Floats) -> Steps:
    """Measure the steps between two or more distances in rising order."""
    steps = np.diff(distances)
    usual = float(np.median(steps))
    is_gap = steps > GAP * usual
    missing = int((np.rint(steps[is_gap] / usual) - 1).sum())
    return Steps(usual, missing, float(np.abs(steps[~is_gap] - usual).max(initial=0.0)))


def levels_of(distances: Floats) -> Ints:
    """Return the number of the place of each plane, from 0, in the order of the places."""
    order = np.argsort(distances, kind="stable")
    is_new = np.diff(distances[order], prepend=distances[order[:1]]) > SAME_PLACE_MM
    levels = np.empty(len(distances), np.int64)
    levels[order] = np.cumsum(is_new)
    return levels
