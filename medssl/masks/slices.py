"""The slice of an image that a mask is wanted for."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from medssl.sources.place import Plane

_SAME_PLACE = 0.1  # of a pixel
_SAME_END = 0.5  # of a pixel, at far corners, where roundings of the spacing add up


class Slice(NamedTuple):
    """One image of a manifest, as far as its mask has to fit it.

    Attributes:
        path: As the manifest has it.
        frame: From 0.
        frames: In the file.
        rows: px.
        columns: px.
        plane: In the patient, or None.
        spacing_mm: Between slices, rows and columns; None where unknown.
        masks: Paths of the files that hold its structures.
    """

    path: str
    frame: int
    frames: int
    rows: int
    columns: int
    plane: Plane | None
    spacing_mm: tuple[float | None, float | None, float | None]
    masks: tuple[str, ...]

    @property
    def key(self) -> tuple[str, int]:
        """Which image it is."""
        return self.path, self.frame

    @property
    def is_placed(self) -> bool:
        """Whether its pixels have a place in the patient."""
        return self.plane is not None and all(self.spacing_mm[1:])

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.rows, self.columns

    def in_pixels(self, points: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Return points in the patient as row, column and mm off the plane, `[points, 3]`.

        Args:
            points: LPS, mm, `[points, 3]`.

        Returns:
            Centres of pixels have whole numbers; None if the image has no plane or no spacing.
        """
        between_rows, between_columns = self.spacing_mm[1:]
        if self.plane is None or not between_rows or not between_columns:
            return None
        right, down = np.array(self.plane.right), np.array(self.plane.down)
        offsets = points - np.array(self.plane.position)
        row, column = offsets @ down / between_rows, offsets @ right / between_columns
        return np.stack([row, column, offsets @ np.cross(right, down)], axis=1)

    def has_grid(self, plane: Plane, spacing_mm: tuple[float, float] | None) -> bool:
        """Tell whether the pixels of a plane of its shape are its own, by three corners.

        Args:
            plane: Of the first pixel.
            spacing_mm: Between rows and between columns; None if it is not known.

        Returns:
            True also for a slice without a place.
        """
        down, right = spacing_mm or self.spacing_mm[1:]
        if not down or not right:
            return True
        rows, columns = self.shape
        steps = np.array([(0, 0), (0, columns - 1), (rows - 1, columns - 1)])
        sides = np.array([np.multiply(plane.down, down), np.multiply(plane.right, right)])
        placed = self.in_pixels(np.array(plane.position) + steps @ sides)
        if placed is None:
            return True
        off = np.abs(placed[:, :2] - steps).max(axis=1)
        return bool(off[0] < _SAME_PLACE and off.max() < _SAME_END)
