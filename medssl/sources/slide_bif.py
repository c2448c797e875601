"""What is particular to slides of Ventana's and Roche's scanners (BIF): TIFF files of photos.

Each tile of level 0 is a photo of the camera, and neighbours overlap. By how much the file says in
ways that readers take differently, so that it is not used: tiles for learning lie within single
photos. Level `i` is the grid of photos, overlaps included, shrunk by `2 ** i`.

Source:
    Roche, "BIF image file format for digital pathology", version 1.0, 2020; on files of older
    scanners, ome/bioformats #3336 and #3678, and WSILabs/opentile-go, docs/formats/bif.md.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tifffile import TiffFile

from medssl.errors import Reason, UnreadableFileError, UnsupportedImageError
from medssl.sources.slide_facts import plausible
from medssl.sources.slide_pyramid import Level

_LEVEL = re.compile(r"\s*level=(\d{1,2})\b")
_XMP, _XMP_BYTES = 700, 1 << 16  # tag, and where its beginning ends: there may be megabytes
_PADDING = 64  # px, by which a level may jut out: encoders fill up their blocks
_ATTRIBUTE = rb"""[\w:.-]+\s*=\s*(?:"[^"<]*"|'[^'<]*')"""
_WANTED = rb"""<iScan(?:\s+%b)*?\s+%b\s*=\s*["']\s*(\d{1,8}(?:\.\d{0,20})?)\s*["']"""
_SCAN_RES = re.compile(_WANTED % (_ATTRIBUTE, b"ScanRes"))
_PLANES = re.compile(_WANTED % (_ATTRIBUTE, b"Z-layers"))


def photo_pages(path: Path, tiff: TiffFile) -> dict[int, Any]:
    """Return the page of each level, in order; label, thumbnail and the like are left out.

    Raises:
        UnreadableFileError: Without level 0.
        UnsupportedImageError: Several focal planes.
    """
    pages: dict[int, Any] = {}
    page: Any
    for page in tiff.pages:
        found = _LEVEL.match(page.description) if page.is_tiled else None
        level = int(found[1]) if found else None
        is_stack = level in pages or (found is not None and page.imagedepth != 1)
        if is_stack or max(_numbers(page, _PLANES), default=1) > 1:
            detail = "a slide of several focal planes; keep one"
            raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
        if level is not None:
            pages[level] = page
    if 0 not in pages:
        raise UnreadableFileError(path, Reason.NO_PIXELS, "a slide without level 0")
    return dict(sorted(pages.items()))


def shrunk_photos(path: Path, levels: list[Level]) -> Iterator[Level]:
    """Yield levels as large as the slide makes them, without what juts out.

    Those of which a pixel may show two photos are left out: 1360 rows can be shrunk by 16 at most.

    Args:
        path: The file.
        levels: As stored, the slide itself first.

    Raises:
        UnreadableFileError: One is not as large as the slide, shrunk.
    """
    whole = levels[0]
    for level in levels:
        by = round(level.factor)
        if whole.tile_rows % by or whole.tile_columns % by:
            continue
        rows, columns = whole.rows // by, whole.columns // by
        stored = (rows, level.rows, level.tile_rows), (columns, level.columns, level.tile_columns)
        for side, told, tile in stored:
            if not side <= told <= side + _PADDING or -(-side // tile) != -(-told // tile):
                detail = "a level that is not as large as the slide, shrunk"
                raise UnreadableFileError(path, Reason.CORRUPT, detail)
        yield replace(level, rows=rows, columns=columns)


def scan_resolution(path: Path, tiff: TiffFile) -> float | None:
    """Return the microns per pixel that the scanner wrote; None if nothing plausible.

    Raises:
        UnreadableFileError: It wrote several.
    """
    told = {value for page in tiff.pages for value in _numbers(page, _SCAN_RES)}
    if len(told) > 1:
        raise UnreadableFileError(path, Reason.CORRUPT, "different microns per pixel")
    return plausible(told.pop()) if told else None


def _numbers(page: Any, wanted: re.Pattern[bytes]) -> list[float]:
    """Return what an attribute of `iScan` is; others, which may hold names, are passed over."""
    tag = page.tags.get(_XMP)
    if tag is None:
        return []
    file = page.parent.filehandle
    file.seek(tag.valueoffset)
    beginning = file.read(min(tag.valuebytecount, _XMP_BYTES))
    return [float(number) for number in wanted.findall(beginning)]
