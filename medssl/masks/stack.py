"""Slices in which places in the patient are looked up."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medssl.masks.polygons import Floats
from medssl.masks.slices import Slice
from medssl.sources.place import Plane

_SAME_PLACE = 0.1  # of the distance between slices
_SAME_DIRECTION = 1e-3
_PARALLEL = 0.98  # cosine


class Stack:
    """The slices that an object may belong to; those without a place are left out.

    Attributes:
        step: The least distance between slices beside each other, mm.
    """

    def __init__(self, images: Sequence[Slice]) -> None:
        self._images = [each for each in images if each.is_placed]
        planes = [each.plane for each in self._images if each.plane]
        positions = np.array([plane.position for plane in planes]).reshape(-1, 3)
        self._sides = np.array([(*plane.right, *plane.down) for plane in planes]).reshape(-1, 6)
        normals = np.cross(self._sides[:, :3], self._sides[:, 3:])
        _, first, axis, counts = np.unique(
            normals.round(4), axis=0, return_index=True, return_inverse=True, return_counts=True
        )
        self._normals, self._axes, self._axis = normals, normals[first], axis.reshape(-1)
        self._heights = (positions * normals).sum(1)
        usual = self._axes[counts.argmax()] if len(counts) else np.zeros(3)
        self._is_usual = np.abs(normals @ usual) > _PARALLEL
        self.step = self._least_step(positions @ usual)

    def at(
        self, plane: Plane, shape: tuple[int, int], spacing: tuple[float, float] | None
    ) -> list[Slice]:
        """Return the slices whose pixels are those of a plane.

        Args:
            plane: Of the first pixel.
            shape: Rows and columns.
            spacing: Between rows and between columns, mm; None for that of the slices.
        """
        if not self._images:
            return []
        turned = np.abs(self._sides - (*plane.right, *plane.down)).max(1)
        off = np.abs(self._normals @ plane.position - self._heights)
        near = (off < _SAME_PLACE * self.step) & (turned < _SAME_DIRECTION)
        found = [self._images[at] for at in np.flatnonzero(near)]
        return [each for each in found if each.shape == shape and each.has_grid(plane, spacing)]

    def place(self, corners: Floats) -> tuple[list[tuple[Slice, float]], bool]:
        """Return the slices that a contour is nearest to, and how far off each it is, in steps.

        None if it is further than half a step from all. If it lies in the plane of none: the slices
        that it goes across.

        Args:
            corners: LPS, mm, `[corners, 3]`.

        Returns:
            The slices, and whether it goes across them.
        """
        if not self._images:
            return [], False
        along = [corners @ axis for axis in self._axes]
        ends = np.array([(each.min(), each.max()) for each in along]).T[:, self._axis]
        low, high = (ends - self._heights) / self.step
        is_flat = self._parallel(corners) & (high - low <= 1 / 2)
        if not is_flat.any():
            met = np.flatnonzero((low < 1 / 2) & (high > -1 / 2))
            return [(self._images[at], 0.0) for at in met], True
        off = (self._normals @ corners.mean(axis=0) - self._heights) / self.step
        away = np.where(is_flat, np.abs(off), np.inf)
        least = float(away.min())
        near = np.flatnonzero(away <= least + 0.01) if least <= 1 / 2 + _SAME_DIRECTION else ()
        return [(self._images[at], float(off[at])) for at in near], False

    def _parallel(self, corners: Floats) -> NDArray[np.bool_]:
        """Tell which slices a contour is parallel to; else, or of one without area, the usual.

        Source:
            Newell's normal, as in Sutherland, Sproull, Schumacker, "A characterization of ten
            hidden-surface algorithms", ACM Computing Surveys 1974.
        """
        arms = corners - corners.mean(axis=0)
        turned = arms[:-1].T @ arms[1:] + np.outer(arms[-1], arms[0])
        turned = turned - turned.T  # twice the area, projected
        normal = np.array([turned[1, 2], turned[2, 0], turned[0, 1]])
        found = (np.abs(self._axes @ normal) > _PARALLEL * np.linalg.norm(normal))[self._axis]
        return np.asarray(found if found.any() else self._is_usual)

    def _least_step(self, heights: Floats) -> float:
        """Look among the slices that are parallel to most, at these heights, mm."""
        if not self._images:
            return 1.0
        across, *along = self._images[0].spacing_mm
        gaps = np.diff(np.sort(heights[self._is_usual]))
        gaps = gaps[gaps > _SAME_PLACE * min(each for each in along if each)]
        return float(gaps.min()) if len(gaps) else across or 1.0
