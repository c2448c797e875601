"""NIfTI-1 and NIfTI-2 volumes, plain or gzipped; every slice of every volume is a frame.

Slices are those of the acquisition: across the axis with the widest spacing, axial where that is
not clear. They are turned as DICOM shows them: an axial slice has the front on top and the
patient's right on its left; coronal and sagittal slices have the head on top.

nibabel says what the header means. The data is read here, so that extensions of a header, which
may hold anything, are never looked at.
"""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np
from nibabel import Nifti1Header, Nifti2Header
from nibabel.affines import voxel_sizes
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform
from numpy.typing import NDArray

from medssl.errors import Reason, TooLargeError, UnreadableFileError, UnsupportedImageError
from medssl.intensity import window_of
from medssl.sources.decoded import Decoded, FileFacts, Linear, Values, VoiWindow
from medssl.sources.reading import reading, require_budget, require_frame

VOLUME_BUDGET = 4 << 30  # bytes of one file's voxels
GZIP = b"\x1f\x8b"
_SINGLE: dict[int, tuple[Any, bytes, int]] = {  # header's size: class, magic bytes, their place
    348: (Nifti1Header, b"n+1\x00", 344),
    540: (Nifti2Header, b"n+2\x00", 4),
}
_PAIRS = (b"ni1\x00", b"ni2\x00")
_COLOURS = ("R", "G", "B")
_AXIAL = 2
_CLEARLY_WIDER = 1.2  # times the next spacing


class _Layout(NamedTuple):
    """Where the voxels are in a file, and what they mean.

    Attributes:
        offset: Of the first voxel, bytes.
        shape: `[i, j, k, time]`.
        dtype: As stored; three named fields for colour.
        affine: From voxel indices to mm in RAS, `[4, 4]`.
        rescale: From stored values to the modality's unit.
    """

    offset: int
    shape: tuple[int, int, int, int]
    dtype: np.dtype[Any]
    affine: NDArray[np.float64]
    rescale: Linear | None


@dataclass(frozen=True, slots=True)
class NiftiSlices:
    """The slices of a file. An `ImageReader`.

    Attributes:
        path: The file.
        slices: Stored values, `[slices, rows, columns]`, in colour `[..., 3]`.
        spacing_mm: Between slices, rows, columns.
        rescale: From stored values to the modality's unit.
        voi: The range of the whole volume, so that its slices are shown alike; None in colour, and
            for labels and other values of 8 bit.
    """

    path: Path
    slices: Values
    spacing_mm: tuple[float, float, float]
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
        between, rows, columns = self.spacing_mm
        return Decoded(
            values,
            "RGB" if values.ndim == 3 else "MONOCHROME2",
            values.dtype.itemsize * 8,
            rescale=self.rescale,
            voi=self.voi,
            spacing_mm=(rows, columns),
            spacing_slice_mm=between,
        )


@contextmanager
def open_nifti(path: Path) -> Iterator[NiftiSlices]:
    """Load a file; the last one is kept, because its slices are asked for one by one.

    Raises:
        UnreadableFileError: Damaged, or shorter than its header says.
        UnsupportedImageError: Header and data in two files, more than four axes, or values that
            are neither grey nor RGB.
        TooLargeError: More than the budget, judged before anything is loaded.
    """
    with reading(path, "volume"):
        status = path.stat()
        slices = _load(path, status.st_mtime_ns, status.st_size)
    yield slices


def is_nifti(head: bytes) -> bool:
    """Tell by the first 348 bytes, not compressed, one file or a pair of files."""
    return head[344:348] in (b"n+1\x00", _PAIRS[0]) or head[4:8] in (b"n+2\x00", _PAIRS[1])


@lru_cache(maxsize=1)
def _load(path: Path, _modified: int, size: int) -> NiftiSlices:
    with path.open("rb") as raw:
        is_zipped = raw.read(2) == GZIP
        raw.seek(0)
        file = cast("IO[bytes]", gzip.GzipFile(fileobj=raw) if is_zipped else raw)
        layout = _read_layout(path, file)
        values = _read_voxels(path, file, layout, size=None if is_zipped else size)
    is_colour = layout.dtype.names is not None
    turned, spacing = _turn(path, values, layout.affine)
    is_deep = not is_colour and layout.dtype.itemsize > 1
    return NiftiSlices(
        path,
        turned,
        spacing,
        layout.rescale,
        window_of(turned, layout.rescale) if is_deep else None,
    )


def _read_layout(path: Path, file: IO[bytes]) -> _Layout:
    start = file.read(540)
    for length, (kind, magic, place) in _SINGLE.items():
        if start[place : place + 4] == magic and len(start) >= length:
            return _layout_of(path, kind(start[:length], check=False), length)
    if is_nifti(start):
        detail = "header and data in two files (.hdr and .img); one file .nii or .nii.gz is read"
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
    raise UnreadableFileError(path, Reason.TRUNCATED, "no complete header")


def _layout_of(path: Path, header: Any, length: int) -> _Layout:
    sides = [int(side) for side in header.get_data_shape()]
    if not sides or any(side < 1 for side in sides):
        raise UnreadableFileError(path, Reason.CORRUPT, "a side without voxels")
    while len(sides) > 4 and sides[-1] == 1:
        sides.pop()
    if len(sides) > 4:
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, f"{len(sides)} axes")
    first, second, third, times = *sides, *[1] * (4 - len(sides))
    shape = (first, second, third, times)
    dtype = np.dtype(header.get_data_dtype())
    _require_pixels(path, dtype)
    if dtype.itemsize * np.prod([float(side) for side in shape]) > VOLUME_BUDGET:
        detail = f"voxels of more than {VOLUME_BUDGET >> 30} GiB"
        raise TooLargeError(path, Reason.TOO_LARGE, detail)
    offset = float(header["vox_offset"])
    if not length <= offset < VOLUME_BUDGET:
        raise UnreadableFileError(path, Reason.CORRUPT, "data that begin nowhere")
    affine = np.asarray(header.get_best_affine(), np.float64)
    if not np.isfinite(affine).all():
        raise UnreadableFileError(path, Reason.CORRUPT, "an orientation that is no number")
    slope, intercept = header.get_slope_inter()
    is_scaled = slope is not None and (slope, intercept) != (1.0, 0.0) and dtype.names is None
    rescale = Linear(float(slope), float(intercept)) if is_scaled else None
    return _Layout(int(offset), shape, dtype, affine, rescale)


def _require_pixels(path: Path, dtype: np.dtype[Any]) -> None:
    is_rgb = dtype.names == _COLOURS and dtype.itemsize == 3
    if not is_rgb and (dtype.kind not in "uif" or dtype.itemsize > 8):
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, "kind of number")


def _read_voxels(path: Path, file: IO[bytes], layout: _Layout, *, size: int | None) -> Values:
    """Return `[i, j, k, time]`, in colour `[..., 3]`, in the byte order of this machine.

    Nothing is reserved for what a plain file, of `size` bytes, does not hold.
    """
    needed = int(np.prod([int(side) for side in layout.shape])) * layout.dtype.itemsize
    if size is not None and layout.offset + needed > size:
        raise UnreadableFileError(path, Reason.TRUNCATED, "less data than the size needs")
    file.seek(layout.offset)
    data = file.read(needed)
    if len(data) < needed:
        raise UnreadableFileError(path, Reason.TRUNCATED, "less data than the size needs")
    voxels: Values = np.frombuffer(data, layout.dtype)
    if layout.dtype.names is not None:
        voxels = np.stack([voxels[name] for name in _COLOURS], axis=-1)
        return voxels.reshape(*layout.shape[::-1], 3).transpose(3, 2, 1, 0, 4)
    return voxels.reshape(layout.shape, order="F").astype(
        layout.dtype.newbyteorder("="), copy=False
    )


def _turn(
    path: Path, values: Values, affine: NDArray[np.float64]
) -> tuple[Values, tuple[float, float, float]]:
    """Return slices as DICOM shows them, and the spacing of slices, rows and columns, mm."""
    found = io_orientation(affine)
    if np.isnan(found).any():
        raise UnreadableFileError(path, Reason.CORRUPT, "an orientation that lacks an axis")
    change = ornt_transform(found, axcodes2ornt(("L", "P", "S")))
    lps = apply_orientation(values, change)  # [to the left, to the back, to the head, time, ...]
    sizes = voxel_sizes(affine)[np.argsort(change[:, 0])]
    across = _acquired_across(sizes)
    if across != _AXIAL:
        lps = np.flip(lps, 2)  # the head on top
    # slices, rows, columns: of axial ones S, P, L; coronal P, S, L; sagittal L, S, P
    rows, columns = {2: (1, 0), 1: (2, 0), 0: (2, 1)}[across]
    planes = np.moveaxis(lps, (3, across, rows, columns), (0, 1, 2, 3))
    require_budget(path, planes.shape[2], planes.shape[3])
    flat = np.ascontiguousarray(planes).reshape(-1, *planes.shape[2:])
    return flat, (float(sizes[across]), float(sizes[rows]), float(sizes[columns]))


def _acquired_across(sizes: NDArray[np.float64]) -> int:
    """Return the axis with clearly the widest spacing, else the one from feet to head."""
    order = np.argsort(sizes)
    is_clear = sizes[order[2]] > _CLEARLY_WIDER * sizes[order[1]]
    return int(order[2]) if is_clear else _AXIAL
