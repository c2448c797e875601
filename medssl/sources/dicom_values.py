"""DICOM attributes as plain Python values. Nothing here trusts a file to keep to its types."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from medssl.errors import Reason, UnreadableFileError
from medssl.sources.reading import reading

_KEYWORDS = (
    "SpecificCharacterSet",
    "ImageType",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "InstanceNumber",
    "AcquisitionNumber",
    "TemporalPositionIdentifier",
    "EchoNumbers",
    "EchoTime",
    "DiffusionBValue",
    "SOPClassUID",
    "Modality",
    "ConversionType",
    "BurnedInAnnotation",
    "BodyPartExamined",
    "ViewPosition",
    "Laterality",
    "ImageLaterality",
    "Units",
    "SUVType",
    "CorrectedImage",
    "DecayCorrection",
    "SeriesDate",
    "SeriesTime",
    "AcquisitionDate",
    "AcquisitionTime",
    "ActualFrameDuration",
    "FrameReferenceTime",
    "TimezoneOffsetFromUTC",
    "PatientWeight",
    "RadiopharmaceuticalInformationSequence",
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "InstitutionName",
    "Manufacturer",
    "ManufacturerModelName",
    "StationName",
    "DeviceSerialNumber",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "SpacingBetweenSlices",
    "RescaleIntercept",
    "RescaleSlope",
    "ModalityLUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "VOILUTSequence",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedBluePaletteColorLookupTableData",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "DimensionOrganizationType",
    "TotalPixelMatrixRows",
    "TotalPixelMatrixColumns",
    "ImagedVolumeWidth",
    "SpecimenLabelInImage",
    "FrameOfReferenceUID",
    "PyramidUID",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "ReferencedSeriesSequence",
    "ReferencedFrameOfReferenceSequence",
)
_TAG_OF: dict[str, int] = {word: tag_for_keyword(word) or 0 for word in _KEYWORDS}
TAGS: tuple[int, ...] = tuple(_TAG_OF.values())


def value_of(path: Path, header: Dataset, keyword: str) -> Any:
    """Return an attribute as pydicom reads it, or None.

    Raises:
        UnreadableFileError: Its bytes do not fit its type.
    """
    tag = _TAG_OF.get(keyword) or tag_for_keyword(keyword) or 0
    if tag not in header.keys():  # noqa: SIM118, the data set's own test is ten times slower
        return None
    with reading(path, keyword):
        return header[tag].value


def first_text(path: Path, header: Dataset, keyword: str) -> str | None:
    """Return an attribute as text without padding; None if it is empty or unreadable."""
    return next(iter(texts(path, header, keyword)), None) or None


def texts(path: Path, header: Dataset, keyword: str) -> list[str]:
    """Return all values of an attribute as texts without padding.

    None if it is unreadable, or a sequence, whose text would hold all that is in it.
    """
    try:
        value = value_of(path, header, keyword)
    except UnreadableFileError:
        return []
    if value is None or isinstance(value, bytes):
        return []
    is_list = not isinstance(value, str) and hasattr(value, "__getitem__")
    found = value if is_list else [value]
    return [str(item).strip("\0 \t\r\n") for item in found if not isinstance(item, Dataset)]


def numbers(path: Path, header: Dataset, keyword: str) -> list[float]:
    """Return all values of an attribute that are finite numbers; none if it is unreadable."""
    try:
        value = value_of(path, header, keyword)
    except UnreadableFileError:
        return []
    if value is None or isinstance(value, bytes):
        return []
    values = value if hasattr(value, "__iter__") and not isinstance(value, str) else [value]
    return [number for item in values for number in _finite(item)]


def whole_number(path: Path, header: Dataset, keyword: str, default: int | None = None) -> int:
    """Return an attribute that the pixels cannot be read without.

    Raises:
        UnreadableFileError: It is missing, without default, or no number.
    """
    found = numbers(path, header, keyword)
    if found:
        return int(found[0])
    if default is None:
        raise UnreadableFileError(path, Reason.CORRUPT, f"without a usable {keyword}")
    return default


def items(path: Path, header: Dataset, keyword: str) -> list[Dataset]:
    """Return the items of a sequence; none if it is missing or unreadable."""
    with reading(path, keyword):
        return [item for item in _sequence(path, header, keyword) if isinstance(item, Dataset)]


def places_for(path: Path, header: Dataset, frame: int, macro: str) -> Iterator[Dataset]:
    """Give the data sets that may describe a frame: its own group, the shared one, the header.

    Args:
        path: For errors.
        header: Of the whole file.
        frame: From 0.
        macro: Keyword of the functional group's sequence.
    """
    per_frame = _sequence(path, header, "PerFrameFunctionalGroupsSequence")
    groups = [per_frame[frame]] if frame < len(per_frame) else []
    groups += items(path, header, "SharedFunctionalGroupsSequence")[:1]
    for group in groups:
        yield from items(path, group, macro)[:1]
    yield header


_BLOCKS = range(0x10, 0x14)  # where a private group is looked for


def private_tags(group: int, elements: Sequence[int]) -> tuple[int, ...]:
    """Return the tags to read so that `private_text` finds elements of a private group."""
    return tuple(
        group << 16 | tag
        for block in _BLOCKS
        for tag in (block, *(block << 8 | element for element in elements))
    )


def private_text(path: Path, header: Dataset, group: int, creator: str, element: int) -> str:
    """Return a private attribute as text without padding; empty if it is not there."""
    for block in _BLOCKS:
        if _plain_text(path, header, group << 16 | block) == creator:
            return _plain_text(path, header, group << 16 | block << 8 | element)
    return ""


def private_number(
    path: Path, header: Dataset, group: int, creator: str, element: int
) -> float | None:
    """Return a private attribute as number; None if it is not there, or none."""
    return next(_finite(private_text(path, header, group, creator, element)), None)


def number_at(path: Path, header: Dataset, tag: int) -> float | None:
    """Return the attribute of a tag that has no keyword, as number; None if it is not there."""
    return next(_finite(_plain_text(path, header, tag)), None)


def _plain_text(path: Path, header: Dataset, tag: int) -> str:
    if tag not in header.keys():  # noqa: SIM118, as above
        return ""
    try:
        with reading(path, "attribute"):
            value = header[tag].value
    except UnreadableFileError:
        return ""
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    return "" if text is None else str(text).strip("\0 \t\r\n")


def _sequence(path: Path, header: Dataset, keyword: str) -> Any:
    """Return a sequence as pydicom holds it, which may be thousands of items long."""
    try:
        value = value_of(path, header, keyword)
    except UnreadableFileError:
        return []
    is_list = hasattr(value, "__len__") and not isinstance(value, bytes | str)
    return value if is_list else []


def _finite(item: Any) -> Iterator[float]:
    try:
        number = float(item)
    except (TypeError, ValueError, OverflowError):
        return
    if math.isfinite(number):
        yield number
