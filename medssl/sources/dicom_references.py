"""DICOM objects that hold structures in other images, and which series these are."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydicom.dataset import Dataset

from medssl.errors import SegmentationError
from medssl.sources.dicom_values import first_text, items

STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"  # of radiotherapy
_SEGMENTATIONS = tuple(f"1.2.840.10008.5.1.4.1.1.66.{number}" for number in (4, 5, 7))
_SERIES = (
    ("ReferencedSeriesSequence",),  # of a segmentation
    (  # of an RT Structure Set
        "ReferencedFrameOfReferenceSequence",
        "RTReferencedStudySequence",
        "RTReferencedSeriesSequence",
    ),
)


def is_segmentation(path: Path, header: Dataset) -> bool:
    """Tell an object of masks, by its class or, without that, its modality."""
    kind = first_text(path, header, "SOPClassUID")
    return kind in _SEGMENTATIONS or (not kind and first_text(path, header, "Modality") == "SEG")


def refuse_segmentations(path: Path, header: Dataset) -> None:
    """Raise for structures in other images, so that damaged ones are known by their series too."""
    if is_segmentation(path, header):
        raise segmentation(path, header)


def segmentation(path: Path, header: Dataset) -> SegmentationError:
    """Return the error that says what the object is, and of which series."""
    detail = "structures in other images, for medssl segment"
    return SegmentationError(path, detail, segmented_series(path, header))


def segmented_series(path: Path, header: Dataset) -> tuple[str, ...]:
    """Return the UIDs of the series that an object refers to, each once; often none."""
    found = [
        first_text(path, item, "SeriesInstanceUID")
        for keywords in _SERIES
        for item in _below(path, header, keywords)
    ]
    return tuple(dict.fromkeys(uid for uid in found if uid))


def _below(path: Path, place: Dataset, keywords: Sequence[str]) -> Iterator[Dataset]:
    """Go down a path of sequences."""
    for item in items(path, place, keywords[0]):
        if len(keywords) == 1:
            yield item
        else:
            yield from _below(path, item, keywords[1:])
