"""The levels of a slide, and any part of one of them."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from medssl.errors import Reason, TooLargeError, UnreadableFileError
from medssl.sources.decoded import FileFacts
from medssl.sources.reading import PIXEL_BUDGET, require_budget

Pixels = NDArray[np.uint8]
Box = tuple[int, int, int, int]  # top, left, bottom, right, px of a level
NEAR_BYTES = 32 << 20  # of decoded tiles, kept for each open slide
_SIDE_BUDGET = 1 << 20  # px of a slide


class Piece(NamedTuple):
    """What a tile shows of a level.

    Attributes:
        tile: Its number.
        box: The part of the level.
        first: Row and column of the level where the first pixel of the tile lies.
    """

    tile: int
    box: Box
    first: tuple[int, int]


@dataclass(frozen=True, eq=False, slots=True)
class Level:
    """One level of the pyramid. It is cut in tiles, numbered by rows; those at the rim may jut out.

    Where tiles overlap or lie in no grid, `placed` says where they lie.

    Attributes:
        rows: Of the level, px.
        columns: Likewise.
        tile_rows: Of a tile, px.
        tile_columns: Likewise.
        factor: Pixels of the slide, along a side, that one of its pixels covers.
        decode: Gives the tile of a number, `[rows, columns, 3]`; None if it has no data.
        placed: Gives the pieces in a box, later ones on top; None for tiles in a grid.
        fill: Colour where no tile is; white, as glass is.
    """

    rows: int
    columns: int
    tile_rows: int
    tile_columns: int
    factor: float
    decode: Callable[[int], Pixels | None]
    placed: Callable[[Box], Iterable[Piece]] | None = None
    fill: tuple[int, int, int] = (255, 255, 255)

    def pieces(self, box: Box) -> Iterable[Piece]:
        """Return the pieces that show something in a box."""
        return self._of_grid(box) if self.placed is None else self.placed(box)

    def _of_grid(self, box: Box) -> Iterator[Piece]:
        top, left, bottom, right = box
        across = -(-self.columns // self.tile_columns)
        for row in range(top // self.tile_rows, -(-bottom // self.tile_rows)):
            for column in range(left // self.tile_columns, -(-right // self.tile_columns)):
                first, start = row * self.tile_rows, column * self.tile_columns
                whole = (first, start, first + self.tile_rows, start + self.tile_columns)
                yield Piece(row * across + column, whole, (first, start))


class Pyramid(NamedTuple):
    """What the file of a slide holds.

    Attributes:
        levels: The slide itself first.
        mpp: Its microns per pixel; None if the file does not say them.
        facts: What holds for the whole file.
        photo: Rows and columns, px of the slide, of the photos that stand side by side in it though
            they overlap; None if it is one picture.
    """

    levels: tuple[Level, ...]
    mpp: float | None
    facts: FileFacts
    photo: tuple[int, int] | None = None


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


def read_region(path: Path, level: Level, box: Box, near: NearTiles | None = None) -> Pixels:
    """Decode the part of a level in a box, `[rows, columns, 3]`.

    Where no tile is, and where it has no data, the colour is the level's `fill`.
    """
    near = near or NearTiles()
    top, left, bottom, right = box
    require_budget(path, bottom - top, right - left)
    result = np.full((bottom - top, right - left, 3), level.fill[0], np.uint8)
    if len(set(level.fill)) > 1:  # which takes ten times as long
        result[:] = level.fill
    for index, inside, (first, start) in level.pieces(box):
        tile = near.get(level, index)
        if tile is None:
            continue
        upper, lower = max(top, inside[0]), min(bottom, inside[2], first + len(tile))
        begin, end = max(left, inside[1]), min(right, inside[3], start + tile.shape[1])
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
