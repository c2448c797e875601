"""Whole slides in DICOM (VL Whole Slide Microscopy Image Storage): frames are tiles of a level.

A file is one level, and its frames are decoded when they are needed. Coarser levels of the series,
in files beside it, serve to look at the slide as a whole; see `medssl.sources.slide_series`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from medssl.errors import IngestError, Reason, UnreadableFileError, UnsupportedImageError
from medssl.sources.dicom import DicomFile, open_frames
from medssl.sources.dicom_values import first_text, places_for, whole_number
from medssl.sources.reading import reading
from medssl.sources.slide_pyramid import Level, Pixels, Pyramid, count_tiles
from medssl.sources.slide_series import SlideLevel, describe_level, levels_beside

Frames = Mapping[int, int] | Sequence[int]  # frame of each tile


@contextmanager
def open_dicom_pyramid(path: Path, *, beside: bool) -> Iterator[Pyramid]:
    """Open a level of a slide and, if `beside`, the coarser ones in files beside it.

    Raises:
        UnreadableFileError: Damaged.
        UnsupportedImageError: The label, an overview or a thumbnail; without 8-bit colours; several
            focal planes or optical paths; a level that several files share; tiles in no grid.
        TooLargeError: More pixels than any slide has, or tiles beyond the pixel budget.
    """
    with ExitStack() as stack:
        file = stack.enter_context(open_frames(path))
        own = describe_level(path, file.header)
        levels = [_level(file, own, 1.0)]
        others = levels_beside(own) if beside else []
        coarser = [other for other in others if other.columns < own.columns]
        for other in sorted(coarser, key=lambda level: -level.columns):
            with suppress(IngestError):  # a damaged one: the whole is then looked at in another
                file_beside = stack.enter_context(open_frames(other.path))
                levels.append(_level(file_beside, other, own.columns / other.columns))
        yield Pyramid(tuple(levels), own.mpp, file.facts)


def _level(file: DicomFile, about: SlideLevel, factor: float) -> Level:
    path, layout = file.path, file.layout
    if layout.samples != 3 or layout.bits.allocated != 8:
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, "a slide without 8-bit colours")
    size = (about.rows, about.columns, layout.rows, layout.columns)
    count = count_tiles(path, *size)
    frames: Frames = range(count)
    if _is_sparse(path, file.header):
        with reading(path, "places of tiles"):
            frames = _frames_by_place(file, about)
    elif layout.frames != count:
        detail = (
            f"{layout.frames} frames for {count} tiles: several focal planes or optical paths, or a"
            " level that several files share; keep one plane and path, in one file"
        )
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
    return Level(*size, factor, partial(_decode_tile, file, frames))


def _decode_tile(file: DicomFile, frames: Frames, index: int) -> Pixels | None:
    if isinstance(frames, Mapping) and index not in frames:
        return None
    tile = file.pixels.read(frames[index])
    if tile.dtype != np.uint8 or tile.shape != (file.layout.rows, file.layout.columns, 3):
        raise UnreadableFileError(file.path, Reason.CORRUPT, "a tile of another size or depth")
    return tile


def _is_sparse(path: Path, header: Dataset) -> bool:
    """Tell whether each frame says where it lies; where nothing is said, all are there, by rows."""
    if first_text(path, header, "DimensionOrganizationType") == "TILED_FULL":
        return False
    return "PerFrameFunctionalGroupsSequence" in header


def _frames_by_place(file: DicomFile, about: SlideLevel) -> dict[int, int]:
    """Return the frame of each tile that there is.

    Source:
        DICOM PS3.3, C.8.12.6.1 (Plane Position (Slide)): places count from 1.
    """
    path, layout = file.path, file.layout
    across = -(-about.columns // layout.columns)
    frames: dict[int, int] = {}
    for frame in range(layout.frames):
        place = next(places_for(path, file.header, frame, "PlanePositionSlideSequence"))
        top = whole_number(path, place, "RowPositionInTotalImagePixelMatrix") - 1
        left = whole_number(path, place, "ColumnPositionInTotalImagePixelMatrix") - 1
        row, column = top // layout.rows, left // layout.columns
        tile = row * across + column
        is_in_grid = top == row * layout.rows and left == column * layout.columns
        if not (is_in_grid and 0 <= top < about.rows and 0 <= left < about.columns):
            raise UnsupportedImageError(path, Reason.UNSUPPORTED, "tiles that lie in no grid")
        if tile in frames:
            detail = "several frames of one tile: focal planes or optical paths; keep one"
            raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
        frames[tile] = frame
    return frames
