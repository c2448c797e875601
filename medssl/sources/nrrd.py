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
from medssl.sources.volume import LPS, RGB, VolumeSlices, Voxels, describe, to_ras, to_slices
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
_IN_SPACE = ("domain", "space")  # kinds of axes that are sides of the volume
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
    if kinds[0] == _COLOUR and sides[0] == 3 and dtype == np.uint8:
        sides, kinds, dtype = sides[1:], kinds[1:], RGB
    if any(kind not in _IN_SPACE for kind in kinds[:3]):
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, "an axis of vectors or of time")
    return describe(path, sides, dtype, _affine_of(path, header))


def _dtype_of(path: Path, header: Any) -> np.dtype[Any]:
    code = _TYPES.get(str(header["type"]))
    if code is None:
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, "kind of number")
    return np.dtype(code).newbyteorder(">" if header.get("endian") == "big" else "<")


def _affine_of(path: Path, header: Any) -> NDArray[np.float64] | None:
    """Return the affine to RAS; of a space without a name only the spacing is meant."""
    directions = header.get("space directions")
    spacings = header.get("spacings")
    affine = np.eye(4)
    if directions is not None:
        rows = np.asarray(directions, np.float64)
        rows = rows[np.isfinite(rows).any(axis=1)]  # axes out of space are none
        if rows.shape != (3, 3):
            raise UnsupportedImageError(path, Reason.UNSUPPORTED, "a space of other than 3 axes")
        affine[:3, :3] = rows.T
    elif spacings is not None:
        sizes = np.asarray(spacings, np.float64)
        sizes = sizes[~np.isnan(sizes)][:3]
        affine[: len(sizes), : len(sizes)] = np.diag(sizes)
    else:
        return None
    return to_ras(_SPACES.get(str(header.get("space")).lower(), LPS), affine)
