"""The levels of a slide, and any part of one of them."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from medssl.errors import Reason, TooLargeError, UnreadableFileError
from medssl.sources.decoded import FileFacts
from medssl.sources.reading import PIXEL_BUDGET, require_budget

Pixels = NDArray[np.uint8]
NEAR_BYTES = 32 << 20  # of decoded tiles, kept for each open slide
_SIDE_BUDGET = 1 << 20  # px of a slide


@dataclass(frozen=True, eq=False, slots=True)
class Level:
    """One level of the pyramid. It is cut in tiles, numbered by rows; those at the rim may jut out.

    Attributes:
        rows: Of the level, px.
        columns: Likewise.
        tile_rows: Of a tile, px.
        tile_columns: Likewise.
        factor: Pixels of the slide, along a side, that one of its pixels covers.
        decode: Gives the tile of a number, `[rows, columns, 3]`; None if it has no data.
    """

    rows: int
    columns: int
    tile_rows: int
    tile_columns: int
    factor: float
    decode: Callable[[int], Pixels | None]


class Pyramid(NamedTuple):
    """What the file of a slide holds.

    Attributes:
        levels: The slide itself first.
        mpp: Its microns per pixel; None if the file does not say them.
        facts: What holds for the whole file.
    """

    levels: tuple[Level, ...]
    mpp: float | None
    facts: FileFacts


class NearTiles:
    """The tiles of a slide that were decoded last: those of neighbours overlap."""

    def __init__(self) -> None:
        self._tiles: OrderedDict[tuple[Level, int], Pixels | None] = OrderedDict()
        self._bytes = 0

    def get(self, level: Level, index: int) -> Pixels | None:
        """Return a tile; None if it has no data."""
        key = (level, index)
        if key in self._tiles:
            self._tiles.move_to_end(key)
            return self._tiles[key]
        tile = self._tiles[key] = level.decode(index)
        self._bytes += 0 if tile is None else tile.nbytes
        while self._bytes > NEAR_BYTES:
            _, oldest = self._tiles.popitem(last=False)
            self._bytes -= 0 if oldest is None else oldest.nbytes
        return tile


def read_region(
    path: Path, level: Level, box: tuple[int, int, int, int], near: NearTiles | None = None
) -> Pixels:
    """Decode the part of a level from `top, left` to `bottom, right`, `[rows, columns, 3]`.

    Tiles without data are white, as glass is.
    """
    near = near or NearTiles()
    top, left, bottom, right = box
    require_budget(path, bottom - top, right - left)
    result = np.full((bottom - top, right - left, 3), 255, np.uint8)
    across = -(-level.columns // level.tile_columns)
    for row in range(top // level.tile_rows, -(-bottom // level.tile_rows)):
        for column in range(left // level.tile_columns, -(-right // level.tile_columns)):
            tile = near.get(level, row * across + column)
            if tile is None:
                continue
            first, start = row * level.tile_rows, column * level.tile_columns
            upper, lower = max(top, first), min(bottom, first + len(tile))
            begin, end = max(left, start), min(right, start + tile.shape[1])
            part = tile[upper - first : lower - first, begin - start : end - start]
            result[upper - top : lower - top, begin - left : end - left] = part
    return result


def count_tiles(path: Path, rows: int, columns: int, tile_rows: int, tile_columns: int) -> int:
    """Return how many tiles a level of these sides has, all in px, which damage can make anything.

    Raises:
        UnreadableFileError: A side is none.
        TooLargeError: More pixels than any slide has, or tiles beyond the pixel budget.
    """
    if min(rows, columns, tile_rows, tile_columns) < 1:
        raise UnreadableFileError(path, Reason.CORRUPT, "sides that are none")
    if max(rows, columns) > _SIDE_BUDGET:
        raise TooLargeError(path, Reason.TOO_LARGE, f"a side of more than {_SIDE_BUDGET} px")
    if tile_rows * tile_columns > PIXEL_BUDGET:
        raise TooLargeError(path, Reason.TOO_LARGE, "tiles beyond the pixel budget")
    return -(-rows // tile_rows) * -(-columns // tile_columns)
