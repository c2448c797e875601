"""Siemens mosaics: all slices of a moment as tiles of one image.

The tiles stand in rows, from the top left, in a square grid; the last ones may be empty. How many
there are and which way they follow each other stands in private elements.
"""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from medssl.errors import UnreadableFileError
from medssl.sources.decoded import Decoded, Values
from medssl.sources.dicom_values import numbers, texts
from medssl.sources.place import MOST_MM, Plane, plane_of
from medssl.sources.reading import reading

with warnings.catch_warnings():  # it warns of its DICOM readers, which are not used here
    warnings.simplefilter("ignore")
    from nibabel.nicom import csareader

COUNT_TAG, CSA_TAG = 0x0019100A, 0x00291010
_CREATORS = {COUNT_TAG: "SIEMENS MR HEADER", CSA_TAG: "SIEMENS CSA HEADER"}
TAGS = (*_CREATORS, *(tag & 0xFFFF0000 | 0x10 for tag in _CREATORS))
_MOST_TILES = 4096


@dataclass(frozen=True, slots=True)
class Mosaic:
    """How an image is cut.

    Attributes:
        count: Tiles.
        per_side: Tiles beside each other, and below each other.
        step: From one slice to the next, mm in LPS; None where the file does not say.
    """

    count: int
    per_side: int
    step: tuple[float, float, float] | None

    def tile(self, whole: Values, number: int) -> Values:
        """Return one slice, `[rows, columns]`."""
        rows, columns = (side // self.per_side for side in whole.shape)
        down, right = divmod(number, self.per_side)
        cut = whole[down * rows : (down + 1) * rows, right * columns : (right + 1) * columns]
        return np.ascontiguousarray(cut)

    def place(self, whole: Decoded, number: int) -> Decoded:
        """Return one slice with its place; `whole` is placed as if it were one large slice."""
        values = self.tile(whole.values, number)
        place = whole.place
        if place is not None and place.plane is not None:
            plane = self._moved(place.plane, whole, values, number)
            place = None if plane is None else replace(place, plane=plane)
        return replace(whole, values=values, place=place)

    def _moved(self, plane: Plane, whole: Decoded, values: Values, number: int) -> Plane | None:
        if self.step is None or whole.spacing_mm is None:
            return None
        right, down = np.asarray(plane.right), np.asarray(plane.down)
        beyond = [(large - small) / 2 for large, small in zip(whole.values.shape, values.shape,
                                                              strict=True)]  # fmt: skip
        per_row, per_column = whole.spacing_mm
        first = np.asarray(plane.position) + beyond[1] * per_column * right
        first += beyond[0] * per_row * down
        return plane_of(first + number * np.asarray(self.step), right, down)


def read_mosaic(path: Path, header: Dataset, rows: int, columns: int) -> Mosaic | None:
    """Return how a file's image is cut; None if it is no mosaic."""
    if "MOSAIC" not in texts(path, header, "ImageType"):
        return None
    csa = _csa(path, header)
    found = _private(path, header, COUNT_TAG) or _csa_values(csa, "NumberOfImagesInMosaic")
    count = int(found[0]) if found else 0
    per_side = math.isqrt(max(count - 1, 0)) + 1
    if not 1 < count <= _MOST_TILES or rows % per_side or columns % per_side:
        return None
    normal = _csa_values(csa, "SliceNormalVector")
    spacing = numbers(path, header, "SpacingBetweenSlices")
    if len(normal) != 3 or not spacing:
        return Mosaic(count, per_side, None)
    first, second, third = (spacing[0] * part for part in normal)
    if not all(abs(part) <= MOST_MM for part in (first, second, third)):
        return Mosaic(count, per_side, None)
    return Mosaic(count, per_side, (first, second, third))


def _private(path: Path, header: Dataset, tag: int) -> list[float]:
    if not _is_of(path, header, tag):
        return []
    with reading(path, "number of tiles"):
        value = header[tag].value
    if isinstance(value, bytes):
        value = int.from_bytes(value[:2], "little" if header.original_encoding[1] else "big")
    try:
        return [float(value)]
    except (TypeError, ValueError):
        return []


def _csa(path: Path, header: Dataset) -> Mapping[str, Any]:
    """Return the elements of the private header, as nibabel reads it; none if it is damaged."""
    if not _is_of(path, header, CSA_TAG):
        return {}
    try:
        with reading(path, "private header"):
            value = header[CSA_TAG].value
            found = csareader.read(value) if isinstance(value, bytes) else {}
    except (UnreadableFileError, csareader.CSAReadError):
        return {}
    tags = found.get("tags", {})
    return tags if isinstance(tags, dict) else {}


def _csa_values(csa: Mapping[str, Any], name: str) -> list[float]:
    try:
        found = [float(item) for item in csa.get(name, {}).get("items", [])]
    except (TypeError, ValueError):
        return []
    return found if all(map(math.isfinite, found)) else []


def _is_of(path: Path, header: Dataset, tag: int) -> bool:
    """Tell whether a private element is there, and of the maker that it is expected of."""
    creator = tag & 0xFFFF0000 | 0x10
    if tag not in header or creator not in header:
        return False
    with reading(path, "private creator"):
        return str(header[creator].value).strip("\0 ") == _CREATORS[tag]
