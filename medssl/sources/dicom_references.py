"""Which series the structures of a DICOM object are in."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydicom.dataset import Dataset

from medssl.sources.dicom_values import first_text, items

_SERIES = (
    ("ReferencedSeriesSequence",),  # of a segmentation
    (  # of an RT Structure Set
        "ReferencedFrameOfReferenceSequence",
        "RTReferencedStudySequence",
        "RTReferencedSeriesSequence",
    ),
)


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
