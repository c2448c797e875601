"""Which images may show text, such as a patient's name, in their pixels."""

import re
from enum import StrEnum
from pathlib import Path

from pydicom.dataset import Dataset

from medssl.sources.decoded import Decoded
from medssl.sources.dicom_values import first_text, texts

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # and its multi-frame classes, below it
_ULTRASOUND = ("US", "IVUS", "BDUS")
_ULTRASOUND_CLASSES = ("1.2.840.10008.5.1.4.1.1.6.", "1.2.840.10008.5.1.4.1.1.3.")
_SCREENS = ("SCREENSAVE", "SCREENSHOT")  # values of ImageType in use, whatever divides the words
_MEASURED = ("CT", "MR", "NM", "PT")  # as the device wrote them, without a screen in between
_PICTURES = ("dicom", "png", "jpeg", "bmp", "tiff")
_CAPTURED = frozenset(("DV", "DI", "DF", "WSD", "SD", "SI", "DRW", "SYN"))


class BurnedIn(StrEnum):
    """Why text is suspected; the values stand in the manifest."""

    SAID_SO = "said_so"  # the file says that there is text
    SECONDARY_CAPTURE = "secondary_capture"
    SCREENSHOT = "screenshot"
    ULTRASOUND = "ultrasound"
    PIXELS = "pixels"  # nothing in the attributes; letters seem to be in the image itself


def suspect_text(path: Path, header: Dataset) -> BurnedIn | None:
    """Judge by attributes; None where the file says that there is none, or nothing suggests it.

    A file may be wrong about itself: see `is_likely` and `medssl.sources.text_pixels`.

    Source:
        DICOM PS3.3, C.7.6.1.1.4 (Burned In Annotation), C.8.6.1 (Conversion Type); the kinds of
        image that carry text as PS3.15, E.3.1 (Clean Pixel Data Option) names them.
    """
    said, modality, conversion = (
        (first_text(path, header, keyword) or "").upper()
        for keyword in ("BurnedInAnnotation", "Modality", "ConversionType")
    )
    if said in ("YES", "Y", "NO", "N"):
        return BurnedIn.SAID_SO if said.startswith("Y") else None
    kind = first_text(path, header, "SOPClassUID") or ""
    is_capture = kind == _SECONDARY_CAPTURE or kind.startswith(f"{_SECONDARY_CAPTURE}.")
    if is_capture or conversion in _CAPTURED:
        return BurnedIn.SECONDARY_CAPTURE
    words = (re.sub("[ _]", "", word.upper()) for word in texts(path, header, "ImageType"))
    if any(word in _SCREENS for word in words):
        return BurnedIn.SCREENSHOT
    if modality in _ULTRASOUND or kind.startswith(_ULTRASOUND_CLASSES):
        return BurnedIn.ULTRASOUND
    return None


def is_likely(kind: str, decoded: Decoded) -> bool:
    """Tell an image into which a program may have drawn text, so that its pixels are looked at.

    These are pictures of every kind, and of what tomographs measure those in colour or 8 bit, which
    were made for a screen. Volumes, arrays and tiles of slides are none.

    Args:
        kind: Of the file, as the manifest has it.
        decoded: The image.
    """
    is_for_screen = decoded.channels == 3 or decoded.bits <= 8
    return kind in _PICTURES and (is_for_screen or decoded.modality not in _MEASURED)
