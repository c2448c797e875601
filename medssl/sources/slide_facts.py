"""How large the pixels of a slide are, by what its maker wrote."""

import math
import re
from typing import Any

_APERIO = re.compile(r"\|\s*MPP\s*=\s*([\d.]+)")
_UNIT_UM = {2: 25_400.0, 3: 10_000.0}  # of TIFF's ResolutionUnit: inch, centimetre
_PLAUSIBLE = (0.05, 50.0)  # microns per pixel; 72 dots per inch, a default, are 353


def microns_per_pixel(page: Any, *, aperio: bool) -> float | None:
    """Return the microns per pixel of a page of a TIFF file; None if nothing plausible is said.

    Args:
        page: That of the slide itself.
        aperio: Whether its description is one of Aperio's scanners.
    """
    found = _aperio(page) if aperio else None
    return found or _of_resolution(page)


def _aperio(page: Any) -> float | None:
    match = _APERIO.search(page.description or "")
    return plausible(float(match[1])) if match and match[1].count(".") <= 1 else None


def _of_resolution(page: Any) -> float | None:
    tag, unit = page.tags.get("XResolution"), page.tags.get("ResolutionUnit")
    if tag is None or unit is None or int(unit.value) not in _UNIT_UM:
        return None
    pair = tag.value if isinstance(tag.value, tuple) else (tag.value, 1)
    if len(pair) != 2 or not all(isinstance(part, int | float) and part > 0 for part in pair):
        return None
    numerator, denominator = pair
    return plausible(_UNIT_UM[int(unit.value)] * denominator / numerator)


def plausible(value: float) -> float | None:
    """Return microns per pixel that a slide can have; None for any other number."""
    low, high = _PLAUSIBLE
    return value if math.isfinite(value) and low <= value <= high else None
