"""The slice of an image that a mask is wanted for."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from medssl.sources.place import Plane


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
