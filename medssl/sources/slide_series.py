"""Which files of a DICOM series are the levels of one slide, and which of them serves best.

A DICOM slide is a pyramid whose levels are files of their own, in practice in one folder. Each file
is read at its own resolution, so that only one of them may give tiles: else the same tissue would
be there several times. Label, overview and thumbnail are files of the series too, and no levels.
"""

import math
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from pydicom.dataset import Dataset

from medssl.errors import IngestError, Reason, UnsupportedImageError
from medssl.sources.dicom import WHOLE_SLIDE, is_whole_slide, read_header
from medssl.sources.dicom_values import first_text, numbers, places_for, texts, whole_number
from medssl.sources.reading import reading
from medssl.sources.slide_facts import plausible
from medssl.sources.sniff import HEAD_BYTES

FITTING = 1.01  # times the wanted microns per pixel, up to which a level still has all details
_NAMED = re.compile(re.escape(WHOLE_SLIDE.encode()) + rb"(?![.\d])")
_SAME = 0.02  # of a side or a spacing: levels are rounded, and padded, to whole pixels
_UNITS = ("SeriesInstanceUID", "FrameOfReferenceUID", "PyramidUID")  # what levels have in common


class SlideLevel(NamedTuple):
    """What the header of a level says.

    Attributes:
        path: The file.
        series: What it has in common with the other levels; in clear, and stays in memory.
        rows: Of the level, px.
        columns: Likewise.
        mpp: Microns per pixel; None if nothing plausible is said.
    """

    path: Path
    series: tuple[str | None, ...]
    rows: int
    columns: int
    mpp: float | None


def is_dicom_slide(path: Path) -> bool:
    """Tell whether a DICOM file is of a whole slide, its label and its overview included.

    Raises:
        IngestError: It names that class in its first bytes, but is damaged.
    """
    with reading(path, "file"), path.open("rb") as file:
        if not _NAMED.search(file.read(HEAD_BYTES)):
            return False
        file.seek(0)
        return is_whole_slide(path, read_header(path, file)[0])


def describe_level(path: Path, header: Dataset) -> SlideLevel:
    """Read what a file says of itself as a level of a slide.

    Raises:
        UnreadableFileError: It says no size of the whole.
        UnsupportedImageError: It is the label, an overview or a thumbnail, shows the label, or has
            pixels that are not square.
    """
    kind = [word.upper() for word in texts(path, header, "ImageType")]
    if "VOLUME" not in kind:
        detail = "label, overview or thumbnail of a slide: only its VOLUME images are read"
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
    if (first_text(path, header, "SpecimenLabelInImage") or "").upper().startswith("Y"):
        detail = "a slide whose label is in the image, as the file says"
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
    rows = whole_number(path, header, "TotalPixelMatrixRows")
    columns = whole_number(path, header, "TotalPixelMatrixColumns")
    series = tuple(first_text(path, header, keyword) for keyword in _UNITS)
    return SlideLevel(path, series, rows, columns, _microns_per_pixel(path, header, columns))


def require_best_level(path: Path, wanted: float) -> None:
    """Raise unless a file is the level of its slide that tiles are to be read from.

    That is the coarsest with all the details that are wanted, else the finest; of copies, the first
    by name.

    Args:
        path: A file of a slide.
        wanted: Microns per pixel of the tiles.

    Raises:
        IngestError: A file beside it serves better; or as `describe_level`.
    """
    with reading(path, "file"), path.open("rb") as file:
        own = describe_level(path, read_header(path, file)[0])
    levels = sorted([own, *levels_beside(own)])
    fitting = [level for level in levels if level.mpp and level.mpp <= FITTING * wanted]
    if fitting:
        best = max(fitting, key=lambda level: level.mpp or 0)
    else:
        best = max(levels, key=lambda level: level.columns)
    if best.path != path:
        detail = f"a level of a slide; for tiles of {wanted:g} um another file beside it is read"
        raise UnsupportedImageError(path, Reason.OTHER_LEVEL, detail)


def levels_beside(own: SlideLevel) -> list[SlideLevel]:
    """Return the other levels of a slide: files of its series in its folder, as large in microns.

    Links are not followed, since they may lead out of what is scanned.
    """
    if own.series[0] is None:
        return []
    folder = own.path.parent
    with reading(own.path, "folder"):
        changed_ns = folder.stat().st_mtime_ns
        found = _levels_in(folder, changed_ns)
    return [other for other in found if other.path != own.path and _is_same_slide(own, other)]


@lru_cache(maxsize=4)
def _levels_in(folder: Path, changed_ns: int) -> tuple[SlideLevel, ...]:  # noqa: ARG001
    """Describe all levels of slides in a folder, read anew when files come or go."""
    return tuple(_described(sorted(folder.iterdir())))


def _described(paths: list[Path]) -> Iterator[SlideLevel]:
    for path in paths:
        if path.is_symlink() or not path.is_file():
            continue
        try:
            if is_dicom_slide(path):
                with path.open("rb") as file:
                    yield describe_level(path, read_header(path, file)[0])
        except IngestError:
            continue  # no level; a scan tells why, when it comes to that file


def _is_same_slide(one: SlideLevel, other: SlideLevel) -> bool:
    if one.series != other.series:
        return False
    scale = other.columns / max(one.columns, 1)
    if one.mpp and other.mpp:
        scale = one.mpp / other.mpp
    pairs = ((one.rows * scale, other.rows), (one.columns * scale, other.columns))
    return all(abs(ours - theirs) <= _SAME * theirs + 1 for ours, theirs in pairs)


def _microns_per_pixel(path: Path, header: Dataset, columns: int) -> float | None:
    """Return the spacing of the frames, else the width of the whole by its columns."""
    for place in places_for(path, header, 0, "PixelMeasuresSequence"):
        spacing = numbers(path, place, "PixelSpacing")
        if len(spacing) == 2 and min(spacing) > 0:
            if max(spacing) > (1 + _SAME) * min(spacing):
                detail = "a slide with pixels that are not square"
                raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
            if mpp := plausible(1000 * math.sqrt(spacing[0]) * math.sqrt(spacing[1])):
                return mpp
    width = numbers(path, header, "ImagedVolumeWidth")
    return plausible(1000 * width[0] / columns) if width and columns > 0 else None
