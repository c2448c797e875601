"""One decoded image, and what is needed to show it; the same for every kind of file."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from medssl.sources.place import Place

Values = NDArray[Any]
_COMPACT = (np.uint8, np.uint16, np.int16, np.uint32, np.int32)


@dataclass(frozen=True, slots=True)
class Linear:
    """`slope * value + intercept`."""

    slope: float
    intercept: float


@dataclass(frozen=True, slots=True)
class Lut:
    """A table of outputs; entry 0 belongs to the input `first`, and both ends extend outwards."""

    first: int
    table: Values
    bits: int

    def __call__(self, values: Values) -> Values:
        """Look up every value, rounded to a whole number."""
        places = np.clip(np.rint(np.nan_to_num(values)) - self.first, 0, len(self.table) - 1)
        return np.asarray(self.table[places.astype(np.intp)])


@dataclass(frozen=True, slots=True)
class VoiWindow:
    """A window of interest that the file asks for, in units after the modality transform."""

    center: float
    width: float
    function: Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"] = "LINEAR"


@dataclass(frozen=True, slots=True)
class Decoded:
    """One image as stored, before any window.

    Attributes:
        values: Stored values, `[rows, columns]`, or `[rows, columns, 3]` in RGB.
        photometric: As DICOM names it, as the file says.
        bits: Meaningful bits per value.
        modality: A DICOM modality code.
        rescale: From stored values to the modality's unit, such as HU.
        voi: What the file asks to show.
        palette: Colour of each stored value, `[value, 3]`, uint8 or uint16.
        padding: Lowest and highest stored value that mean "no image here".
        suv: Of PET, what the rescaled value is multiplied with to be a SUV by body weight, g/ml.
        spacing_mm: Between rows, between columns.
        spacing_slice_mm: Between slices.
        place: In the patient and the series; None for what is no part of a volume.
    """

    values: Values
    photometric: str
    bits: int
    modality: str | None = None
    rescale: Linear | Lut | None = None
    voi: VoiWindow | Lut | None = None
    palette: Values | None = None
    padding: tuple[float, float] | None = None
    suv: float | None = None
    spacing_mm: tuple[float, float] | None = None
    spacing_slice_mm: float | None = None
    place: Place | None = None

    @property
    def channels(self) -> int:
        """Return 3 for colour, else 1."""
        return 3 if self.values.ndim == 3 or self.palette is not None else 1

    def colours(self) -> Values:
        """Return the values, with a palette applied."""
        if self.palette is None:
            return self.values
        return np.asarray(self.palette[np.clip(self.values, 0, len(self.palette) - 1)])

    def shown(self) -> Values:
        """Return the colours, or one channel where all three are equal."""
        values = self.colours()
        return values[..., 0] if values.ndim == 3 and _are_equal(values) else values


class Suv(StrEnum):
    """Whether the values of a PET image are SUV, and why not; the words stand in the manifest."""

    KNOWN = "suv"
    DAY_ASSUMED = "suv_day_assumed"  # of the injection: that of the scan, or the one before
    TIME_RECKONED = "suv_time_reckoned"  # of the scan: the series is dated after its images
    NO_UNIT = "no_unit"  # of activity or of SUVbw
    NO_CORRECTION = "no_correction"  # for attenuation or decay, or nothing is said about it
    NO_WEIGHT = "no_weight"
    NO_DOSE = "no_dose"
    NO_HALF_LIFE = "no_half_life"
    NO_TIMES = "no_times"  # of injection or scan, or none that can be


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What holds for a whole file. The identifiers are in clear, and stay in memory."""

    frames: int
    modality: str | None = None
    transfer_syntax: str | None = None
    burned_in: str | None = None  # why text is suspected; a value of burned_in.BurnedIn
    patient_id: str | None = field(default=None, repr=False)
    study_uid: str | None = field(default=None, repr=False)
    series_uid: str | None = field(default=None, repr=False)
    site: str | None = field(default=None, repr=False)  # name of the institution
    scanner: str | None = field(default=None, repr=False)  # maker, model and number
    suv: str | None = None  # of PET: whether its unit is known; a value of Suv
    terms: Mapping[str, str] = field(default_factory=dict)  # see label_terms; may be labels


class ImageReader(Protocol):
    """An open file of one or more images."""

    @property
    def facts(self) -> FileFacts:
        """What holds for the whole file."""

    def decode(self, frame: int) -> Decoded:
        """Decode one frame, from 0.

        Raises:
            IngestError: It cannot be decoded.
        """


class Content(NamedTuple):
    """What an image shows.

    Attributes:
        hash: See `content_of`.
        channels: 3 for colour, 1 for grey, also where three equal channels hold it.
        is_blank: All pixels are equal, as in slices beyond the body: that two images are blank
            does not make one a copy of the other.
    """

    hash: str
    channels: int
    is_blank: bool


def content_of(decoded: Decoded) -> Content:
    """Return the channels of an image, and 32 hex digits, equal for images with equal values.

    Neither the format, the compression nor the width of the container matters: the same picture
    has the same hash as 8-bit PNG, as 16-bit DICOM, and as RGB with three equal channels.
    """
    shown = decoded.shown()
    values = _compact(shown)
    inverted = decoded.photometric == "MONOCHROME1" and decoded.channels == 1
    about = f"{values.shape} {values.dtype.str} {'inverted' if inverted else ''}"
    digest = hashlib.sha256(about.encode())  # processors have instructions for it
    digest.update(np.ascontiguousarray(values).data)
    is_blank = bool((shown == shown[:1, :1]).all())
    return Content(digest.hexdigest()[:32], 3 if shown.ndim == 3 else 1, is_blank)


def _are_equal(channels: Values) -> bool:
    return bool((channels == channels[..., :1]).all())


def _compact(values: Values) -> Values:
    """Return the values in the first type of a fixed list that holds them all."""
    if values.dtype.kind == "b":
        return values.astype("u1")
    if values.dtype.kind == "f":
        return values.astype(values.dtype.newbyteorder("<"))
    low, high = int(values.min()), int(values.max())
    for dtype in _COMPACT:
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return values.astype(np.dtype(dtype).newbyteorder("<"), copy=False)
    return values.astype(values.dtype.newbyteorder("<"))
