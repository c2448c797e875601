"""A volume with the axes of the patient: from feet to head, from front to back, right to left."""

from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from nibabel.orientations import apply_orientation

from medssl.sources.volume import LPS, turn_to
from medssl.volumes.geometry import Geometry
from medssl.volumes.planes import Floats

_AXES = "SPL"  # slices to the head, rows to the back, columns to the left
Number = TypeVar("Number", bound=np.generic)


def turn_of(path: Path, affine: Floats) -> Floats:
    """Return where each axis of the slices goes, and whether it is flipped (-1), `[3, 2]`.

    Args:
        path: A file of the volume, for errors.
        affine: See `Geometry`.

    Raises:
        UnreadableFileError: The affine is no number, leads too far, or lacks an axis.
    """
    return turn_to(_AXES, path, LPS @ affine)


def turned(
    path: Path, volume: npt.NDArray[Number], geometry: Geometry
) -> tuple[npt.NDArray[Number], tuple[float, float, float]]:
    """Return a volume with the axes of the patient, and its spacing; pixels of 1 mm if none.

    Raises:
        UnreadableFileError: As `turn_of`.
    """
    if geometry.affine is None:
        return volume, (1.0, 1.0, 1.0)
    change = turn_of(path, geometry.affine)
    spacing = np.linalg.norm(geometry.affine[:3, :3], axis=0).tolist()
    order = np.argsort(change[:, 0])
    first, second, third = (spacing[axis] for axis in order)
    placed = np.asarray(apply_orientation(volume, change), volume.dtype)
    return placed, (first, second, third)


def turned_back(path: Path, volume: npt.NDArray[Number], geometry: Geometry) -> npt.NDArray[Number]:
    """Undo `turned`: return a volume with the axes of its slices, `[slices, rows, columns]`."""
    if geometry.affine is None:
        return volume
    change = turn_of(path, geometry.affine)
    placed = volume.transpose(change[:, 0].astype(int))
    flipped = tuple(axis for axis in range(3) if change[axis, 1] < 0)
    return np.ascontiguousarray(np.flip(placed, flipped))
