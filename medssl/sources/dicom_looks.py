"""What a DICOM file says about showing one frame: rescale, window, padding, palette, spacing."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut

from medssl.errors import Reason, UnreadableFileError, UnsupportedImageError
from medssl.sources.decoded import Linear, Lut, Values, VoiWindow
from medssl.sources.dicom_values import first_text, items, numbers, places_for, value_of
from medssl.sources.place import is_spacing
from medssl.sources.reading import reading

Function = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]
_FUNCTIONS: dict[str | None, Function] = {
    "LINEAR_EXACT": "LINEAR_EXACT",
    "SIGMOID": "SIGMOID",
}


def frame_looks(path: Path, header: Dataset, frame: int, values: Values) -> dict[str, Any]:
    """Return the fields of `Decoded` that do not come from the pixels.

    Colour images have no rescale and no window. What is missing or damaged is None: the image
    can still be shown.
    """
    looks: dict[str, Any] = dict(_spacing(path, header, frame))
    if values.ndim == 2:
        signed = values.dtype.kind == "i"
        looks["rescale"] = _rescale(path, header, frame, signed=signed)
        looks["voi"] = _voi(path, header, frame, signed=signed)
        looks["padding"] = _padding(path, header, signed=signed)
    return looks


def read_palette(path: Path, header: Dataset, bits: int) -> Values:
    """Return the colour of every value that `bits` bits can hold, `[value, 3]`.

    Raises:
        UnsupportedImageError: More than 16 bits.
        UnreadableFileError: The tables are missing or damaged.
    """
    if bits not in (8, 16):
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, f"palette for {bits} bit")
    with reading(path, "palette"):
        indices = np.arange(1 << bits, dtype=f"u{bits // 8}")
        palette = np.asarray(apply_color_lut(indices, header))
    if palette.shape != (1 << bits, 3) or palette.dtype.kind != "u":
        raise UnreadableFileError(path, Reason.CORRUPT, "palette of the wrong size")
    return palette


def _rescale(path: Path, header: Dataset, frame: int, *, signed: bool) -> Linear | Lut | None:
    for place in places_for(path, header, frame, "PixelValueTransformationSequence"):
        for item in items(path, place, "ModalityLUTSequence")[:1]:
            if lut := _read_lut(path, item, signed=signed):
                return lut
        slope = numbers(path, place, "RescaleSlope")
        intercept = numbers(path, place, "RescaleIntercept")
        if slope and slope[0] != 0:
            return Linear(slope[0], intercept[0] if intercept else 0.0)
    return None


def _voi(path: Path, header: Dataset, frame: int, *, signed: bool) -> VoiWindow | Lut | None:
    for place in places_for(path, header, frame, "FrameVOILUTSequence"):
        for item in items(path, place, "VOILUTSequence")[:1]:
            if lut := _read_lut(path, item, signed=signed):
                return lut
        centers, widths = numbers(path, place, "WindowCenter"), numbers(path, place, "WindowWidth")
        if centers and widths and widths[0] > 0:
            name = first_text(path, place, "VOILUTFunction")
            return VoiWindow(centers[0], widths[0], _FUNCTIONS.get(name, "LINEAR"))
    return None


def _padding(path: Path, header: Dataset, *, signed: bool) -> tuple[float, float] | None:
    ends = [
        int(word)
        for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")
        for word in _words(path, header, keyword, signed=signed)[:1]
    ]
    return (float(min(ends)), float(max(ends))) if ends else None


def _spacing(path: Path, header: Dataset, frame: int) -> dict[str, Any]:
    spacing: dict[str, Any] = {}
    for place in places_for(path, header, frame, "PixelMeasuresSequence"):
        for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
            found = numbers(path, place, keyword)
            if len(found) == 2 and is_spacing(*found):
                spacing.setdefault("spacing_mm", (found[0], found[1]))
        found = numbers(path, place, "SpacingBetweenSlices")
        if found and is_spacing(found[0]):
            spacing.setdefault("spacing_slice_mm", found[0])
    return spacing


def _read_lut(path: Path, item: Dataset, *, signed: bool) -> Lut | None:
    descriptor = [int(word) for word in _words(path, item, "LUTDescriptor", signed=False)]
    if len(descriptor) != 3:
        return None
    count = descriptor[0] % 65536 or 65536
    first = descriptor[1] - 65536 if signed and descriptor[1] > 32767 else descriptor[1]
    bits = descriptor[2]
    raw = value_of(path, item, "LUTData")
    if isinstance(raw, bytes) and len(raw) in (count, count + 1):
        table = np.frombuffer(raw, np.uint8)
    else:
        table = _words(path, item, "LUTData", signed=False)
    if len(table) < count or not 1 <= bits <= 16:
        return None
    return Lut(first, table[:count], bits)


def _words(path: Path, place: Dataset, keyword: str, *, signed: bool) -> Values:
    """Return an attribute of 16-bit words, whether pydicom knew its type or left it as bytes."""
    kind = "i2" if signed else "u2"
    try:
        value = value_of(path, place, keyword)
    except UnreadableFileError:
        value = None
    if isinstance(value, bytes):
        order = ">" if place.original_encoding[1] is False else "<"
        return np.frombuffer(value[: len(value) // 2 * 2], f"{order}{kind}").astype(kind)
    found = [] if value is None else numbers(path, place, keyword)
    return np.array([int(number) & 0xFFFF for number in found], np.uint16).astype(kind)
