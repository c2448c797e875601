"""Where the patches of a volume lie: cubes of one size in mm that cover it, from its geometry only.

They lie in the volume as it is at their spacing, with the axes of `medssl.volumes.turning`, in a
grid that begins at its corner. Along each axis the last patch is shifted inwards, to end where the
volume ends; an axis shorter than a patch has one, with the volume in its middle.
"""

from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from medssl.errors import Reason, TooLargeError, UnsupportedImageError
from medssl.volumes.geometry import Geometry
from medssl.volumes.patch import Patch
from medssl.volumes.turning import turn_of

MOST_PATCHES = 1 << 16  # of one volume: more come of a header that is wrong about millimetres

Triple = tuple[int, int, int]
Span = tuple[int, int]
Box = tuple[Span, Span, Span]


class Grid(NamedTuple):
    """The patches of one volume.

    Attributes:
        sides: Of the whole volume at their spacing, px: to the head, to the back, to the left.
        corners: Where each patch begins in it, ascending.
        boxes: First and last slice, row and column of each, the last excluded.
    """

    sides: Triple
    corners: tuple[Triple, ...]
    boxes: tuple[Box, ...]


def grid_of(path: Path, shape: Triple, geometry: Geometry, patch: Patch) -> Grid:
    """Cover a volume with patches.

    Args:
        path: A file of the volume, for errors.
        shape: Slices, rows, columns.
        geometry: Of the slices.
        patch: What is wanted.

    Raises:
        UnsupportedImageError: A volume without a spacing.
        UnreadableFileError: The geometry is no number, leads too far, or lacks an axis.
        TooLargeError: More than `MOST_PATCHES`.
    """
    spacing = geometry.spacing_mm
    if geometry.affine is None or spacing is None:
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, "a volume without a spacing")
    turn = turn_of(path, geometry.affine)
    lengths = np.array([shape[axis] * spacing[axis] for axis in np.argsort(turn[:, 0])])
    lengths /= patch.spacing_mm
    if not np.maximum(np.ceil(lengths / patch.side), 1).prod() <= MOST_PATCHES:  # also NaN
        detail = f"more than {MOST_PATCHES} patches; raise data.spacing_mm or data.canvas"
        raise TooLargeError(path, Reason.TOO_LARGE, detail)
    first, second, third = (max(1, round(length)) for length in lengths.tolist())
    sides = (first, second, third)
    to_head, to_back, to_left = (_starts(side, patch.side) for side in sides)
    corners = tuple(product(to_head, to_back, to_left))
    kept = [min(patch.side, side) for side in sides]

    def span(axis: int, corner: Triple) -> Span:
        """Return where a patch is along an axis of the slices."""
        place, count = int(turn[axis, 0]), shape[axis]
        low = corner[place] * count // sides[place]
        high = -(-(corner[place] + kept[place]) * count // sides[place])
        return (low, high) if turn[axis, 1] > 0 else (count - high, count - low)

    boxes = tuple((span(0, corner), span(1, corner), span(2, corner)) for corner in corners)
    return Grid(sides, corners, boxes)


def _starts(length: int, side: int) -> list[int]:
    if length <= side:
        return [0]
    return [*range(0, length - side, side), length - side]


def in_axis(count: int, side: int, first: int, last: int) -> tuple[slice, NDArray[np.float32]]:
    """Tell what places of an axis are made of at another size, as `transforms.resizing` makes them.

    An axis that shrinks is averaged, one that grows interpolated. So a part of the result can be
    made of a part of the voxels.

    Args:
        count: Voxels of the axis.
        side: Of the result.
        first: Place of it that is wanted.
        last: One past the last of them.

    Returns:
        Which voxels take part, and the share of each in each place, `[last - first, voxels]`.
    """
    places = np.arange(first, last)
    if side <= count:
        low, high = places * count // side, -(-(places + 1) * count // side)
        voxels = np.arange(low[0], high[-1])
        inside = (voxels >= low[:, None]) & (voxels < high[:, None])
        return slice(low[0], high[-1]), (inside / (high - low)[:, None]).astype(np.float32)
    at = np.clip((places + 0.5) * count / side - 0.5, 0, count - 1)  # in voxels, between centres
    voxels = np.arange(int(at[0]), min(int(at[-1]) + 2, count))
    shares = np.clip(1 - np.abs(at[:, None] - voxels), 0, None)
    return slice(int(voxels[0]), int(voxels[-1]) + 1), shares.astype(np.float32)
