"""The levels of a slide in TIFF, and any part of one of them."""

from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffFile

from medssl.errors import Reason, TooLargeError, UnreadableFileError, UnsupportedImageError
from medssl.sources.reading import PIXEL_BUDGET, require_budget

Pixels = NDArray[np.uint8]
NEAR_BYTES = 32 << 20  # of decoded tiles, kept for each open slide
_SIDE_BUDGET = 1 << 20  # px of a slide


class Level(NamedTuple):
    """One level of the pyramid: a tiled page, and how many pixels of the slide one of it covers."""

    page: Any
    factor: float


class NearTiles:
    """The tiles of a file that were decoded last: those of neighbours overlap."""

    def __init__(self) -> None:
        self._tiles: OrderedDict[tuple[int, int], Pixels | None] = OrderedDict()
        self._bytes = 0

    def get(self, path: Path, page: Any, index: int) -> Pixels | None:
        """Return a tile; None if it has no data."""
        key = (page.index, index)
        if key in self._tiles:
            self._tiles.move_to_end(key)
            return self._tiles[key]
        tile = self._tiles[key] = _decode_tile(path, page, index)
        self._bytes += 0 if tile is None else tile.nbytes
        while self._bytes > NEAR_BYTES:
            _, oldest = self._tiles.popitem(last=False)
            self._bytes -= 0 if oldest is None else oldest.nbytes
        return tile


def read_region(
    path: Path, page: Any, box: tuple[int, int, int, int], near: NearTiles | None = None
) -> Pixels:
    """Decode the part of a tiled page from `top, left` to `bottom, right`, `[rows, columns, 3]`.

    Tiles without data are white, as glass is.
    """
    near = near or NearTiles()
    top, left, bottom, right = box
    require_budget(path, bottom - top, right - left)
    result = np.full((bottom - top, right - left, 3), 255, np.uint8)
    across = -(-page.imagewidth // page.tilewidth)
    for row in range(top // page.tilelength, -(-bottom // page.tilelength)):
        for column in range(left // page.tilewidth, -(-right // page.tilewidth)):
            tile = near.get(path, page, row * across + column)
            if tile is None:
                continue
            first, start = row * page.tilelength, column * page.tilewidth
            upper, lower = max(top, first), min(bottom, first + len(tile))
            begin, end = max(left, start), min(right, start + tile.shape[1])
            part = tile[upper - first : lower - first, begin - start : end - start]
            result[upper - top : lower - top, begin - left : end - left] = part
    return result


def _decode_tile(path: Path, page: Any, index: int) -> Pixels | None:
    offset, count = page.dataoffsets[index], page.databytecounts[index]
    if not count:
        return None
    file = page.parent.filehandle
    file.seek(offset)
    data = file.read(count)
    if len(data) < count:
        raise UnreadableFileError(path, Reason.TRUNCATED, "tiles beyond the end")
    tile, _, shape = page.decode(data, index, jpegtables=page.jpegtables)
    if tile is None:
        return None
    values = np.asarray(tile).reshape(-1, *tile.shape[-2:])[: shape[1], : shape[2]]
    if values.dtype != np.uint8 or values.shape[2] < 3:
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, "a slide without 8-bit colours")
    return values[..., :3]


def read_levels(path: Path, tiff: TiffFile) -> tuple[Level, ...]:
    """Return the levels of a slide that are cut in tiles, the slide itself first.

    Raises:
        UnreadableFileError: Damaged.
        UnsupportedImageError: Not cut in tiles, or without 8-bit colours.
        TooLargeError: More pixels than any slide has, or tiles beyond the pixel budget.
    """
    if not tiff.series:
        raise UnreadableFileError(path, Reason.NO_PIXELS, "no pages")
    pages: list[Any] = [level.keyframe for level in tiff.series[0].levels]
    first = pages[0]
    if max(first.imagelength, first.imagewidth) > _SIDE_BUDGET:
        raise TooLargeError(path, Reason.TOO_LARGE, f"a side of more than {_SIDE_BUDGET} px")
    tiled = [page for page in pages if page.is_tiled]
    if not first.is_tiled:
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, "a slide that is not cut in tiles")
    for page in tiled:
        _require_sound(path, page)
    return tuple(Level(page, first.imagewidth / page.imagewidth) for page in tiled)


def _require_sound(path: Path, page: Any) -> None:
    """Check what a level says of its tiles, which damage can make anything."""
    sides = (page.imagelength, page.imagewidth, page.tilelength, page.tilewidth)
    if not all(isinstance(side, int) and side > 0 for side in sides):
        raise UnreadableFileError(path, Reason.CORRUPT, "sides that are none")
    rows, columns, tile_rows, tile_columns = sides
    if tile_rows * tile_columns > PIXEL_BUDGET:
        raise TooLargeError(path, Reason.TOO_LARGE, "tiles beyond the pixel budget")
    count = -(-rows // tile_rows) * -(-columns // tile_columns)
    tables = (page.dataoffsets, page.databytecounts)
    if any(len(table) < count or not all(map(_is_count, table[:count])) for table in tables):
        raise UnreadableFileError(path, Reason.CORRUPT, "tiles without a place")
    if page.samplesperpixel < 3 or page.dtype != np.uint8:
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, "a slide without 8-bit colours")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value >= 0
