"""Where a DICOM frame lies, from the header or from the functional groups of the frame."""

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from medssl.sources.dicom_values import numbers, places_for, texts
from medssl.sources.place import UNKNOWN, Moment, Place, Plane, plane_of

_LARGEST = float(np.iinfo(np.int32).max)
# What a series may mix and a volume may not: the functional group, and the keywords in it or,
# in a file of one frame, in the header.
_STACK = (
    ("MRImageFrameTypeSequence", ("FrameType", "ComplexImageComponent")),
    ("CTImageFrameTypeSequence", ("FrameType",)),
    ("", ("ImageType",)),
    ("", ("FrameOfReferenceUID",)),
    ("MREchoSequence", ("EffectiveEchoTime", "EchoTime", "EchoNumbers")),
    ("FrameContentSequence", ("StackID",)),
    ("MRDiffusionSequence", ("DiffusionBValue",)),
)
_MOMENT = (
    ("TemporalPositionIndex", "TemporalPositionIdentifier"),
    ("FrameAcquisitionNumber", "AcquisitionNumber"),
    ("InStackPositionNumber", "InstanceNumber"),
)


def frame_place(path: Path, header: Dataset, frame: int) -> Place | None:
    """Return where a frame lies; None if the file gives no plane in the patient."""
    plane = frame_plane(path, header, frame)
    if plane is None:
        return None
    moment = _moment(path, header, frame)
    words = [
        _found(path, header, frame, macro, (keyword,))
        for macro, keywords in _STACK
        for keyword in keywords
    ]
    if any("LOCALIZER" in values for values in words):
        return Place(moment, plane, None)
    return Place(moment, plane, tuple("\\".join(map(_plain, values)) for values in words))


def frame_plane(path: Path, header: Dataset, frame: int) -> Plane | None:
    """Return the plane of a frame in the patient; None if the file does not say."""
    position = _numbers(path, header, frame, "PlanePositionSequence", "ImagePositionPatient")
    sides = _numbers(path, header, frame, "PlaneOrientationSequence", "ImageOrientationPatient")
    if len(position) != 3 or len(sides) != 6:
        return None
    return plane_of(position, sides[:3], sides[3:])


def _moment(path: Path, header: Dataset, frame: int) -> Moment:
    found = [
        next((float(word) for word in _found(path, header, frame, "FrameContentSequence", each)
              if _is_whole(word)), UNKNOWN)
        for each in _MOMENT
    ]  # fmt: skip
    return Moment(*(int(max(UNKNOWN, min(number, _LARGEST))) for number in found))


def _found(
    path: Path, header: Dataset, frame: int, macro: str, keywords: tuple[str, ...]
) -> list[str]:
    """Return the values of the first of the keywords that a place for the frame has."""
    for place in places_for(path, header, frame, macro) if macro else (header,):
        for keyword in keywords:
            if found := texts(path, place, keyword):
                return found
    return []


def _numbers(path: Path, header: Dataset, frame: int, macro: str, keyword: str) -> list[float]:
    for place in places_for(path, header, frame, macro):
        if found := numbers(path, place, keyword):
            return found
    return []


def _plain(word: str) -> str:
    """Return one way to write a number, of the many that a series may mix."""
    try:
        return f"{float(word):g}"
    except ValueError:
        return word


def _is_whole(word: str) -> bool:
    return word.lstrip("+-").isdecimal()
