"""DICOM objects that hold structures: segmentations (SEG) and RT Structure Sets (RTSTRUCT).

Structures are drawn into the slices they lie in by their place in the patient. The names that a
person gave them are compared with names that the user asks for, and go nowhere else.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
_SAME_PLACE = 0.1  # of a pixel, and of the distance between slices
_SAME_DIRECTION = 1e-3
_FRAME_BUDGET = 1 << 31  # pixels of all frames of a segmentation, kept as bits

Key = tuple[str, int]  # path and frame of a slice


class Structures(NamedTuple):
    """What an object holds, sorted by the slices that it belongs to.

    Attributes:
        path: Of the object.
        drawn: Names in small letters, and pixels as bits or corners of a contour, `[corners, 2]`
            in rows and columns, of each slice.
        crossed: Slices with contours that are not in their plane.
        loose: Frames or contours that belong to no slice.
    """

    path: Path
    drawn: dict[Key, list[tuple[str, NDArray[Any]]]]
    crossed: frozenset[Key]
    loose: int

    def draw(self, image: Slice) -> dict[str, NDArray[np.bool_]]:
        """Return the pixels of each structure in a slice; of contours those inside an odd number.

        Raises:
            UnsupportedImageError: Contours go across the slice.
        """
        if image.key in self.crossed:
            detail = "contours that are not in the plane of the images"
            raise UnsupportedImageError(self.path, Reason.UNSUPPORTED, detail)
        found: dict[str, NDArray[np.bool_]] = {}
        contours: dict[str, list[NDArray[Any]]] = {}
        for name, shape in self.drawn.get(image.key, []):
            if shape.ndim == 2:
                contours.setdefault(name, []).append(shape)
                continue
            pixels = np.unpackbits(shape, count=image.rows * image.columns).astype(bool)
            found[name] = found.get(name, False) | pixels.reshape(image.shape)
        return found | {name: fill(each, image.shape) for name, each in contours.items()}


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
    stack = _Stack(images)
    with local_file(path) as local:
        found = _read_contours(local, stack)
        if found is None:
            with open_frames(local, also=_tags(_SEG_WORDS)) as file:
                found = _read_frames(file, stack)
    if found.loose and not found.drawn and not found.crossed:
        detail = "structures in another grid or place than the images"
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
    return found._replace(path=path)


class _Stack:
    """Slices in which places are looked up."""

    def __init__(self, images: Sequence[Slice]) -> None:
        self.images = [each for each in images if each.is_placed]
        planes = [each.plane for each in self.images if each.plane]
        self._positions = np.array([plane.position for plane in planes]).reshape(-1, 3)
        self._sides = np.array([(*plane.right, *plane.down) for plane in planes]).reshape(-1, 6)
        self._normals = np.cross(self._sides[:, :3], self._sides[:, 3:])
        self.step = self._smallest_step()

    def offsets(self, point: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how far a point is off each slice, mm, `[slices]`."""
        return np.asarray(((point - self._positions) * self._normals).sum(1))

    def at(self, plane: Plane, shape: tuple[int, int]) -> list[Slice]:
        """Return the slices whose pixels are those of a plane of this shape."""
        if not self.images:
            return []
        turned = np.abs(self._sides - (*plane.right, *plane.down)).max(1)
        near = np.abs(self.offsets(np.array(plane.position))) < _SAME_PLACE * self.step
        found = [self.images[at] for at in np.flatnonzero(near & (turned < _SAME_DIRECTION))]
        return [each for each in found if each.shape == shape and _begins_at(each, plane)]

    def nearest(self, corners: NDArray[np.float64]) -> tuple[list[Slice], bool]:
        """Return the slices that a contour is nearest to, or goes across, and whether it does."""
        if not self.images:
            return [], False
        off = np.abs(self.offsets(corners.mean(0)))
        least = float(off.min())
        along = (corners - self._positions[int(off.argmin())]) @ self._normals[int(off.argmin())]
        if np.ptp(along) > self.step / 2:
            every = np.stack([self.offsets(corner) for corner in corners])
            crossed = (every.min(0) < self.step / 2) & (every.max(0) > -self.step / 2)
            return [self.images[at] for at in np.flatnonzero(crossed)], True
        if least > self.step / 2 * (1 + _SAME_DIRECTION):
            return [], False
        return [self.images[at] for at in np.flatnonzero(off <= least + 0.01 * self.step)], False

    def _smallest_step(self) -> float:
        """Return the least distance between two slices that are not at one place, mm."""
        if not self.images:
            return 1.0
        along = np.unique(np.round((self._positions @ self._normals[0]), 3))
        steps = np.diff(along)
        return float(steps.min()) if len(steps) else self.images[0].spacing_mm[0] or 1.0


def _begins_at(image: Slice, plane: Plane) -> bool:
    place = image.in_pixels(np.array([plane.position]))
    return place is not None and bool(np.abs(place[0, :2]).max() < _SAME_PLACE)


def _tags(words: Sequence[str]) -> tuple[int, ...]:
    return tuple(tag_for_keyword(word) or 0 for word in words)


def _names(path: Path, header: Dataset, sequence: str, number: str, name: str) -> dict[int, str]:
    """Return names in small letters, by the numbers that stand beside them in a sequence."""
    return {
        int(found): (first_text(path, item, name) or "").lower()
        for item in items(path, header, sequence)
        for found in numbers(path, item, number)[:1]
    }


def _read_frames(file: DicomFile, stack: _Stack) -> Structures:
    """Keep what the frames of a segmentation hold, as bits."""
    path, header, layout = file.path, file.header, file.layout
    names = _segments(path, header)
    if layout.rows * layout.columns * layout.frames > _FRAME_BUDGET:
        raise UnsupportedImageError(path, Reason.TOO_LARGE, "too many pixels in all frames")
    drawn: dict[Key, list[Any]] = {}
    loose = 0
    for number in range(layout.frames):
        plane = frame_plane(path, header, number)
        if plane is None:
            detail = "segments without a place in the patient"
            raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
        images = stack.at(plane, (layout.rows, layout.columns))
        held = {name: each for name, each in _held(file, number, names).items() if each.any()}
        loose += bool(held) and not images
        for image in images:
            shapes = [(name, np.packbits(pixels)) for name, pixels in held.items()]
            drawn.setdefault(image.key, []).extend(shapes)
    return Structures(path, drawn, frozenset(), loose)


def _segments(path: Path, header: Dataset) -> dict[int, str]:
    """Return the names of segments by their numbers; 0 is the background of a label map."""
    found = _names(path, header, "SegmentSequence", "SegmentNumber", "SegmentLabel")
    found.pop(0, None)
    if not found:
        raise SegmentationError(path, "an object without segments", ())
    return found


def _held(file: DicomFile, number: int, names: dict[int, str]) -> dict[str, NDArray[np.bool_]]:
    """Return the pixels of the structures in one frame."""
    path, header = file.path, file.header
    values = file.pixels.read(number)
    kind = first_text(path, header, "SegmentationType")
    if kind == "LABELMAP":
        return {name: values == segment for segment, name in names.items()}
    segment = _segment_of(path, header, number)
    if segment not in names:
        raise UnreadableFileError(path, Reason.CORRUPT, "a frame of no known segment")
    least = max(numbers(path, header, "MaximumFractionalValue"), default=1) / 2
    return {names[segment]: values > (least if kind == "FRACTIONAL" else 0)}


def _segment_of(path: Path, header: Dataset, frame: int) -> int | None:
    for place in places_for(path, header, frame, "SegmentIdentificationSequence"):
        if found := numbers(path, place, "ReferencedSegmentNumber"):
            return int(found[0])
    return None


def _read_contours(path: Path, stack: _Stack) -> Structures | None:
    """Read an RT Structure Set; None if the file is something else."""
    with reading(path, "file"), path.open("rb") as file:
        header, *_ = read_header(path, file, also=_tags(_RT_WORDS))
    rois = items(path, header, "ROIContourSequence")
    if not rois:
        return None
    names = _names(path, header, "StructureSetROISequence", "ROINumber", "ROIName")
    drawn: dict[Key, list[Any]] = {}
    crossed: set[Key] = set()
    loose = 0
    for roi in rois:
        number = next(iter(numbers(path, roi, "ReferencedROINumber")), None)
        for contour in items(path, roi, "ContourSequence"):
            if first_text(path, contour, "ContourGeometricType") not in _CLOSED:
                continue
            corners = _corners(path, contour)
            images, is_across = stack.nearest(corners)
            loose += not images
            if is_across:
                crossed |= {image.key for image in images}
                continue
            for image in images:
                placed = image.in_pixels(corners)
                if placed is not None:
                    shape = names.get(int(number or 0), ""), placed[:, :2]
                    drawn.setdefault(image.key, []).append(shape)
    return Structures(path, drawn, frozenset(crossed), loose)


def _corners(path: Path, contour: Dataset) -> NDArray[np.float64]:
    values = np.array(numbers(path, contour, "ContourData"))
    if len(values) < 9 or len(values) % 3:
        raise UnreadableFileError(path, Reason.CORRUPT, "a contour of incomplete corners")
    return values.reshape(-1, 3)
