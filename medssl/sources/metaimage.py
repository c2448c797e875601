"""MetaImage volumes: `.mha`, and `.mhd` with the data in a file beside it."""

import os
import re
from pathlib import Path
from typing import Any

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
from medssl.sources.volume_data import open_data, read_data

_BEGINNING = re.compile(rb"(ObjectType *= *Image|Comment *= *[^\n]*|NDims *= *\d+)\s*\n")
_SIZE = re.compile(rb"^DimSize *=", re.MULTILINE)
_HEADER_BYTES = 1 << 16  # in which a header ends
_LAST = "ElementDataFile"  # key of the line before the data
_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}


def is_metaimage(head: bytes) -> bool:
    """Tell by the first bytes, which must reach to the sizes; other texts begin alike."""
    return bool(_BEGINNING.match(head) and _SIZE.search(head))


def load_metaimage(path: Path) -> VolumeSlices:
    """Load a file.

    Raises:
        UnreadableFileError: Damaged, or shorter than its header says.
        UnsupportedImageError: Data as text, in several files or after a gap, or vectors.
        TooLargeError: More than the budget, judged before anything is loaded.

    Source:
        MetaIO documentation, "MetaImage", https://itk.org/Wiki/MetaIO/Documentation: directions
        are in LPS, three numbers for each axis, and so is the place of the first voxel.
    """
    with path.open("rb") as file:
        fields, offset = _read_fields(path, file.read(_HEADER_BYTES))
    voxels = _voxels_of(path, fields)
    name = os.fsdecode(fields[_LAST].encode("latin-1"))
    if not _is_true(fields.get("BinaryData", "True")) or int(fields.get("HeaderSize", 0)):
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, "data as text, or after a gap")
    is_packed = _is_true(fields.get("CompressedData", ""))
    with open_data(path, None if name.upper() == "LOCAL" else name, offset) as file:
        data = read_data(path, file, "zlib" if is_packed else "raw", voxels.size)
    return to_slices(path, voxels, data)


def _read_fields(path: Path, head: bytes) -> tuple[dict[str, str], int]:
    """Return the lines `key = value` up to the last one, and where the data begin."""
    fields: dict[str, str] = {}
    place = 0
    while _LAST not in fields:
        end = head.find(b"\n", place)
        if end < 0:
            raise UnreadableFileError(path, Reason.TRUNCATED, "no complete header")
        key, _, value = head[place:end].decode("latin-1").partition("=")
        fields[key.strip()] = value.strip()
        place = end + 1
    return fields, place


def _voxels_of(path: Path, fields: dict[str, str]) -> Voxels:
    sides = [int(word) for word in _required(path, fields, "DimSize").split()]
    if len(sides) != int(_required(path, fields, "NDims")):
        raise UnreadableFileError(path, Reason.CORRUPT, "other axes than sizes")
    code = _TYPES.get(_required(path, fields, "ElementType"))
    if code is None:
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, "kind of number")
    big = fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", ""))
    dtype: np.dtype[Any] = np.dtype(code).newbyteorder(">" if _is_true(big) else "<")
    channels = int(fields.get("ElementNumberOfChannels", 1))
    if channels != 1:
        if channels != 3 or code != "u1":
            raise UnsupportedImageError(path, Reason.UNSUPPORTED, "voxels that are vectors")
        dtype = RGB
    return describe(path, sides, dtype, _affine_of(path, fields, min(3, len(sides))))


def _is_true(word: str) -> bool:
    """Read a switch as MetaIO does, by its first letter."""
    return word[:1] in ("T", "t", "1")


def _required(path: Path, fields: dict[str, str], key: str) -> str:
    if key not in fields:
        raise UnreadableFileError(path, Reason.CORRUPT, f"a header without {key}")
    return fields[key]


def _affine_of(path: Path, fields: dict[str, str], axes: int) -> NDArray[np.float64] | None:
    """Return the affine to RAS, of the first three axes; None if not even the spacing is told."""
    spacing = _numbers(fields, "ElementSpacing", "ElementSize")
    turned = _numbers(fields, "TransformMatrix", "Rotation", "Orientation")
    origin = _numbers(fields, "Offset", "Position", "Origin")
    if spacing is None:
        return None
    if len(spacing) < axes or (origin is not None and len(origin) < axes):
        raise UnreadableFileError(path, Reason.CORRUPT, "other axes than sizes")
    affine = np.eye(4)
    if turned is not None:
        count = round(len(turned) ** 0.5)
        if count < axes or count * count != len(turned):
            raise UnreadableFileError(path, Reason.CORRUPT, "a matrix that is not square")
        affine[:axes, :axes] = turned.reshape(count, count)[:axes, :axes].T
    unit = MILLIMETRES.get(fields.get("DistanceUnits", "mm").lower(), 1.0)
    with np.errstate(over="ignore", invalid="ignore"):  # `describe` refuses what comes of it
        affine[:axes, :axes] *= spacing[:axes] * unit
        if origin is not None:
            affine[:axes, 3] = origin[:axes] * unit
    return to_ras(LPS, affine)


def _numbers(fields: dict[str, str], *keys: str) -> NDArray[np.float64] | None:
    found = next((fields[key] for key in keys if key in fields), None)
    return None if found is None else np.array(found.split(), np.float64)
