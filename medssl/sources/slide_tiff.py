"""Whole slides in TIFF: Aperio SVS, Hamamatsu NDPI, Leica SCN, Philips, BIF, and plain pyramids.

As tifffile knows them. Only the levels of the slide itself are read: its label and its overview,
which may show a name, are never looked at.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tifffile import TiffFile

from medssl.errors import Reason, UnreadableFileError, UnsupportedImageError
from medssl.sources.decoded import FileFacts
from medssl.sources.reading import reading
from medssl.sources.slide_bif import photo_pages, scan_resolution, shrunk_photos
from medssl.sources.slide_colours import APERIO_JPEG_2000, decode_aperio, require_colours
from medssl.sources.slide_facts import microns_per_pixel, pixel_size
from medssl.sources.slide_levels import LONG, levels_of, require_one_slide, slide_pages
from medssl.sources.slide_ndpi import level_pages
from medssl.sources.slide_pyramid import Level, Pixels, Pyramid, count_tiles
from medssl.sources.slide_scn import lay_together, read_regions
from medssl.sources.tiff_file import SLIDES, UNREAD_SLIDES, open_tiff_file

_LARGE = 50_000_000  # pixels of a tiled page that can only be a slide
_FINE = 2.0  # microns per pixel of a long page that is one; of paper at 1200 dots per inch: 21


def is_tiff_slide(path: Path) -> bool:
    """Tell whether a TIFF file is a whole slide: by its maker, or tiled and pyramidal or large.

    Large is also what is not as large, but says that its pixels are of the size of a slide's.
    """
    with open_tiff_file(path) as tiff, reading(path, "header"):
        if (SLIDES | UNREAD_SLIDES.keys()) & tiff.flags:
            return True
        page: Any = tiff.pages[0]
        if not page.is_tiled or not tiff.series:
            return False
        makers = _makers(tiff)
        is_pyramid = len(slide_pages(path, tiff, makers)) > 1
        if is_pyramid or page.imagelength * page.imagewidth > _LARGE:
            return True
        is_one = len(tiff.series[0]) == 1 and page.samplesperpixel >= 3 and page.dtype == np.uint8
        if not is_one or max(page.imagelength, page.imagewidth) <= LONG:
            return False
        size = pixel_size(path, page, makers)
        return size is not None and max(size) <= _FINE


@contextmanager
def open_tiff_pyramid(path: Path) -> Iterator[Pyramid]:
    """Open the levels of a slide in TIFF.

    Raises:
        UnreadableFileError: Damaged.
        UnsupportedImageError: Not cut in tiles, without 8-bit colours in RGB, several slides in one
            file, or of a format without a reader here.
        TooLargeError: More pixels than any slide has, or tiles beyond the pixel budget.
    """
    with open_tiff_file(path) as tiff:
        with reading(path, "pyramid"):
            if unread := UNREAD_SLIDES.keys() & tiff.flags:
                name = UNREAD_SLIDES[min(unread)]
                detail = f"a slide in {name}; convert it to DICOM or pyramidal TIFF"
                raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
            pyramid = _pyramid(path, tiff)
        yield pyramid


def _pyramid(path: Path, tiff: TiffFile) -> Pyramid:
    if "bif" in tiff.flags:
        return _photos(path, tiff)
    if "scn" in tiff.flags:
        return _regions(path, tiff)
    makers = _makers(tiff)
    is_ndpi = "ndpi" in makers  # whose planes and pictures of the glass are marked as such
    if is_ndpi:
        whole, *smaller = level_pages(path, tiff)
        pages = [whole, *levels_of(whole, smaller)]
    else:
        pages = slide_pages(path, tiff, makers)
    levels = _levels(path, pages)
    if not is_ndpi:
        require_one_slide(path, tiff, pages, makers)
    return Pyramid(tuple(levels), microns_per_pixel(path, pages[0], makers), FileFacts(frames=1))


def _makers(tiff: TiffFile) -> frozenset[str]:
    """Return what describes a file, as tifffile names it; OME too, which is else not followed."""
    return frozenset((*tiff.flags, *(["ome"] if tiff.pages.first.is_ome else ())))


def _photos(path: Path, tiff: TiffFile) -> Pyramid:
    pages = photo_pages(path, tiff)
    stored = [replace(_level(path, page), factor=2.0**level) for level, page in pages.items()]
    levels = tuple(shrunk_photos(path, stored))
    photo = levels[0].tile_rows, levels[0].tile_columns
    return Pyramid(levels, scan_resolution(path, tiff), FileFacts(frames=1), photo)


def _regions(path: Path, tiff: TiffFile) -> Pyramid:
    regions = read_regions(path, tiff)
    levels = lay_together(path, regions, [_levels(path, region.pages) for region in regions])
    return Pyramid(tuple(levels), regions[0].mpp, FileFacts(frames=1))


def _levels(path: Path, pages: list[Any]) -> list[Level]:
    if not pages[0].is_tiled:
        detail = "a slide that is not cut in tiles; convert it to a tiled TIFF"
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
    levels = [_level(path, page) for page in pages]
    whole = levels[0].columns
    return [replace(level, factor=whole / level.columns) for level in levels]


def _level(path: Path, page: Any) -> Level:
    """Check what a page says of its tiles, which damage can make anything."""
    sides = (page.imagelength, page.imagewidth, page.tilelength, page.tilewidth)
    if not all(isinstance(side, int) for side in sides):
        raise UnreadableFileError(path, Reason.CORRUPT, "sides that are none")
    count = count_tiles(path, *sides)
    tables = (page.dataoffsets, page.databytecounts)
    if any(len(table) < count or not all(map(_is_count, table[:count])) for table in tables):
        raise UnreadableFileError(path, Reason.CORRUPT, "tiles without a place")
    require_colours(path, page)
    return Level(*sides, 1.0, partial(_decode_tile, path, page))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value >= 0


def _decode_tile(path: Path, page: Any, index: int) -> Pixels | None:
    offset, count = page.dataoffsets[index], page.databytecounts[index]
    if not count:
        return None
    file = page.parent.filehandle
    file.seek(offset)
    data = file.read(count)
    if len(data) < count:
        raise UnreadableFileError(path, Reason.TRUNCATED, "tiles beyond the end")
    if page.compression in APERIO_JPEG_2000:
        return decode_aperio(path, page, data)
    heads = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
    tile, _, shape = page.decode(data, index, **heads)
    if tile is None:
        return None
    values = np.asarray(tile).reshape(-1, *tile.shape[-2:])[: shape[1], : shape[2]]
    if values.dtype != np.uint8 or values.shape[2] < 3:
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, "a slide without 8-bit colours")
    return values[..., :3]
