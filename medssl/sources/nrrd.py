"""NRRD volumes, with the data after the header or beside it.

pynrrd says what the header means; the data is read here, within the budget, and never from a file
in another folder.
"""

import io
from pathlib import Path
from typing import Any

import nrrd
import numpy as np
from numpy.typing import NDArray

from medssl.errors import Reason, UnreadableFileError, UnsupportedImageError
from medssl.sources.volume import (
    LPS,
    MILLIMETRES,
    RGB,
    VolumeSlices,
    Voxels,
    describe,
    to_ras,
    to_slices,
)
from medssl.sources.volume_data import Packing, open_data, read_data

_HEADER_BYTES = 1 << 20  # in which a header ends
_TYPES = {
    word: code
    for code, words in {
        "i1": ("signed char", "int8", "int8_t"),
        "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
        "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
        "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
        "i4": ("int", "signed int", "int32", "int32_t"),
        "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
        "i8": (
            *("longlong", "long long", "long long int", "signed long long"),
            *("signed long long int", "int64", "int64_t"),
        ),
        "u8": (
            *("ulonglong", "unsigned long long", "unsigned long long int"),
            *("uint64", "uint64_t"),
        ),
        "f4": ("float",),
        "f8": ("double",),
    }.items()
    for word in words
}
_PACKINGS: dict[str, Packing] = {
    "raw": "raw",
    "gzip": "gzip",
    "gz": "gzip",
    "bzip2": "bzip2",
    "bz2": "bzip2",
}
_SPACES = {  # to RAS
    "right-anterior-superior": np.eye(4),
    "ras": np.eye(4),
    "left-anterior-superior": np.diag([-1.0, 1.0, 1.0, 1.0]),
    "las": np.diag([-1.0, 1.0, 1.0, 1.0]),
    "left-posterior-superior": LPS,
    "lps": LPS,
}
_IN_SPACE = ("domain", "space", "???", "none")  # kinds of axes that are sides of the volume
_COLOUR = "RGB-color"


def load_nrrd(path: Path) -> VolumeSlices:
    """Load a file.

    Raises:
        UnreadableFileError: Damaged, or shorter than its header says.
        UnsupportedImageError: Text or hexadecimal data, several data files, an axis of vectors.
        TooLargeError: More than the budget, judged before anything is loaded.
    """
    with path.open("rb") as file:
        start = io.BytesIO(file.read(_HEADER_BYTES))
    header = nrrd.read_header(start)
    if start.tell() >= _HEADER_BYTES:
        raise UnreadableFileError(path, Reason.CORRUPT, "a header without end")
    voxels = _voxels_of(path, header)
    packing = _PACKINGS.get(str(header.get("encoding")).lower())
    skips = any(header.get(f"{unit}{gap}skip") for unit in ("line", "byte") for gap in ("", " "))
    if packing is None or skips:
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, "data as text, or after a gap")
    name = header.get("data file", header.get("datafile"))
    with open_data(path, name, start.tell()) as file:
        data = read_data(path, file, packing, voxels.size)
    return to_slices(path, voxels, data)


def _voxels_of(path: Path, header: Any) -> Voxels:
    for field in ("sizes", "type", "dimension"):
        if field not in header:
            raise UnreadableFileError(path, Reason.CORRUPT, f"a header without {field}")
    sides = [int(side) for side in header["sizes"]]
    kinds = [str(kind) for kind in header.get("kinds", _IN_SPACE[:1] * len(sides))]
    dtype = _dtype_of(path, header)
    if not sides or len(kinds) != len(sides) or header["dimension"] != len(sides):
        raise UnreadableFileError(path, Reason.CORRUPT, "other axes than sizes")
    skipped = 0
    if kinds[0] == _COLOUR and sides[0] == 3 and dtype == np.uint8:
        sides, kinds, dtype, skipped = sides[1:], kinds[1:], RGB, 1
    if any(kind not in _IN_SPACE for kind in kinds[:3]):
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, "an axis of vectors or of time")
    return describe(path, sides, dtype, _affine_of(path, header, skipped, len(sides)))


def _unit_of(header: Any, skipped: int) -> float:
    """Return the millimetres of what distances are given in."""
    words = header.get("space units", header.get("units", [])[skipped:])
    return MILLIMETRES.get(str(words[0]).lower(), 1.0) if len(words) else 1.0


def _dtype_of(path: Path, header: Any) -> np.dtype[Any]:
    code = _TYPES.get(str(header["type"]))
    if code is None:
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, "kind of number")
    return np.dtype(code).newbyteorder(">" if header.get("endian") == "big" else "<")


def _affine_of(path: Path, header: Any, skipped: int, axes: int) -> NDArray[np.float64] | None:
    """Return the affine to RAS; a space without a name is taken to be LPS.

    Args:
        path: For errors.
        header: As pynrrd gives it; axes out of space are NaN.
        skipped: Axes before the sides of the volume.
        axes: After these.
    """
    sides = min(3, axes)
    if header.get("space directions") is not None:
        rows = np.asarray(header["space directions"], np.float64)
    elif header.get("spacings") is not None:
        sizes = np.asarray(header["spacings"], np.float64)
        rows = np.full((len(sizes), sides), np.nan)
        for place, size in enumerate(sizes[skipped : skipped + sides]):
            if not np.isnan(size):
                rows[skipped + place] = 0
                rows[skipped + place, place] = size
    else:
        return None
    inside = ~np.isnan(rows).all(axis=1)
    expected = np.zeros(len(rows), np.bool_)
    expected[skipped : skipped + sides] = True
    if rows.shape != (skipped + axes, sides) or (inside != expected).any():
        detail = "sides that are not the first axes, or a space of other axes"
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
    origin = header.get("space origin")
    places = np.zeros(sides) if origin is None else np.asarray(origin, np.float64)
    if places.shape != (sides,):
        raise UnreadableFileError(path, Reason.CORRUPT, "an origin of other axes than the space")
    affine = np.eye(4)
    with np.errstate(over="ignore"):  # `describe` refuses what comes of it
        sizes_and_place = np.column_stack([rows[expected].T, places])
        affine[:sides, (*range(sides), 3)] = sizes_and_place * _unit_of(header, skipped)
    return to_ras(_SPACES.get(str(header.get("space")).lower(), LPS), affine)
