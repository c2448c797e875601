"""Whole slides in TIFF: tiles of a wanted size, at wanted microns per pixel, from the pyramid.

Aperio SVS, Hamamatsu NDPI, Leica SCN, Philips and plain pyramidal TIFF, as tifffile knows them.
Only the levels of the slide itself are read: its label and its overview, which may show a name,
are never looked at.
"""

import math
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tifffile import TiffFile

from medssl.errors import Reason, TooLargeError, UnreadableFileError, UnsupportedImageError
from medssl.sources.decoded import Decoded, FileFacts
from medssl.sources.reading import PIXEL_BUDGET, reading, require_budget, require_frame
from medssl.sources.slide_facts import microns_per_pixel

Pixels = NDArray[np.uint8]
KNOWN = frozenset(("svs", "ndpi", "scn", "philips"))
UNKNOWN = frozenset(("bif", "qpi", "avs", "ndtiff"))  # slides, but not of this reader
ASSUMED = " assumed"  # how the member of a slide without microns per pixel ends
_LARGE = 50_000_000  # pixels of a tiled page that can only be a slide
_COARSER = 1.25  # times the wanted microns per pixel, up to which a slide is still enlarged
_SIDE_BUDGET = 1 << 20  # px of a slide
NEAR_BYTES = 32 << 20  # of decoded tiles, kept for each open slide
_KEPT_OPEN = 8  # slides, in each thread: reading the pages of a large one takes as long as a tile
_OPENED = threading.local()


class Cut(NamedTuple):
    """How slides are cut; written into the manifest's column `member`.

    Attributes:
        px: Side of a tile.
        mpp: Microns per pixel of a tile.
        assumed: Of slides that do not say theirs; None leaves such slides out. In the member of a
            tile it stands only where it was needed.
    """

    px: int
    mpp: float
    assumed: float | None = None

    @property
    def member(self) -> str:
        """The text in the manifest."""
        end = "" if self.assumed is None else f" of {self.assumed:g} um{ASSUMED}"
        return f"{self.px} px at {self.mpp:g} um{end}"

    @classmethod
    def parse(cls, member: str) -> Self:
        """Read `member`."""
        found = _MEMBER.fullmatch(member)
        if found is None:
            raise ValueError(f"expected how a slide is cut, got {member!r}")
        return cls(int(found[1]), float(found[2]), float(found[3]) if found[3] else None)


_MEMBER = re.compile(r"(\d+) px at ([\d.e+-]+) um(?: of ([\d.e+-]+) um assumed)?")


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


@dataclass(frozen=True)
class Slide:
    """An open slide. An `ImageReader`, whose frames are the tiles of the whole grid, by rows.

    Attributes:
        path: The file.
        levels: Of the pyramid, the slide itself first.
        cut: How it is cut; `assumed` only where it is needed.
        mpp: Microns per pixel of the slide.
    """

    path: Path
    levels: tuple[Level, ...]
    cut: Cut
    mpp: float
    _near: NearTiles = field(default_factory=NearTiles, repr=False)

    @property
    def facts(self) -> FileFacts:
        """What holds for the whole file."""
        return FileFacts(frames=math.prod(self.grid), modality="SM")

    @cached_property
    def step(self) -> float:
        """Pixels of the slide from one tile to the next."""
        return self.cut.px * self.cut.mpp / self.mpp

    @cached_property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tiles that lie wholly in the slide."""
        page = self.levels[0].page
        return int(page.imagelength / self.step), int(page.imagewidth / self.step)

    def decode(self, frame: int) -> Decoded:
        """Return one tile."""
        require_frame(self.path, frame, math.prod(self.grid))
        with reading(self.path, "tile"):
            values = self.tile(*divmod(frame, self.grid[1]))
        spacing = self.cut.mpp / 1000
        return Decoded(values, "RGB", 8, modality="SM", spacing_mm=(spacing, spacing))

    def tile(self, row: int, column: int) -> Pixels:
        """Return a tile, `[px, px, 3]`."""
        level = self._level_for(self.cut.mpp / self.mpp)
        side = self.step / level.factor
        box = (row * side, column * side, (row + 1) * side, (column + 1) * side)
        top, left = math.floor(box[0]), math.floor(box[1])
        bottom = min(math.ceil(box[2]), level.page.imagelength)
        right = min(math.ceil(box[3]), level.page.imagewidth)
        region = read_region(self.path, level.page, (top, left, bottom, right), self._near)
        inside = (box[1] - left, box[0] - top, box[3] - left, box[2] - top)
        inside = (inside[0], inside[1], min(inside[2], right - left), min(inside[3], bottom - top))
        size = (self.cut.px, self.cut.px)
        image = Image.fromarray(region).resize(size, Image.Resampling.BILINEAR, box=inside)
        return np.asarray(image)

    def overview(self, most: int) -> Pixels:
        """Return the whole slide with sides of up to `most` px, `[rows, columns, 3]`.

        It is averaged from the smallest level that is larger, band by band.
        """
        first = self.levels[0].page
        factor = max(first.imagelength, first.imagewidth) / most
        level = self._level_for(max(1.0, factor))
        rows, columns = level.page.imagelength, level.page.imagewidth
        shrink = max(1, math.ceil(max(rows, columns) / most))
        band = max(shrink, level.page.tilelength // shrink * shrink)
        parts = []
        for top in range(0, rows - rows % shrink or rows, band):
            region = read_region(self.path, level.page, (top, 0, min(top + band, rows), columns))
            parts.append(np.asarray(Image.fromarray(region).reduce(shrink)))
        return np.concatenate(parts)

    def _level_for(self, factor: float) -> Level:
        """Return the smallest level that still has all that is wanted at `factor`."""
        fitting = [level for level in self.levels if level.factor <= factor * 1.01]
        return fitting[-1] if fitting else self.levels[0]


@contextmanager
def open_tiles(path: Path, member: str) -> Iterator[Slide]:
    """Open a slide as the manifest says it is cut; the last ones stay open in each thread.

    Args:
        path: The file.
        member: See `Cut.member`.

    Raises:
        IngestError: As `open_slide`.
    """
    with reading(path, "slide"):
        status = path.stat()
    key = (path, member, status.st_mtime_ns, status.st_size)
    opened: dict[object, tuple[ExitStack, Slide]] = _OPENED.__dict__.setdefault("slides", {})
    if key not in opened:
        stack = ExitStack()
        slide = stack.enter_context(open_slide(path, Cut.parse(member)))
        opened[key] = (stack, slide)
        if len(opened) > _KEPT_OPEN:
            opened.pop(next(iter(opened)))[0].close()
    yield opened[key][1]


@contextmanager
def open_slide(path: Path, cut: Cut) -> Iterator[Slide]:
    """Open a slide.

    Raises:
        UnreadableFileError: Damaged.
        UnsupportedImageError: It says no microns per pixel and none are assumed, it is coarser than
            wanted, its pixels are no 8-bit colours, or it is of a format without a reader here.
        TooLargeError: More pixels than any slide has, or tiles beyond the pixel budget.
    """
    with reading(path, "header"):
        tiff = TiffFile(path)
    with tiff:
        with reading(path, "pyramid"):
            if UNKNOWN & tiff.flags:
                detail = "a whole slide of a format that has no reader yet"
                raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
            levels = _levels(path, tiff)
            told = microns_per_pixel(tiff)
        mpp = told or cut.assumed
        if mpp is None:
            detail = "a slide without microns per pixel; --set slide_mpp=0.25 assumes them"
            raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
        if mpp > _COARSER * cut.mpp:
            detail = f"a slide of {mpp:.3g} microns per pixel, coarser than the {cut.mpp:g} wanted"
            raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
        yield Slide(path, levels, cut if told is None else cut._replace(assumed=None), mpp)


def is_slide(path: Path) -> bool:
    """Tell whether a TIFF file is a whole slide: by its maker, or tiled and pyramidal or large."""
    with reading(path, "header"), TiffFile(path) as tiff:
        if (KNOWN | UNKNOWN) & tiff.flags:
            return True
        page: Any = tiff.pages[0]
        if not page.is_tiled or not tiff.series:
            return False
        return len(tiff.series[0].levels) > 1 or page.imagelength * page.imagewidth > _LARGE


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


def _levels(path: Path, tiff: TiffFile) -> tuple[Level, ...]:
    if not tiff.series:
        raise UnreadableFileError(path, Reason.NO_PIXELS, "no pages")
    pages: list[Any] = [level.keyframe for level in tiff.series[0].levels]
    first = pages[0]
    if max(first.imagelength, first.imagewidth) > _SIDE_BUDGET:
        raise TooLargeError(path, Reason.TOO_LARGE, f"a side of more than {_SIDE_BUDGET} px")
    tiled = [page for page in pages if page.is_tiled]
    if not first.is_tiled:
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, "a slide that is not cut in tiles")
    if any(page.tilelength * page.tilewidth > PIXEL_BUDGET for page in tiled):
        raise TooLargeError(path, Reason.TOO_LARGE, "tiles beyond the pixel budget")
    return tuple(Level(page, first.imagewidth / page.imagewidth) for page in tiled)
