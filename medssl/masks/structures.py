"""What DICOM objects hold, sorted by the slices that it belongs to."""

import zlib
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from medssl.errors import Reason, TooLargeError, UnsupportedImageError
from medssl.masks.polygons import Floats, fill
from medssl.masks.slices import Slice

HELD_BUDGET = 1 << 28  # bytes of one object
_EACH = 256  # bytes of a frame or a contour, beside its own
_SAME_PLANE = 0.1  # of the distance between slices

Bools = NDArray[np.bool_]
Key = tuple[str, int]  # path and frame of a slice


class Contour(NamedTuple):
    """One closed contour.

    Attributes:
        structure: Its number; several may have one name.
        name: In small letters.
        off: How far off the slice it is, in distances between slices.
        corners: Rows and columns, `[corners, 2]`.
    """

    structure: int
    name: str
    off: float
    corners: Floats


@dataclass(slots=True)
class Structures:
    """What an object holds. Names are in small letters.

    Attributes:
        path: Of the object.
        pixels: Names and packed pixels of each slice.
        contours: Of each slice.
        crossed: Names of the contours that are not in the plane of a slice that they meet.
        loose: Frames or contours that belong to no slice.
        held: Bytes in memory.
    """

    path: Path
    pixels: dict[Key, list[tuple[str, bytes]]] = field(default_factory=dict)
    contours: dict[Key, list[Contour]] = field(default_factory=dict)
    crossed: dict[Key, set[str]] = field(default_factory=dict)
    loose: int = 0
    held: int = 0

    def hold(self, size: int) -> None:
        """Count the bytes of a frame or a contour.

        Raises:
            TooLargeError: They are more than any object needs.
        """
        self.held += size + _EACH
        if self.held > HELD_BUDGET:
            detail = f"structures of more than {HELD_BUDGET >> 20} MiB"
            raise TooLargeError(self.path, Reason.TOO_LARGE, detail)

    def draw(self, image: Slice, wanted: Collection[str] = ()) -> dict[str, Bools]:
        """Return the pixels of each structure in a slice, `[rows, columns]`.

        Of the contours of a structure those nearest to the slice count, as `fill` says.

        Args:
            image: The slice.
            wanted: Names, all by default.

        Raises:
            UnsupportedImageError: Wanted contours go across the slice.
        """
        if any(not wanted or name in wanted for name in self.crossed.get(image.key, ())):
            detail = "contours that are not in the plane of the images"
            raise UnsupportedImageError(self.path, Reason.UNSUPPORTED, detail)
        drawn: dict[str, Bools] = {}
        for name, packed in self.pixels.get(image.key, ()):
            if not wanted or name in wanted:
                drawn[name] = drawn.get(name, False) | _unpacked(packed, image.shape)
        for name, corners in self._outlines(image.key, wanted):
            drawn[name] = drawn.get(name, False) | fill(corners, image.shape)
        return drawn

    def _outlines(self, key: Key, wanted: Collection[str]) -> list[tuple[str, list[Floats]]]:
        """Return the contours that make a structure together: of one plane, each once."""
        own: dict[int, list[Contour]] = {}
        for contour in self.contours.get(key, ()):
            if not wanted or contour.name in wanted:
                own.setdefault(contour.structure, []).append(contour)
        planes: dict[tuple[int, str, bool], dict[bytes, Floats]] = {}
        for structure, contours in own.items():
            least = min(abs(each.off) for each in contours)
            for each in contours:
                if abs(each.off) <= least + _SAME_PLANE:
                    plane = (structure, each.name, least > _SAME_PLANE and each.off > 0)
                    planes.setdefault(plane, {})[each.corners.tobytes()] = each.corners
        return [(name, list(corners.values())) for (_, name, _), corners in planes.items()]


def packed(pixels: Bools) -> bytes:
    """Return pixels in little memory."""
    return zlib.compress(np.packbits(pixels).tobytes(), 1)


def _unpacked(content: bytes, shape: tuple[int, int]) -> Bools:
    bits = np.frombuffer(zlib.decompress(content), np.uint8)
    return np.unpackbits(bits, count=shape[0] * shape[1]).astype(bool).reshape(shape)
