"""How large the pixels of a slide are, by what its maker wrote."""

import math
import re
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

from medssl.errors import Reason, UnsupportedImageError
from medssl.sources.slide_xml import ome_pixel, philips_pixel

Size = tuple[float, float]  # microns, down and across

_APERIO = re.compile(r"\|\s*MPP\s*=\s*([\d.]+)")
_UNIT_UM = {2: 25_400.0, 3: 10_000.0}  # of TIFF's ResolutionUnit: inch, centimetre
_PLAUSIBLE = (0.05, 50.0)  # microns per pixel; 72 dots per inch, a default, are 353
_SQUARE = 0.02  # part by which the sides of a pixel may differ


def microns_per_pixel(path: Path, page: Any, makers: AbstractSet[str]) -> float | None:
    """Return the microns per pixel of a page of a TIFF file; None if nothing plausible is said.

    Args:
        path: The file.
        page: See `pixel_size`.
        makers: Likewise.

    Raises:
        IngestError: As `pixel_size`; or pixels that are not square.
    """
    size = pixel_size(path, page, makers)
    if size is None:
        return None
    if max(size) > (1 + _SQUARE) * min(size):
        detail = "a slide with pixels that are not square"
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
    return size[0] if size[0] == size[1] else math.sqrt(size[0] * size[1])


def pixel_size(path: Path, page: Any, makers: AbstractSet[str]) -> Size | None:
    """Return the sides of a pixel of a page of a TIFF file; None if nothing plausible is said.

    Args:
        path: The file.
        page: That of the slide itself.
        makers: Whose descriptions are understood, as tifffile names them: `svs`, `philips`, `ome`.

    Raises:
        IngestError: A description in XML that is not harmless.
    """
    text = page.description or ""
    told: Size | None = None
    if "svs" in makers:
        told = _aperio(text)
    elif "philips" in makers:
        told = philips_pixel(path, text)
    elif "ome" in makers:
        told = ome_pixel(path, text)
    is_plausible = told is not None and all(map(plausible, told))
    return told if is_plausible else _of_resolution(page)


def _aperio(text: str) -> Size | None:
    match = _APERIO.search(text)
    return (float(match[1]),) * 2 if match and match[1].count(".") <= 1 else None


def _of_resolution(page: Any) -> Size | None:
    tag, unit = page.tags.get("XResolution"), page.tags.get("ResolutionUnit")
    if tag is None or unit is None or not isinstance(unit.value, int):
        return None
    pair = tag.value if isinstance(tag.value, tuple) else (tag.value, 1)
    if len(pair) != 2 or not all(isinstance(part, int | float) and part > 0 for part in pair):
        return None
    numerator, denominator = pair
    mpp = plausible(_UNIT_UM.get(unit.value, math.inf) * denominator / numerator)
    return None if mpp is None else (mpp, mpp)


def plausible(value: float) -> float | None:
    """Return microns per pixel that a slide can have; None for any other number."""
    low, high = _PLAUSIBLE
    return value if math.isfinite(value) and low <= value <= high else None
