"""Where an image lies in the patient, and among the others of its series."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

UNKNOWN = -1
MOST_MM = 1e6  # of a position or a spacing: what is farther off is in no patient, and overflows
LEAST_MM = 1e-6  # of a spacing
_LONGEST = 1.1  # of a direction that should be 1 long
_RIGHT_ANGLE = 0.01  # cosine up to which two directions are at right angles

Vector = tuple[float, float, float]


class Plane(NamedTuple):
    """A plane in the patient. Vectors point to the left, to the back, to the head: LPS.

    Attributes:
        position: Centre of the first pixel, mm.
        right: Towards the next column, 1 long.
        down: Towards the next row, 1 long.
    """

    position: Vector
    right: Vector
    down: Vector


class Moment(NamedTuple):
    """The place of an image in the order of its series; -1 where the file does not say."""

    temporal: int = UNKNOWN
    acquisition: int = UNKNOWN
    number: int = UNKNOWN


@dataclass(frozen=True, slots=True)
class Place:
    """What sorts images into volumes.

    Attributes:
        moment: Place in the order of the series.
        plane: None where the file gives an order without a geometry.
        stack: What images of one volume have in common beside the series: frame of reference,
            echo, kind of image and the like, in clear. None for an image that is no slice of a
            volume: a localiser.
    """

    moment: Moment
    plane: Plane | None = None
    stack: tuple[str, ...] | None = ()


def plane_of(position: ArrayLike, right: ArrayLike, down: ArrayLike) -> Plane | None:
    """Return a plane; None if the directions are none or not at right angles, or it is far off."""
    place = np.asarray(position, np.float64)
    sides = np.stack([np.asarray(right, np.float64), np.asarray(down, np.float64)])
    if not ((np.abs(place) <= MOST_MM).all() and (np.abs(sides) <= _LONGEST).all()):  # also NaN
        return None
    lengths = np.linalg.norm(sides, axis=1)
    if lengths.min() < 1 / _LONGEST or lengths.max() > _LONGEST:
        return None
    sides /= lengths[:, None]
    if abs(float(sides[0] @ sides[1])) > _RIGHT_ANGLE:
        return None
    return Plane(_vector(place), _vector(sides[0]), _vector(sides[1]))


def is_spacing(*sides_mm: float) -> bool:
    """Tell whether all are distances that pixels or slices can have."""
    return all(LEAST_MM <= side <= MOST_MM for side in sides_mm)


def _vector(values: NDArray[np.float64]) -> Vector:
    first, second, third = values.tolist()
    return first, second, third
