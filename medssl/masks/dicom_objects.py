"""DICOM objects that hold structures: segmentations (SEG) and RT Structure Sets (RTSTRUCT).

Structures are drawn into the slices they lie in by their place in the patient. The names that a
person gave them are compared with names that the user asks for, and go nowhere else.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydicom.datadict import tag_for_keyword

from medssl.errors import Reason, UnsupportedImageError
from medssl.masks import contours, segments
from medssl.masks.slices import Slice
from medssl.masks.stack import Stack
from medssl.masks.structures import Structures
from medssl.sources.dicom import open_frames, read_header
from medssl.sources.local import local_file
from medssl.sources.reading import reading


def open_structures(path: Path, images: Sequence[Slice]) -> Structures:
    """Read a segmentation or an RT Structure Set.

    Args:
        path: The file.
        images: All slices that it may belong to.

    Raises:
        SegmentationError: Neither of both, or without a structure.
        UnsupportedImageError: Nothing in it is at the place of one of the slices.
        IngestError: Damaged, too large or of a kind that is not read.
    """
    with local_file(path) as local:
        found = replace(_read(local, Stack(images)), path=path)
    if found.loose and not (found.pixels or found.contours or found.crossed):
        detail = "structures in another grid or place than the images"
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
    return found


def _read(path: Path, stack: Stack) -> Structures:
    with reading(path, "file"), path.open("rb") as file:
        header, *_ = read_header(path, file, also=_tags(contours.WORDS))
    if contours.is_structure_set(path, header):
        return contours.read_contours(path, header, stack)
    with open_frames(path, also=_tags(segments.WORDS)) as opened:
        return segments.read_segments(opened, stack)


def _tags(words: Sequence[str]) -> tuple[int, ...]:
    return tuple(tag_for_keyword(word) or 0 for word in words)
