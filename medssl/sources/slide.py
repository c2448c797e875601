"""Whole slides: tiles of a wanted size, at wanted microns per pixel, from the pyramid."""

import math
import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from medssl.errors import Reason, UnsupportedImageError
from medssl.sources.cut import Cut
from medssl.sources.decoded import Decoded, FileFacts
from medssl.sources.mirax_files import is_mirax
from medssl.sources.reading import reading, require_frame
from medssl.sources.slide_dicom import open_dicom_pyramid
from medssl.sources.slide_grid import Along, Places
from medssl.sources.slide_mirax import open_mirax_pyramid
from medssl.sources.slide_pyramid import Level, NearTiles, Pixels, Pyramid, read_region
from medssl.sources.slide_series import FITTING, is_dicom_slide
from medssl.sources.slide_tiff import is_tiff_slide, open_tiff_pyramid
from medssl.sources.sniff import sniff

_COARSER = 1.25  # times the wanted microns per pixel, up to which a slide is still enlarged
_KEPT_OPEN = 8  # slides, in each thread: reading the pages of a large one takes as long as a tile
_OPENED = threading.local()


@dataclass(frozen=True)
class Slide:
    """An open slide. An `ImageReader`, whose frames are the tiles of the whole grid, by rows.

    Attributes:
        path: The file.
        levels: Of the pyramid, the slide itself first.
        cut: How it is cut; `assumed` only where it is needed.
        mpp: Microns per pixel of the slide.
        about: What the file says of itself.
        photo: Rows and columns of the photos that it is made of, within which tiles lie; None if it
            is one picture.
    """

    path: Path
    levels: tuple[Level, ...]
    cut: Cut
    mpp: float
    about: FileFacts
    photo: tuple[int, int] | None = None
    _near: NearTiles = field(default_factory=NearTiles, repr=False)

    @property
    def facts(self) -> FileFacts:
        """What holds for the whole file."""
        return replace(self.about, frames=math.prod(self.grid), modality="SM")

    @cached_property
    def step(self) -> float:
        """Pixels of the slide from one tile to the next."""
        return self.cut.px * self.cut.mpp / self.mpp

    @cached_property
    def along(self) -> tuple[Along, Along]:
        """Where tiles lie, down and across."""
        whole, unit = self.levels[0], self._level.factor
        rows, columns = self.photo or (None, None)
        return (
            Along.of(self.step, whole.rows, rows, unit),
            Along.of(self.step, whole.columns, columns, unit),
        )

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tiles that lie wholly in the slide, and in a photo."""
        return self.along[0].tiles, self.along[1].tiles

    def decode(self, frame: int) -> Decoded:
        """Return one tile."""
        require_frame(self.path, frame, math.prod(self.grid))
        with reading(self.path, "tile"):
            values = self.tile(*divmod(frame, self.grid[1]))
        spacing = self.cut.mpp / 1000
        return Decoded(values, "RGB", 8, modality="SM", spacing_mm=(spacing, spacing))

    def tile(self, row: int, column: int) -> Pixels:
        """Return a tile, `[px, px, 3]`."""
        level = self._level
        down = self.along[0].span(row, level, level.rows)
        across = self.along[1].span(column, level, level.columns)
        box = (down.first, across.first, down.last, across.last)
        region = read_region(self.path, level, box, self._near)
        begin = across.begin - across.first, down.begin - down.first
        end = across.end - across.first, down.end - down.first
        inside = (*begin, min(end[0], region.shape[1]), min(end[1], region.shape[0]))
        size = (self.cut.px, self.cut.px)
        image = Image.fromarray(region).resize(size, Image.Resampling.BILINEAR, box=inside)
        return np.asarray(image)

    def overview(self, most: int) -> Pixels:
        """Return the whole slide with sides of up to `most` px, `[rows, columns, 3]`.

        It is averaged from the smallest level that is larger, band by band.
        """
        whole = self.levels[0]
        level = self._level_for(max(1.0, max(whole.rows, whole.columns) / most))
        rows, columns = level.rows, level.columns
        shrink = max(1, math.ceil(max(rows, columns) / most))
        band = max(shrink, level.tile_rows // shrink * shrink)
        parts = []
        for top in range(0, rows - rows % shrink or rows, band):
            box = (top, 0, min(top + band, rows), columns)
            with reading(self.path, "overview"):
                region = read_region(self.path, level, box)
            parts.append(np.asarray(Image.fromarray(region).reduce(shrink)))
        return np.concatenate(parts)

    def edges(self, rows: int, columns: int) -> tuple[Places, Places]:
        """Return where the tiles begin and end in a picture of the whole slide, down and across.

        Args:
            rows: Of the picture, such as `overview` gives it.
            columns: Likewise.

        Returns:
            `[tiles, 2]` each, px.
        """
        whole = self.levels[0]
        down, across = self.along
        return down.edges(rows, whole.rows), across.edges(columns, whole.columns)

    @cached_property
    def _level(self) -> Level:
        """The level that tiles are read from."""
        return self._level_for(self.cut.mpp / self.mpp)

    def _level_for(self, factor: float) -> Level:
        """Return the smallest level that still has all that is wanted at `factor`."""
        fitting = [level for level in self.levels if level.factor <= factor * FITTING]
        return fitting[-1] if fitting else self.levels[0]


@contextmanager
def open_tiles(path: Path, member: str) -> Iterator[Slide]:
    """Open a slide as the manifest says it is cut; the last ones stay open in each thread.

    Tiles are read from the file alone, whatever lies beside it; for an overview see `open_slide`.
    A forked process opens its own: one that it inherits shares the place in the file with others.

    Args:
        path: The file.
        member: See `Cut.member`.

    Raises:
        IngestError: As `open_slide`.
    """
    with reading(path, "slide"):
        status = path.stat()
    key = (os.getpid(), path, member, status.st_mtime_ns, status.st_size)
    opened: dict[object, tuple[ExitStack, Slide]] = _OPENED.__dict__.setdefault("slides", {})
    if key not in opened:
        stack = ExitStack()
        slide = stack.enter_context(open_slide(path, Cut.parse(member), beside=False))
        opened[key] = (stack, slide)
        if len(opened) > _KEPT_OPEN:
            opened.pop(next(iter(opened)))[0].close()
    yield opened[key][1]


@contextmanager
def open_slide(path: Path, cut: Cut, *, beside: bool = True) -> Iterator[Slide]:
    """Open a slide.

    Args:
        path: The file.
        cut: How the slide is to be cut.
        beside: Whether coarser levels in files beside it, as DICOM has them, are opened too: they
            hold far fewer pixels to make an overview of.

    Raises:
        UnreadableFileError: Damaged.
        UnsupportedImageError: It says no microns per pixel and none are assumed, it is coarser than
            wanted, its photos are smaller than a tile, its pixels are no 8-bit colours, it is the
            label or an overview, or it is of a format without a reader here.
        TooLargeError: More pixels than any slide has, or tiles beyond the pixel budget.
    """
    with _open_pyramid(path, beside=beside) as pyramid:
        mpp = pyramid.mpp or cut.assumed
        if mpp is None:
            detail = "a slide without microns per pixel; --set slide_mpp=0.25 assumes them"
            raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
        if mpp > _COARSER * cut.mpp:
            detail = f"a slide of {mpp:.3g} microns per pixel, coarser than the {cut.mpp:g} wanted"
            raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
        cut = cut if pyramid.mpp is None else cut._replace(assumed=None)
        slide = Slide(path, pyramid.levels, cut, mpp, pyramid.facts, pyramid.photo)
        if pyramid.photo is not None:
            _require_fitting(slide, *pyramid.photo)
        yield slide


def _require_fitting(slide: Slide, rows: int, columns: int) -> None:
    """Raise if a photo is smaller than a tile."""
    least = min(rows, columns)
    if slide.step <= least:
        return
    most = int(least * slide.mpp / slide.cut.mpp)
    most -= most * slide.cut.mpp / slide.mpp > least  # by the last bit
    detail = (
        f"a slide of overlapping photos, {rows} x {columns} px of {slide.mpp:.4g} microns, into"
        f" which no tile of {slide.cut.member} fits; --set tile_px={most} does"
    )
    raise UnsupportedImageError(slide.path, Reason.UNSUPPORTED, detail)


def is_slide(path: Path, kind: str) -> bool:
    """Tell whether a file that is none in MIRAX is a whole slide.

    Args:
        path: The file.
        kind: What `sniff` said.
    """
    return (kind == "tiff" and is_tiff_slide(path)) or (kind == "dicom" and is_dicom_slide(path))


def _open_pyramid(path: Path, *, beside: bool) -> AbstractContextManager[Pyramid]:
    if is_mirax(path):
        return open_mirax_pyramid(path)
    if sniff(path) == "dicom":
        return open_dicom_pyramid(path, beside=beside)
    return open_tiff_pyramid(path)
