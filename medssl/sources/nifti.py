"""NIfTI-1 and NIfTI-2 volumes, plain or gzipped, in one file or in `.hdr` and `.img`.

nibabel says what the header means. The data is read here, so that extensions of a header, which
may hold anything, are never looked at.
"""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from nibabel import Nifti1Header, Nifti2Header

from medssl.errors import Reason, UnreadableFileError
from medssl.sources.data_beside import require_img
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
_KINDS: dict[int, tuple[Any, bytes, bytes, int]] = {
    # header's size: class, magic bytes of one file and of a pair, their place
    348: (Nifti1Header, b"n+1\x00", b"ni1\x00", 344),
    540: (Nifti2Header, b"n+2\x00", b"ni2\x00", 4),
}
_FLAGS = 4  # bytes after the header, which tell of extensions


def is_nifti(head: bytes) -> bool:
    """Tell by the first 348 bytes, not compressed, one file or a pair of files."""
    return any(head[at : at + 4] in (one, pair) for _, one, pair, at in _KINDS.values())


def load_nifti(path: Path) -> VolumeSlices:
    """Load a file.

    Raises:
        UnreadableFileError: Damaged, or shorter than its header says.
        UnsupportedImageError: More than four axes, values that are neither grey nor RGB, or a
            header of a pair that is not named so.
        TooLargeError: More than the budget, judged before anything is loaded.
    """
    with _opened(path) as file:
        voxels, offset, is_pair = _read_header(path, file)
        if not is_pair:
            return to_slices(path, voxels, _read_data(path, file, offset, voxels.size))
    with _opened(require_img(path)) as file:
        return to_slices(path, voxels, _read_data(path, file, offset, voxels.size))


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that may be gzipped, whatever its name."""
    with path.open("rb") as raw:
        is_zipped = raw.read(2) == GZIP
        raw.seek(0)
        yield cast("IO[bytes]", gzip.GzipFile(fileobj=raw) if is_zipped else raw)


def _read_data(path: Path, file: IO[bytes], offset: int, size: int) -> bytes:
    file.seek(offset)
    is_zipped = isinstance(file, gzip.GzipFile)
    return (read_exactly if is_zipped else read_plain)(path, file, size)


def _read_header(path: Path, file: IO[bytes]) -> tuple[Voxels, int, bool]:
    """Return what the voxels are, where they begin, and whether that is in another file."""
    start = file.read(540)
    for length, (kind, one, pair, place) in _KINDS.items():
        magic = start[place : place + 4]
        if magic in (one, pair) and len(start) >= length:
            least = 0 if magic == pair else length
            header = kind(start[:length], check=False)
            return *_voxels_of(path, header, least), magic == pair
    raise UnreadableFileError(path, Reason.TRUNCATED, "no complete header")


def _voxels_of(path: Path, header: Any, least: int) -> tuple[Voxels, int]:
    """Return what the voxels are, and where they begin: at `least`, or after the header."""
    dtype = np.dtype(header.get_data_dtype())
    slope, intercept = header.get_slope_inter()
    is_scaled = slope is not None and (slope, intercept) != (1.0, 0.0) and dtype != RGB
    affine = np.asarray(header.get_best_affine(), np.float64)
    unit = MILLIMETRES.get(header.get_xyzt_units()[0], 1.0)
    voxels = describe(
        path,
        header.get_data_shape(),
        dtype,
        to_ras(np.diag([unit, unit, unit, 1.0]), affine),
        Linear(float(slope), float(intercept)) if is_scaled else None,
    )
    offset = float(header["vox_offset"]) or (least and least + _FLAGS)
    if not least <= offset < VOLUME_BUDGET:
        raise UnreadableFileError(path, Reason.CORRUPT, "data that begin nowhere")
    return voxels, int(offset)
