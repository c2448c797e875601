"""What is particular to slides of Leica's scanners (SCN): several regions of the glass in a file.

The description of the first page is XML: a collection as large as the glass, and images, which have
a place and a size in nm and a page for each level. One image is the macro picture, of the glass
with its label. The others are laid together as they lie on the glass, to whole pixels.

Source:
    OpenSlide, "Leica format", openslide.org/formats/leica.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element

from tifffile import TiffFile

from medssl.errors import Reason, UnreadableFileError, UnsupportedImageError
from medssl.sources.slide_facts import plausible
from medssl.sources.slide_pyramid import Box, Level, Piece, Pixels, count_tiles
from medssl.sources.xml_text import parse_xml

_WHOLE = 0.95  # of the glass, down and across: an image from there on shows the label
_SAME = 0.01  # part by which the microns per pixel of regions may differ
_SAME_FACTOR = 0.05  # likewise, how many pixels one of a level covers: sides are whole pixels


class Region(NamedTuple):
    """A part of the glass.

    Attributes:
        top: Where it lies, nm.
        left: Likewise.
        mpp: Microns per pixel; None if nothing plausible is said.
        pages: Its levels, the largest first.
    """

    top: int
    left: int
    mpp: float | None
    pages: list[Any]


def read_regions(path: Path, tiff: TiffFile) -> list[Region]:
    """Return the regions that were scanned, the largest first; never the macro picture.

    Raises:
        UnreadableFileError: There is none, or the description is wrong.
        TooLargeError: The description is larger than a slide needs.
        UnsupportedImageError: Fluorescence, or regions of different microns per pixel.
    """
    collection = parse_xml(path, tiff.pages.first.description).find("{*}collection")
    if collection is None:
        raise UnreadableFileError(path, Reason.CORRUPT, "no collection of images")
    glass = _number(path, collection, "sizeY"), _number(path, collection, "sizeX")
    found = [_region(path, tiff, image, glass) for image in collection.findall("{*}image")]
    regions = [region for region in found if region]
    if not regions:
        raise UnreadableFileError(path, Reason.NO_PIXELS, "a slide without a level")
    regions.sort(key=lambda region: -region.pages[0].imagelength * region.pages[0].imagewidth)
    largest = regions[0].mpp
    for region in regions[1:]:
        if not (largest and region.mpp and abs(region.mpp / largest - 1) <= _SAME):
            detail = "a slide of regions whose microns per pixel differ; export each for itself"
            raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
    return regions


def lay_together(path: Path, regions: list[Region], levels: list[list[Level]]) -> list[Level]:
    """Return levels that show all regions, and glass between them.

    Args:
        path: The file.
        regions: As `read_regions` gives them.
        levels: Of each region, the largest first.

    Raises:
        TooLargeError: More pixels than any slide has.
    """
    if len(regions) == 1:
        return levels[0]
    top, left = min(each.top for each in regions), min(each.left for each in regions)
    whole = []
    for parts in zip(*levels, strict=False):  # a small region has fewer
        factor = parts[0].factor
        if any(abs(part.factor / factor - 1) > _SAME_FACTOR for part in parts):
            break
        nm = 1000 * (regions[0].mpp or 1) * factor
        corners = [(round((it.top - top) / nm), round((it.left - left) / nm)) for it in regions]
        whole.append(_laid(path, parts, corners))
    return whole


def _laid(path: Path, parts: tuple[Level, ...], corners: list[tuple[int, int]]) -> Level:
    ends = [
        (row + part.rows, column + part.columns)
        for part, (row, column) in zip(parts, corners, strict=True)
    ]
    rows, columns = (max(sides) for sides in zip(*ends, strict=True))
    count_tiles(path, rows, columns, parts[0].tile_rows, parts[0].tile_columns)
    counts = [
        count_tiles(path, part.rows, part.columns, part.tile_rows, part.tile_columns)
        for part in parts
    ]
    laid = _Laid(parts, corners, [0, *accumulate(counts[:-1])])
    return replace(parts[0], rows=rows, columns=columns, decode=laid.decode, placed=laid.pieces)


@dataclass(frozen=True, eq=False, slots=True)
class _Laid:
    """The same level of several regions.

    Attributes:
        parts: Those of the regions.
        corners: Row and column of each where it begins.
        firsts: Number of the first tile of each; they are counted through.
    """

    parts: Sequence[Level]
    corners: Sequence[tuple[int, int]]
    firsts: Sequence[int]

    def decode(self, index: int) -> Pixels | None:
        number = bisect_right(self.firsts, index) - 1
        return self.parts[number].decode(index - self.firsts[number])

    def pieces(self, box: Box) -> Iterator[Piece]:
        for part, (row, column), number in zip(self.parts, self.corners, self.firsts, strict=True):
            top, left = max(box[0] - row, 0), max(box[1] - column, 0)
            bottom, right = min(box[2] - row, part.rows), min(box[3] - column, part.columns)
            if top >= bottom or left >= right:
                continue
            for tile, inside, (first, start) in part.pieces((top, left, bottom, right)):
                lower, end = min(inside[2], part.rows), min(inside[3], part.columns)
                moved = (inside[0] + row, inside[1] + column, lower + row, end + column)
                yield Piece(number + tile, moved, (first + row, start + column))


def _region(path: Path, tiff: TiffFile, image: Element, glass: tuple[int, int]) -> Region | None:
    """Return an image; None for the macro picture."""
    view = image.find("{*}view")
    if view is None:
        raise UnreadableFileError(path, Reason.CORRUPT, "an image without a place")
    size = _number(path, view, "sizeY"), _number(path, view, "sizeX")
    if all(side >= _WHOLE * most for side, most in zip(size, glass, strict=True)):
        return None
    dimensions = image.findall("{*}pixels/{*}dimension")
    if any(_number(path, each, "c", 0) for each in dimensions):
        detail = "a slide in fluorescence, with a picture for each channel"
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
    pages = [_page(path, tiff, each) for each in dimensions if not _number(path, each, "z", 0)]
    if not pages:
        raise UnreadableFileError(path, Reason.CORRUPT, "an image without pages")
    pages.sort(key=lambda page: -page.imagewidth)
    mpp = plausible(size[1] / (1000 * pages[0].imagewidth))
    place = _number(path, view, "offsetY", 0), _number(path, view, "offsetX", 0)
    return Region(*place, mpp, pages)


def _page(path: Path, tiff: TiffFile, dimension: Element) -> Any:
    """Return the page of a level, which must be as large as described: else it is another one."""
    number = _number(path, dimension, "ifd")
    sides = _number(path, dimension, "sizeY"), _number(path, dimension, "sizeX")
    page: Any = tiff.pages[number] if 0 <= number < len(tiff.pages) else None
    if page is None or sides != (page.imagelength, page.imagewidth) or min(sides) < 1:
        raise UnreadableFileError(path, Reason.CORRUPT, "a level that is not as large as described")
    return page


def _number(path: Path, element: Element, name: str, missing: int | None = None) -> int:
    text = element.get(name)
    if text is None and missing is not None:
        return missing
    try:
        return int(text or "")
    except ValueError as error:
        detail = f"a description without {name}, or of another kind"
        raise UnreadableFileError(path, Reason.CORRUPT, detail) from error
