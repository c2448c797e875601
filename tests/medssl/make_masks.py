"""A DICOM series in an oblique place, and objects of the standard with structures in it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID

from tests.medssl.make import dataset, write_dicom

SERIES = "1.2.3.4"
SIDES = (0.8, 0.6, 0.0, -0.48, 0.64, 0.6)  # to the right, down: both 1 long
SPACING = (2.5, 0.75, 0.5)  # slices, rows, columns, mm
ORIGIN = np.array([10.0, -20.0, 30.0])
SHAPE = (5, 20, 24)
_SEG = "1.2.840.10008.5.1.4.1.1.66.4"
_LABELMAP = "1.2.840.10008.5.1.4.1.1.66.7"
_STRUCTURES = "1.2.840.10008.5.1.4.1.1.481.3"

Bools = NDArray[np.bool_]


def in_patient(places: NDArray[np.float64], step: float = SPACING[0]) -> NDArray[np.float64]:
    """Return slice, row and column as LPS in mm, `[points, 3]`; `step` is between slices."""
    right, down = np.array(SIDES[:3]), np.array(SIDES[3:])
    axes = np.stack([np.cross(right, down), down, right])
    return ORIGIN + (places * (step, *SPACING[1:])) @ axes


def write_oblique_series(
    folder: Path, *, patient: str = "P1", series: str = SERIES, step: float = SPACING[0]
) -> None:
    """Write slices that differ, under names that do not tell their order."""
    rng = np.random.default_rng(int(series.rpartition(".")[2]))
    voxels = rng.integers(0, 900, SHAPE).astype(np.int16)
    for name, place in enumerate(rng.permutation(SHAPE[0])):
        write_dicom(
            folder / f"{name}.dcm",
            voxels[place],
            PatientID=patient,
            SeriesInstanceUID=series,
            ImageOrientationPatient=list(SIDES),
            ImagePositionPatient=in_patient(np.array([[place, 0.0, 0.0]]), step)[0].tolist(),
            PixelSpacing=list(SPACING[1:]),
        )


def write_segmentation(
    path: Path, structures: Mapping[str, Bools], *, kind: str = "BINARY", **changes: Any
) -> Path:
    """Write one frame per structure and slice where there is anything, as most programs do.

    Args:
        path: The file.
        structures: Masks by name, `SHAPE`.
        kind: SegmentationType.
        changes: Attributes.
    """
    places = [
        (number, place)
        for number, mask in enumerate(structures.values(), start=1)
        for place in range(SHAPE[0])
        if mask[place].any()
    ]
    masks = list(structures.values())
    if kind == "LABELMAP":
        places = [(0, place) for place in range(SHAPE[0])]
        whole = sum(number * mask for number, mask in enumerate(masks, start=1))
        frames = np.asarray(whole, np.uint8)
    else:
        top = 200 if kind == "FRACTIONAL" else 1
        frames = np.stack([masks[number - 1][place] * top for number, place in places])
    about: dict[str, Any] = {
        "SOPClassUID": UID(_LABELMAP if kind == "LABELMAP" else _SEG),
        "Modality": "SEG",
        "SegmentationType": kind,
        "MaximumFractionalValue": 200,
        "ReferencedSeriesSequence": Items([_item(SeriesInstanceUID=SERIES)]),
        "SegmentSequence": Items(
            [_item(SegmentNumber=n, SegmentLabel=name) for n, name in enumerate(structures, 1)]
        ),
        "SharedFunctionalGroupsSequence": Items(
            [_item(PlaneOrientationSequence=Items([_item(ImageOrientationPatient=list(SIDES))]))]
        ),
        "PerFrameFunctionalGroupsSequence": Items(
            [_frame(number, place, with_segment=kind != "LABELMAP") for number, place in places]
        ),
    }
    if kind == "BINARY":
        bits = np.packbits(frames.astype(np.uint8), bitorder="little").tobytes()
        about |= {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}
        about["PixelData"] = bits + b"\0" * (len(bits) % 2)
    return write_dicom(path, frames.astype(np.uint8), **{**about, **changes})


def write_structure_set(
    path: Path, contours: Mapping[str, list[NDArray[np.float64]]], step: float = SPACING[0]
) -> Path:
    """Write an RT Structure Set.

    Args:
        path: The file.
        contours: Slice, row and column of the corners of each contour, by name.
        step: Between slices, mm.
    """
    data = dataset(np.zeros((4, 4), np.uint8), Modality="RTSTRUCT")
    for word in ("PixelData", "Rows", "Columns"):
        delattr(data, word)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = UID(_STRUCTURES)
    series = Items([_item(SeriesInstanceUID=SERIES)])
    study = Items([_item(RTReferencedSeriesSequence=series)])
    data.ReferencedFrameOfReferenceSequence = Items([_item(RTReferencedStudySequence=study)])
    data.StructureSetROISequence = Items(
        [_item(ROINumber=n, ROIName=name) for n, name in enumerate(contours, 1)]
    )
    data.ROIContourSequence = Items(
        [
            _item(
                ReferencedROINumber=n,
                ContourSequence=Items([_contour(each, step) for each in drawn]),
            )
            for n, drawn in enumerate(contours.values(), 1)
        ]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def _frame(number: int, place: int, *, with_segment: bool) -> Dataset:
    position = in_patient(np.array([[place, 0.0, 0.0]]))[0].tolist()
    item = _item(PlanePositionSequence=Items([_item(ImagePositionPatient=position)]))
    if with_segment:
        segment = Items([_item(ReferencedSegmentNumber=number)])
        item.SegmentIdentificationSequence = segment
    return item


def _contour(corners: NDArray[np.float64], step: float) -> Dataset:
    points = [f"{value:.8g}" for value in in_patient(corners, step).ravel()]
    return _item(
        ContourGeometricType="CLOSED_PLANAR", NumberOfContourPoints=len(corners), ContourData=points
    )


def _item(**values: Any) -> Dataset:
    item = Dataset()
    for word, value in values.items():
        setattr(item, word, value)
    return item
