"""Which pages of a TIFF file are the levels of its slide, and whether others are slides too.

A level shows the whole slide, so that it is as much smaller down as across. What is not, such as a
label that is stored as levels are, is never decoded.
"""

import re
from pathlib import Path
from typing import Any

from tifffile import TiffFile

from medssl.errors import Reason, UnreadableFileError, UnsupportedImageError
from medssl.sources.slide_xml import ome_pictures
from medssl.sources.xml_text import require_harmless

LONG = 4096  # px; a page with a longer side can be a slide
_NEAR, _NEAR_PART = 2, 1000  # px, and one more for so many, by which the side of a level may be off
_STEP = 1.5  # by which a level is smaller at least
_SMALL = 4  # a page of less than the slide by this is a label or a macro picture, unless long
_NAMED = re.compile(  # a line of its own, with a size at most
    r"^\s*(label|macro|overview|thumbnail)( image)?\s*(\d+\s*x\s*\d+\b.*)?$",
    re.IGNORECASE | re.MULTILINE,
)
_NAME_CHARACTERS = 4096  # of a description, in which a name stands
_MULTIPAGE = 2  # bit of NewSubfileType; others say that a page is of another one


def slide_pages(path: Path, tiff: TiffFile, makers: frozenset[str]) -> list[Any]:
    """Return the pages of the slide and of its levels, the largest first.

    Raises:
        UnreadableFileError: Without pages.
        IngestError: A description in XML that is not harmless.
    """
    if "philips" in makers:  # tifffile parses it
        require_harmless(path, tiff.pages.first.description)
    if not tiff.series:
        raise UnreadableFileError(path, Reason.NO_PIXELS, "no pages")
    first, *smaller = [level.keyframe for level in tiff.series[0].levels]
    others: list[Any] = [series.keyframe for series in tiff.series[1:]]
    below = [page for page in others if page.is_subifd and page.treeindex[0] == first.index]
    return [first, *levels_of(first, [*smaller, *below])]


def levels_of(whole: Any, pages: list[Any]) -> list[Any]:
    """Return which of some pages are levels of a slide, the largest first."""
    found = [
        page for page in pages if page.is_tiled and _is_shrunk(page, whole) and not _is_named(page)
    ]
    return sorted(found, key=lambda page: -page.imagewidth)


def require_one_slide(path: Path, tiff: TiffFile, pages: list[Any], makers: frozenset[str]) -> None:
    """Raise if a file has pages besides those of its slide that may be another one.

    Args:
        path: The file.
        tiff: Likewise.
        pages: Of the slide, as `slide_pages` gives them.
        makers: As tifffile names them, and `ome`.

    Raises:
        UnsupportedImageError: There are such pages.
    """
    known = {page.offset for page in pages}
    beside = ome_pictures(path, tiff.pages.first.description) if "ome" in makers else set()
    page: Any
    for page in tiff.pages:
        is_thumbnail = "svs" in makers and page.index == 1 and not page.is_tiled
        if page.offset in known or page.index in beside or is_thumbnail:
            continue
        if not _is_beside(page, pages[0]):
            detail = (
                "several slides, scenes or focal planes in one file, of which only the first would"
                " be read; export each for itself"
            )
            raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)


def _is_beside(page: Any, whole: Any) -> bool:
    """Tell whether a page is a smaller version, a mask, or a picture that comes with a slide."""
    kind, sides = page.subfiletype, _sides(page)
    if not sides or _is_named(page) or (isinstance(kind, int) and kind & ~_MULTIPAGE):
        return True
    if _is_shrunk(page, whole) or _is_padded(page, whole):
        return True
    rows, columns = sides
    area = whole.imagelength * whole.imagewidth
    return max(sides) <= LONG and rows * columns * _SMALL < area


def _is_shrunk(page: Any, whole: Any) -> bool:
    """Tell whether one number makes both sides of a page of those of the slide, to a few px."""
    sides, wholes = _sides(page), _sides(whole)
    if not (sides and wholes) or max(sides) * _STEP > max(wholes):
        return False
    (rows, columns), (whole_rows, whole_columns) = sides, wholes
    near, near_across = (_NEAR + side // _NEAR_PART for side in sides)
    low = whole_columns * (rows - near) <= whole_rows * (columns + near_across)
    return low and whole_rows * (columns - near_across) <= whole_columns * (rows + near)


def _is_padded(page: Any, whole: Any) -> bool:
    """Tell whether a page is the slide, shrunk, and filled up to whole tiles."""
    tiles = (page.tilelength, page.tilewidth) if page.is_tiled else ()
    sides, wholes = _sides(page), _sides(whole)
    if not (sides and wholes and tiles) or not all(_is_side(tile) for tile in tiles):
        return False
    by = round(wholes[1] / sides[1])
    each = zip(wholes, sides, tiles, strict=True)
    return by > 1 and all(-(-side // (by * tile)) * tile == told for side, told, tile in each)


def _sides(page: Any) -> tuple[int, int] | None:
    """Return rows and columns; None if damage made them anything else."""
    sides = (page.imagelength, page.imagewidth)
    return sides if all(map(_is_side, sides)) else None


def _is_side(value: object) -> bool:
    return isinstance(value, int) and value > 0


def _is_named(page: Any) -> bool:
    return bool(_NAMED.search((page.description or "")[:_NAME_CHARACTERS]))
