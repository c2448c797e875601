"""What is particular to slides of Hamamatsu's scanners (NDPI): which pages are levels.

A page is one level at one focus, or a picture of the glass with its label. Large levels are a
single JPEG each, whose restart intervals are read as tiles.

Source:
    OpenSlide, "Hamamatsu format", section "NDPI", openslide.org/formats/hamamatsu.
"""

import math
from pathlib import Path
from typing import Any

from tifffile import TiffFile

from medssl.errors import Reason, UnreadableFileError

_LENS, _FOCUS = 65421, 65424  # tags: magnification, below 0 for the glass; nm off the nominal focus


def level_pages(path: Path, tiff: TiffFile) -> list[Any]:
    """Return the pages of the slide at the focus nearest to the nominal one, the largest first.

    Raises:
        UnreadableFileError: There is none.
    """
    every: list[Any] = list(tiff.pages)
    sized = [page for page in every if isinstance(page.imagewidth, int)]
    pages = [page for page in sized if _number(page, _LENS) > 0]
    if not pages:
        raise UnreadableFileError(path, Reason.NO_PIXELS, "a slide without a level")
    nearest = min((_number(page, _FOCUS) for page in pages), key=lambda nm: (abs(nm), nm))
    levels = {page.imagewidth: page for page in pages if _number(page, _FOCUS) == nearest}
    return [levels[columns] for columns in sorted(levels, reverse=True)]


def _number(page: Any, tag: int) -> float:
    """Return a tag that may be missing, or anything in a damaged file; 0 then."""
    value = page.tags.valueof(tag)
    return value if isinstance(value, int | float) and math.isfinite(value) else 0.0
