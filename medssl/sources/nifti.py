"""NIfTI-1 and NIfTI-2 volumes, plain or gzipped.

nibabel says what the header means. The data is read here, so that extensions of a header, which
may hold anything, are never looked at.
"""

import gzip
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from nibabel import Nifti1Header, Nifti2Header

from medssl.errors import Reason, UnreadableFileError, UnsupportedImageError
from medssl.sources.decoded import Linear
from medssl.sources.volume import (
    MILLIMETRES,
    RGB,
    VOLUME_BUDGET,
    VolumeSlices,
    Voxels,
    describe,
    to_ras,
    to_slices,
)
from medssl.sources.volume_data import read_exactly, read_plain

GZIP = b"\x1f\x8b"
_SINGLE: dict[int, tuple[Any, bytes, int]] = {  # header's size: class, magic bytes, their place
    348: (Nifti1Header, b"n+1\x00", 344),
    540: (Nifti2Header, b"n+2\x00", 4),
}
_FLAGS = 4  # bytes after the header, which tell of extensions
_PAIRS = (b"ni1\x00", b"ni2\x00")


def is_nifti(head: bytes) -> bool:
    """Tell by the first 348 bytes, not compressed, one file or a pair of files."""
    return head[344:348] in (b"n+1\x00", _PAIRS[0]) or head[4:8] in (b"n+2\x00", _PAIRS[1])


def load_nifti(path: Path) -> VolumeSlices:
    """Load a file.

    Raises:
        UnreadableFileError: Damaged, or shorter than its header says.
        UnsupportedImageError: Header and data in two files, more than four axes, or values that
            are neither grey nor RGB.
        TooLargeError: More than the budget, judged before anything is loaded.
    """
    with path.open("rb") as raw:
        is_zipped = raw.read(2) == GZIP
        raw.seek(0)
        file = cast("IO[bytes]", gzip.GzipFile(fileobj=raw) if is_zipped else raw)
        voxels, offset = _read_header(path, file)
        file.seek(offset)
        data = (read_exactly if is_zipped else read_plain)(path, file, voxels.size)
    return to_slices(path, voxels, data)


def _read_header(path: Path, file: IO[bytes]) -> tuple[Voxels, int]:
    """Return what the voxels are, and where they begin."""
    start = file.read(540)
    for length, (kind, magic, place) in _SINGLE.items():
        if start[place : place + 4] == magic and len(start) >= length:
            return _voxels_of(path, kind(start[:length], check=False), length)
    if is_nifti(start):
        detail = "header and data in two files (.hdr and .img); one file .nii or .nii.gz is read"
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
    raise UnreadableFileError(path, Reason.TRUNCATED, "no complete header")


def _voxels_of(path: Path, header: Any, length: int) -> tuple[Voxels, int]:
    dtype = np.dtype(header.get_data_dtype())
    slope, intercept = header.get_slope_inter()
    is_scaled = slope is not None and (slope, intercept) != (1.0, 0.0) and dtype != RGB
    affine = np.asarray(header.get_best_affine(), np.float64)
    unit = MILLIMETRES.get(header.get_xyzt_units()[0], 1.0)
    voxels = describe(
        path,
        header.get_data_shape(),
        dtype,
        to_ras(affine, np.diag([unit, unit, unit, 1.0])),
        Linear(float(slope), float(intercept)) if is_scaled else None,
    )
    offset = float(header["vox_offset"]) or length + _FLAGS
    if not length <= offset < VOLUME_BUDGET:
        raise UnreadableFileError(path, Reason.CORRUPT, "data that begin nowhere")
    return voxels, int(offset)
