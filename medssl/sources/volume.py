"""Volumes of any format as slices: what a header must say, and how slices are turned.

Slices are those of the acquisition: across the axis with the widest spacing, axial where that is
not clear. They are turned as DICOM shows them: an axial slice has the front on top and the
patient's right on its left; coronal and sagittal slices have the head on top.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from numpy.typing import NDArray

from medssl.errors import Reason, TooLargeError, UnreadableFileError, UnsupportedImageError
from medssl.intensity import window_of
from medssl.sources.decoded import Decoded, FileFacts, Linear, Values, VoiWindow
from medssl.sources.place import LEAST_MM, MOST_MM, UNKNOWN, Moment, Place, plane_of
from medssl.sources.reading import require_budget, require_frame

VOLUME_BUDGET = 4 << 30  # bytes of one file's voxels; loading takes twice as much
SLICE_BUDGET = 100_000  # of one file
RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # to RAS, and back
MILLIMETRES = {  # in one of the units that headers name; without one they mean mm
    **dict.fromkeys(("m", "meter", "metre"), 1000.0),
    "cm": 10.0,
    **dict.fromkeys(("um", "micron", "\N{MICRO SIGN}m"), 1e-3),
}
_AXIAL = 2
_CLEARLY_WIDER = 1.2  # times the next spacing


class Voxels(NamedTuple):
    """What the voxels of a file are; made by `describe`.

    Attributes:
        shape: `[i, j, k, time]`, i fastest in the file.
        dtype: As stored; `RGB` for colour.
        affine: From voxel indices to mm in RAS, `[4, 4]`; None where the file does not say.
        rescale: From stored values to the modality's unit.
    """

    shape: tuple[int, int, int, int]
    dtype: np.dtype[Any]
    affine: NDArray[np.float64] | None
    rescale: Linear | None

    @property
    def size(self) -> int:
        """Bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class VolumeSlices:
    """The slices of a file. An `ImageReader`.

    Attributes:
        path: The file.
        slices: Stored values, `[slices, rows, columns]`, in colour `[..., 3]`.
        times: Volumes in the file, one after the other.
        affine: From slice, row and column to mm in LPS, `[4, 4]`; None where the file does not say.
        rescale: From stored values to the modality's unit.
        voi: The range of the whole volume, so that its slices are shown alike; None in colour, and
            for labels and other values of 8 bit.
    """

    path: Path
    slices: Values
    times: int
    affine: NDArray[np.float64] | None
    rescale: Linear | None
    voi: VoiWindow | None

    @property
    def facts(self) -> FileFacts:
        """What holds for the whole file."""
        return FileFacts(frames=len(self.slices))

    def decode(self, frame: int) -> Decoded:
        """Return one slice; those of a second volume in the file follow all of the first."""
        require_frame(self.path, frame, len(self.slices))
        values = np.ascontiguousarray(self.slices[frame])
        spacing = None if self.affine is None else voxel_sizes(self.affine).tolist()
        return Decoded(
            values,
            "RGB" if values.ndim == 3 else "MONOCHROME2",
            values.dtype.itemsize * 8,
            rescale=self.rescale,
            voi=self.voi,
            spacing_mm=None if spacing is None else (spacing[1], spacing[2]),
            spacing_slice_mm=None if spacing is None else spacing[0],
            place=self._place(frame),
        )

    def _place(self, frame: int) -> Place:
        time, number = divmod(frame, len(self.slices) // self.times)
        moment = Moment(time, UNKNOWN, number)
        if self.affine is None:
            return Place(moment)
        sizes = voxel_sizes(self.affine)
        position = self.affine @ (number, 0, 0, 1)
        right, down = self.affine[:3, 2] / sizes[2], self.affine[:3, 1] / sizes[1]
        return Place(moment, plane_of(position[:3], right, down))


def describe(
    path: Path,
    sides: Sequence[int],
    dtype: np.dtype[Any],
    affine: NDArray[np.float64] | None,
    rescale: Linear | None = None,
) -> Voxels:
    """Check what a header says, before anything is loaded.

    Affines are in mm; see `MILLIMETRES`.

    Args:
        path: The file, for errors.
        sides: One to four axes, the fastest first; more if they are 1 long.
        dtype: Numbers, or `RGB`.
        affine: As in `Voxels`.
        rescale: As in `Voxels`.

    Raises:
        UnreadableFileError: A side without voxels, or an affine that is no number or leads beyond
            `MOST_MM`.
        UnsupportedImageError: More than four axes, or another kind of number.
        TooLargeError: More than the budget.
    """
    kept = [int(side) for side in sides]
    if not kept or any(side < 1 for side in kept):
        raise UnreadableFileError(path, Reason.CORRUPT, "a side without voxels")
    while len(kept) > 4 and kept[-1] == 1:
        kept.pop()
    if len(kept) > 4:
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, f"{len(kept)} axes")
    if dtype != RGB and (dtype.kind not in "uif" or dtype.itemsize > 8):
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, "kind of number")
    if dtype.itemsize * np.prod([float(side) for side in kept]) > VOLUME_BUDGET:
        detail = f"voxels of more than {VOLUME_BUDGET >> 30} GiB"
        raise TooLargeError(path, Reason.TOO_LARGE, detail)
    first, second, third, times = *kept, *[1] * (4 - len(kept))
    if affine is not None:
        with np.errstate(over="ignore", invalid="ignore"):
            farthest = np.abs(affine[:3]) @ (first, second, third, 1)
        if not farthest.max() <= MOST_MM:  # also NaN
            detail = f"a spacing or place that is no number, or beyond {MOST_MM / 1e6:g} km"
            raise UnreadableFileError(path, Reason.CORRUPT, detail)
    return Voxels((first, second, third, times), dtype, affine, rescale)


def to_ras(space: NDArray[np.float64], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `space @ affine`, `[4, 4]`; of what is not finite some is NaN, for `describe`."""
    with np.errstate(over="ignore", invalid="ignore"):
        placed: NDArray[np.float64] = space @ affine
    return placed


def to_slices(path: Path, voxels: Voxels, data: bytes) -> VolumeSlices:
    """Cut a volume into slices.

    Args:
        path: The file, for errors.
        voxels: What `data` is.
        data: `voxels.size` bytes.

    Raises:
        UnreadableFileError: The affine lacks an axis.
        TooLargeError: A slice of more than the pixel budget, or too many slices.
    """
    turned, affine = _turn(path, voxels, _as_array(voxels, data))
    is_deep = voxels.dtype != RGB and voxels.dtype.itemsize > 1
    voi = window_of(turned, voxels.rescale) if is_deep else None
    known = None if voxels.affine is None else affine
    return VolumeSlices(path, turned, voxels.shape[3], known, voxels.rescale, voi)


def _as_array(voxels: Voxels, data: bytes) -> Values:
    """Return `[i, j, k, time]`, in colour `[..., 3]`, a view of the data as they are stored."""
    values: Values = np.frombuffer(data, voxels.dtype)
    if voxels.dtype == RGB:
        colours = values.view(np.uint8).reshape(*voxels.shape[::-1], 3)
        return colours.transpose(3, 2, 1, 0, 4)
    return values.reshape(voxels.shape, order="F")


def _turn(path: Path, voxels: Voxels, values: Values) -> tuple[Values, NDArray[np.float64]]:
    """Return slices as DICOM shows them, and the affine from slice, row, column to mm in LPS."""
    placed = _with_all_axes(LPS if voxels.affine is None else voxels.affine, voxels.shape)
    change = turn_to("LPS", path, placed)
    lps = apply_orientation(values, change)  # [to the left, to the back, to the head, time, ...]
    affine = LPS @ placed @ inv_ornt_aff(change, voxels.shape[:3])
    across = _acquired_across(voxel_sizes(affine), lps.shape[:3])
    if across != _AXIAL:
        lps = np.flip(lps, 2)  # the head on top
        affine = affine @ inv_ornt_aff([[0, 1], [1, 1], [2, -1]], lps.shape[:3])
    # slices, rows, columns: of axial ones S, P, L; coronal P, S, L; sagittal L, S, P
    rows, columns = {2: (1, 0), 1: (2, 0), 0: (2, 1)}[across]
    planes = np.moveaxis(lps, (3, across, rows, columns), (0, 1, 2, 3))
    require_budget(path, planes.shape[2], planes.shape[3])
    if planes.shape[0] * planes.shape[1] > SLICE_BUDGET:
        raise TooLargeError(path, Reason.TOO_LARGE, f"more than {SLICE_BUDGET} slices")
    copied = np.ascontiguousarray(planes, planes.dtype.newbyteorder("="))
    flat = copied.reshape(-1, *planes.shape[2:])
    return flat, affine[:, (across, rows, columns, 3)]


def turn_to(axes: str, path: Path, affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return which axes of an array to swap and flip, as nibabel's `apply_orientation` takes it.

    Args:
        axes: Where the axes of the result shall go, such as `LPS`.
        path: The file, for errors.
        affine: From indices of the array to mm in RAS, `[4, 4]`.

    Raises:
        UnreadableFileError: The affine is no number, leads too far, or lacks an axis.
    """
    axes_mm = affine[:3, :3]
    if not (np.abs(axes_mm) <= 2 * MOST_MM).all():  # as far as two planes can be apart; also NaN
        detail = "an orientation that is no number, or leads too far"
        raise UnreadableFileError(path, Reason.CORRUPT, detail)
    sizes = voxel_sizes(affine)
    if sizes.min() < LEAST_MM or np.linalg.matrix_rank(axes_mm / sizes) < len(sizes):
        raise UnreadableFileError(path, Reason.CORRUPT, "an orientation that lacks an axis")
    found = io_orientation(affine)
    change: NDArray[np.float64] = ornt_transform(found, axcodes2ornt(tuple(axes)))
    return change


def _with_all_axes(affine: NDArray[np.float64], sides: tuple[int, ...]) -> NDArray[np.float64]:
    """Let an axis of one voxel, for which a header may give no size, stand across the others."""
    empty = [axis for axis in range(3) if sides[axis] == 1 and not affine[:3, axis].any()]
    if len(empty) != 1:
        return affine
    filled = affine.copy()
    first, second = (affine[:3, axis] for axis in range(3) if axis != empty[0])
    across = np.cross(first, second) * (-1 if empty[0] == 1 else 1)
    length = np.linalg.norm(across)
    filled[:3, empty[0]] = across / length if length else 0
    return filled


def _acquired_across(sizes: NDArray[np.float64], sides: tuple[int, ...]) -> int:
    """Return the axis of a single plane, or with clearly the widest spacing, or feet to head."""
    if sides.count(1) == 1:
        return sides.index(1)
    order = np.argsort(sizes)
    is_clear = sizes[order[2]] > _CLEARLY_WIDER * sizes[order[1]]
    return int(order[2]) if is_clear else _AXIAL
