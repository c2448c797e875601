"""DICOM segmentations (SEG): binary, fractional, and label maps."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from medssl.errors import Reason, SegmentationError, UnreadableFileError, UnsupportedImageError
from medssl.masks.stack import Stack
from medssl.masks.structures import Bools, Structures, packed
from medssl.sources.dicom import DicomFile
from medssl.sources.dicom_place import frame_plane
from medssl.sources.dicom_values import first_text, items, numbers, places_for
from medssl.sources.place import is_spacing

WORDS = ("SegmentSequence", "SegmentationType", "MaximumFractionalValue")
_FRAME_BUDGET = 1 << 31  # pixels of all frames


def read_segments(file: DicomFile, stack: Stack) -> Structures:
    """Keep what the frames of a segmentation hold.

    Raises:
        SegmentationError: Without segments.
        IngestError: Damaged, too large, or frames without a place.
    """
    path, header, layout = file.path, file.header, file.layout
    names = names_of(path, header, "SegmentSequence", "SegmentNumber", "SegmentLabel")
    names.pop(0, None)  # the background of a label map
    if not names:
        detail = "a DICOM file without segments; masks beside images are PNG, TIFF, NIfTI, ..."
        raise SegmentationError(path, detail, ())
    _require_plausible(file)
    found = Structures(path)
    for frame in range(layout.frames):
        plane = frame_plane(path, header, frame)
        if plane is None:
            detail = "segments without a place in the patient"
            raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
        images = stack.at(plane, (layout.rows, layout.columns), _spacing(path, header, frame))
        is_held = False
        for name, pixels in _held(file, frame, names):
            is_held = True
            content = packed(pixels)
            for image in images:
                found.hold(len(content))
                found.pixels.setdefault(image.key, []).append((name, content))
        found.loose += is_held and not images
    return found


def names_of(path: Path, header: Dataset, sequence: str, number: str, name: str) -> dict[int, str]:
    """Return names in small letters, by the numbers that stand beside them in a sequence."""
    return {
        int(found): (first_text(path, item, name) or "").lower()
        for item in items(path, header, sequence)
        for found in numbers(path, item, number)[:1]
    }


def _require_plausible(file: DicomFile) -> None:
    """Check sizes before a frame is looked at."""
    path, layout = file.path, file.layout
    if layout.rows * layout.columns * layout.frames > _FRAME_BUDGET:
        raise UnsupportedImageError(path, Reason.TOO_LARGE, "too many pixels in all frames")
    if layout.frames > max(1, len(items(path, file.header, "PerFrameFunctionalGroupsSequence"))):
        raise UnreadableFileError(path, Reason.CORRUPT, "fewer descriptions of frames than frames")
    if layout.samples != 1:
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, "segments in colours")


def _held(file: DicomFile, frame: int, names: Mapping[int, str]) -> Iterator[tuple[str, Bools]]:
    """Give the structures of which there is something in a frame, and their pixels."""
    path, header = file.path, file.header
    values = file.pixels.read(frame)
    kind = first_text(path, header, "SegmentationType")
    if kind == "LABELMAP":
        for segment in np.unique(values).tolist():
            if segment in names:
                yield names[segment], values == segment
        return
    number = _segment_of(path, header, frame)
    if number is None or number not in names:
        raise UnreadableFileError(path, Reason.CORRUPT, "a frame of no known segment")
    least = max(numbers(path, header, "MaximumFractionalValue"), default=1) / 2
    pixels = values > (least if kind == "FRACTIONAL" else 0)
    if pixels.any():
        yield names[number], pixels


def _segment_of(path: Path, header: Dataset, frame: int) -> int | None:
    for place in places_for(path, header, frame, "SegmentIdentificationSequence"):
        if found := numbers(path, place, "ReferencedSegmentNumber"):
            return int(found[0])
    return None


def _spacing(path: Path, header: Dataset, frame: int) -> tuple[float, float] | None:
    """Return the distances between rows and between columns, mm; None if they are not said."""
    for place in places_for(path, header, frame, "PixelMeasuresSequence"):
        found = numbers(path, place, "PixelSpacing")
        if len(found) == 2 and is_spacing(*found):
            return found[0], found[1]
    return None
