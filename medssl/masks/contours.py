"""RT Structure Sets (RTSTRUCT): closed contours in the plane of slices."""

from pathlib import Path

import numpy as np
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from medssl.errors import Reason, SegmentationError, TooLargeError, UnreadableFileError
from medssl.masks.polygons import Floats
from medssl.masks.segments import names_of
from medssl.masks.stack import Stack
from medssl.masks.structures import Contour, Structures
from medssl.sources.dicom_references import STRUCTURE_SET
from medssl.sources.dicom_values import first_text, items, numbers
from medssl.sources.reading import reading

WORDS = ("StructureSetROISequence", "ROIContourSequence")
_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_MOST_CORNERS = 1 << 20  # of one contour
_FARTHEST = 1e6  # mm
_CONTOUR_DATA = tag_for_keyword("ContourData") or 0


def is_structure_set(path: Path, header: Dataset) -> bool:
    """Tell an RT Structure Set, also one without class, from other objects."""
    kind = first_text(path, header, "SOPClassUID")
    return kind == STRUCTURE_SET or bool(items(path, header, "ROIContourSequence"))


def read_contours(path: Path, header: Dataset, stack: Stack) -> Structures:
    """Keep the closed contours of an RT Structure Set, in rows and columns of slices.

    Raises:
        SegmentationError: Without structures.
        IngestError: Damaged or too large.
    """
    rois = items(path, header, "ROIContourSequence")
    if not rois:
        raise SegmentationError(path, "an RT Structure Set without contours", ())
    names = names_of(path, header, "StructureSetROISequence", "ROINumber", "ROIName")
    found = Structures(path)
    for structure, roi in enumerate(rois):
        number = next(iter(numbers(path, roi, "ReferencedROINumber")), 0)
        for contour in items(path, roi, "ContourSequence"):
            if first_text(path, contour, "ContourGeometricType") in _CLOSED:
                corners = _corners(path, contour)
                if len(corners):
                    _lay(corners, structure, names.get(int(number), ""), stack, found)
    return found


def _lay(corners: Floats, structure: int, name: str, stack: Stack, found: Structures) -> None:
    """Note in which slices a contour lies, or which it crosses."""
    images, is_across = stack.place(corners)
    found.hold(corners.nbytes * max(1, len(images)))
    found.loose += not images
    for image, off in images:
        placed = image.in_pixels(corners)
        if is_across:
            found.crossed.setdefault(image.key, set()).add(name)
        elif placed is not None:
            contour = Contour(structure, name, off, np.ascontiguousarray(placed[:, :2]))
            found.contours.setdefault(image.key, []).append(contour)


def _corners(path: Path, contour: Dataset) -> Floats:
    """Return LPS in mm, `[corners, 3]`, read without pydicom, which takes 100 bytes a number."""
    with reading(path, "contour"):
        content = getattr(contour.get_item(_CONTOUR_DATA), "value", None) or b""
        if not isinstance(content, bytes):
            raise UnreadableFileError(path, Reason.CORRUPT, "a contour of another type")
        if content.count(b"\\") >= 3 * _MOST_CORNERS:
            raise TooLargeError(path, Reason.TOO_LARGE, "a contour of too many corners")
        text = content.strip(b"\0 ")
        values = np.array([float(each) for each in text.split(b"\\")] if text else [])
    if len(values) % 3 or not (np.abs(values) < _FARTHEST).all():
        detail = "a contour of incomplete corners, or of such as no patient has"
        raise UnreadableFileError(path, Reason.CORRUPT, detail)
    return values.reshape(-1, 3)
