"""DICOM objects that hold structures: segmentations (SEG) and RT Structure Sets (RTSTRUCT).

Structures are drawn into the slices they lie in by their place in the patient. The names that a
person gave them are compared with names that the user asks for, and go nowhere else.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from medssl.errors import Reason, SegmentationError, UnreadableFileError, UnsupportedImageError
from medssl.masks.polygons import fill
from medssl.masks.slices import Slice
from medssl.sources.dicom import DicomFile, open_frames, read_header
from medssl.sources.dicom_place import frame_plane
from medssl.sources.dicom_values import first_text, items, numbers, places_for
from medssl.sources.local import local_file
from medssl.sources.place import Plane
from medssl.sources.reading import reading

_SEG_WORDS = ("SegmentSequence", "SegmentationType", "MaximumFractionalValue")
_RT_WORDS = ("StructureSetROISequence", "ROIContourSequence")
_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_SAME_PLACE = 0.1  # of a pixel
_SAME_PLANE = 0.5  # of the distance between slices, of a contour
_SAME_DIRECTION = 1e-3
_FRAME_BUDGET = 1 << 31  # pixels of all frames of a segmentation, kept as bits


class Structures(Protocol):
    """An object that was read."""

    def draw(self, image: Slice) -> dict[str, NDArray[np.bool_]]:
        """Return the pixels of each structure in a slice, by its name in small letters.

        Raises:
            IngestError: They cannot be put into it.
        """

    def fits(self, images: Sequence[Slice]) -> bool:
        """Tell whether all that is in it can be drawn into some slices."""


def open_structures(path: Path) -> Structures:
    """Read a segmentation or an RT Structure Set.

    Raises:
        SegmentationError: Neither of both, or without a structure.
        IngestError: Damaged, too large or of a kind that is not read.
    """
    with local_file(path) as local:
        contours = _read_contours(local)
        if contours is not None:
            return contours
        with open_frames(local, also=_tags(_SEG_WORDS)) as file:
            return _read_frames(file)


class _Frame(NamedTuple):
    plane: Plane
    name: str
    bits: NDArray[np.uint8]  # packed


class Segmentation(NamedTuple):
    """Frames with a structure each.

    Attributes:
        path: Of the file.
        shape: Rows and columns of every frame.
        frames: What they hold.
    """

    path: Path
    shape: tuple[int, int]
    frames: list[_Frame]

    def draw(self, image: Slice) -> dict[str, NDArray[np.bool_]]:
        """See `Structures.draw`; frames of other places are none of this slice."""
        found: dict[str, NDArray[np.bool_]] = {}
        for frame in self.frames:
            if self._is_at(frame.plane, image):
                count = self.shape[0] * self.shape[1]
                drawn = np.unpackbits(frame.bits, count=count).astype(bool).reshape(self.shape)
                found[frame.name] = found.get(frame.name, False) | drawn
        return found

    def fits(self, images: Sequence[Slice]) -> bool:
        """Tell whether every frame is at the place of one of the slices."""
        return all(
            any(self._is_at(frame.plane, image) for image in images)
            for frame in {frame.plane: frame for frame in self.frames}.values()
        )

    def _is_at(self, plane: Plane, image: Slice) -> bool:
        if self.shape != image.shape or image.plane is None:
            return False
        turn = np.abs(np.subtract(plane[1:], image.plane[1:])).max()
        place = image.in_pixels(np.array([plane.position]))
        if place is None or turn > _SAME_DIRECTION:
            return False
        between = image.spacing_mm[0] or 1.0
        return bool(np.abs(place[0] / (1, 1, between)).max() < _SAME_PLACE)


class Contours(NamedTuple):
    """Closed contours, each in a plane.

    Attributes:
        path: Of the file.
        named: Names, and corners in LPS, mm, `[corners, 3]`.
    """

    path: Path
    named: list[tuple[str, NDArray[np.float64]]]

    def draw(self, image: Slice) -> dict[str, NDArray[np.bool_]]:
        """See `Structures.draw`."""
        inside: dict[str, list[NDArray[np.float64]]] = {}
        for name, corners in self.named:
            placed = image.in_pixels(corners)
            if placed is None:
                detail = "contours for an image without a place in the patient"
                raise UnsupportedImageError(self.path, Reason.UNSUPPORTED, detail)
            off = placed[:, 2]
            nearest = _SAME_PLANE * (image.spacing_mm[0] or 1.0)
            if off.min() > nearest or off.max() < -nearest:
                continue
            if np.ptp(off) > nearest:
                detail = "contours that are not in the plane of the images"
                raise UnsupportedImageError(self.path, Reason.UNSUPPORTED, detail)
            if -nearest <= off.mean() < nearest:  # one of two slices where it is between them
                inside.setdefault(name, []).append(placed[:, :2])
        return {name: fill(contours, image.shape) for name, contours in inside.items()}

    def fits(self, images: Sequence[Slice]) -> bool:
        """Contours are drawn into whatever slices there are."""
        return bool(images)


def _tags(words: Sequence[str]) -> tuple[int, ...]:
    return tuple(tag_for_keyword(word) or 0 for word in words)


def _read_frames(file: DicomFile) -> Segmentation:
    """Keep all frames of a segmentation that hold anything, as bits."""
    path, header, layout = file.path, file.header, file.layout
    segments = {
        int(number): (first_text(path, item, "SegmentLabel") or "").lower()
        for item in items(path, header, "SegmentSequence")
        for number in numbers(path, item, "SegmentNumber")[:1]
    }
    if not segments:
        raise SegmentationError(path, "an object without segments", ())
    if layout.rows * layout.columns * layout.frames > _FRAME_BUDGET:
        raise UnsupportedImageError(path, Reason.TOO_LARGE, "too many pixels in all frames")
    kind = first_text(path, header, "SegmentationType")
    least = max(numbers(path, header, "MaximumFractionalValue"), default=1) / 2
    frames = []
    for number in range(layout.frames):
        plane = frame_plane(path, header, number)
        if plane is None:
            detail = "segments without a place in the patient"
            raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
        values = file.pixels.read(number)
        if kind == "LABELMAP":
            drawn = {name: values == segment for segment, name in segments.items()}
        else:
            segment = _segment_of(path, header, number)
            if segment not in segments:
                raise UnreadableFileError(path, Reason.CORRUPT, "a frame of no known segment")
            is_in = values > least if kind == "FRACTIONAL" else values > 0
            drawn = {segments[segment]: is_in}
        frames += [
            _Frame(plane, name, np.packbits(pixels))
            for name, pixels in drawn.items()
            if pixels.any()
        ]
    return Segmentation(path, (layout.rows, layout.columns), frames)


def _segment_of(path: Path, header: Dataset, frame: int) -> int | None:
    for place in places_for(path, header, frame, "SegmentIdentificationSequence"):
        if found := numbers(path, place, "ReferencedSegmentNumber"):
            return int(found[0])
    return None


def _read_contours(path: Path) -> Contours | None:
    """Read an RT Structure Set; None if the file is something else."""
    with reading(path, "file"), path.open("rb") as file:
        header, *_ = read_header(path, file, also=_tags(_RT_WORDS))
    rois = items(path, header, "ROIContourSequence")
    if not rois:
        return None
    names = {
        int(number): (first_text(path, item, "ROIName") or "").lower()
        for item in items(path, header, "StructureSetROISequence")
        for number in numbers(path, item, "ROINumber")[:1]
    }
    named = []
    for roi in rois:
        number = next(iter(numbers(path, roi, "ReferencedROINumber")), None)
        named += [
            (names.get(int(number or 0), ""), _corners(path, contour))
            for contour in items(path, roi, "ContourSequence")
            if first_text(path, contour, "ContourGeometricType") in _CLOSED
        ]
    return Contours(path, named)


def _corners(path: Path, contour: Dataset) -> NDArray[np.float64]:
    values = np.array(numbers(path, contour, "ContourData"))
    if len(values) < 9 or len(values) % 3:
        raise UnreadableFileError(path, Reason.CORRUPT, "a contour of incomplete corners")
    return values.reshape(-1, 3)
