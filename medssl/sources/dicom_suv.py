"""PET: from the unit of a file to the standardised uptake value by body weight (SUVbw), g/ml.

A weight, times and a dose are read here and stay here: what leaves is one factor, which stays in
memory, and a word of `Suv`.

Source:
    QIBA, "SUV Vendor-neutral pseudo-code" of the FDG-PET/CT committee, its robust form: units,
    decay correction, the private attributes of GE and Philips, and the frame's time of average
    counts. DICOM PS3.3, C.8.9.1 and C.8.9.2. What it does not cover, images without decay
    correction, follows from the same formula, with the dose decayed to the frame.
"""

import math
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from pydicom.dataset import Dataset

from medssl.errors import UnreadableFileError
from medssl.sources.decoded import Suv
from medssl.sources.dicom_values import (
    first_text,
    items,
    numbers,
    private_number,
    private_tags,
    private_text,
    texts,
)

_PHILIPS, _GE = (0x7053, "Philips PET Private Group"), (0x0009, "GEMS_PETD_01")
_SUV_FACTOR, _ACTIVITY_FACTOR, _SCAN_TIME = 0x00, 0x09, 0x0D
PRIVATE_TAGS = (
    *private_tags(_PHILIPS[0], (_SUV_FACTOR, _ACTIVITY_FACTOR)),
    *private_tags(_GE[0], (_SCAN_TIME,)),
)
# What is beyond these is damaged, or in another unit.
_WEIGHT = (1e-3, 1e3)  # kg
_DOSE = (1e4, 1e13)  # Bq
_HALF_LIFE = (1.0, 1e9)  # s
_OFFSET = (1e-3, 1e9)  # ms, from the start of a scan to a frame
_FACTOR = (1e-15, 1e15)
_YEARS = (1900, 2200)
_MOST_HALF_LIVES = 10.0  # after which nothing is left to measure
_AHEAD = timedelta(minutes=10)  # an injection may follow the start of a dynamic series
_ANY_DAY = "20000101"  # of files that keep times and no dates


class Scale(NamedTuple):
    """What a PET file says about its unit.

    Attributes:
        how: For the manifest.
        factor: From the rescaled value to SUVbw; None if it is not known.
    """

    how: Suv
    factor: float | None = None


class _UnknownError(Exception):
    """Why there is no factor."""

    def __init__(self, how: Suv) -> None:
        super().__init__(how)
        self.how = how


def read_scale(path: Path, header: Dataset) -> Scale:
    """Return the factor from rescaled values to SUVbw, or which of its parts the file lacks."""
    try:
        return _scale(path, header)
    except _UnknownError as error:
        return Scale(error.how)


def _scale(path: Path, header: Dataset) -> Scale:
    unit = first_text(path, header, "Units")
    if unit == "GML" and first_text(path, header, "SUVType") in (None, "BW"):
        return Scale(Suv.KNOWN, 1.0)
    if unit not in ("BQML", "CNTS"):
        raise _UnknownError(Suv.NO_UNIT)
    decay = _decay_correction(path, header)
    if unit == "BQML":
        return _by_weight(path, header, decay)
    if factor := private_number(path, header, *_PHILIPS, _SUV_FACTOR):
        return Scale(Suv.KNOWN, _within(factor, _FACTOR, Suv.NO_UNIT))
    activity = private_number(path, header, *_PHILIPS, _ACTIVITY_FACTOR)
    activity = _within(activity, _FACTOR, Suv.NO_UNIT)
    how, per_activity = _by_weight(path, header, decay)
    return Scale(how, _within(activity * (per_activity or 0.0), _FACTOR, Suv.NO_UNIT))


def _decay_correction(path: Path, header: Dataset) -> str:
    """Return START, ADMIN or NONE, of an image that is corrected for attenuation, too."""
    decay = first_text(path, header, "DecayCorrection") or ""
    done = texts(path, header, "CorrectedImage")
    is_corrected = decay in ("START", "ADMIN") and "DECY" in done
    if "ATTN" not in done or not (is_corrected or decay == "NONE"):
        raise _UnknownError(Suv.NO_CORRECTION)
    return decay


def _by_weight(path: Path, header: Dataset, decay: str) -> Scale:
    """Return grams per becquerel of the dose at the time that the activity is corrected to."""
    weight = _within(_first(path, header, "PatientWeight"), _WEIGHT, Suv.NO_WEIGHT)
    about = _injected(path, header)
    dose = _within(_first(path, about, "RadionuclideTotalDose"), _DOSE, Suv.NO_DOSE)
    how, left = (Suv.KNOWN, 1.0) if decay == "ADMIN" else _left(path, header, about, decay)
    return Scale(how, 1000 * weight / (dose * left))


def _injected(path: Path, header: Dataset) -> Dataset:
    """Return what was injected; nothing if it is damaged: the image can still be shown."""
    try:
        found = items(path, header, "RadiopharmaceuticalInformationSequence")
    except UnreadableFileError:
        found = []
    return found[0] if found else Dataset()


def _left(path: Path, header: Dataset, about: Dataset, decay: str) -> tuple[Suv, float]:
    """Return the share of the dose that has not decayed at the time of the scan."""
    told = _first(path, about, "RadionuclideHalfLife")
    half_life = _within(told, _HALF_LIFE, Suv.NO_HALF_LIFE)
    if decay == "NONE":
        how, scanned = Suv.KNOWN, _time_of_frame(path, header, half_life)
    else:
        how, scanned = _time_of_scan(path, header, half_life)
    most = timedelta(seconds=_MOST_HALF_LIVES * half_life)
    for assumed, injected in _times_of_injection(path, header, about, scanned):
        if -_AHEAD <= scanned - injected <= most:
            passed = (scanned - injected).total_seconds()
            return (assumed if how is Suv.KNOWN else how), 2.0 ** (-passed / half_life)
    raise _UnknownError(Suv.NO_TIMES)


def _times_of_injection(
    path: Path, header: Dataset, about: Dataset, scanned: datetime
) -> list[tuple[Suv, datetime]]:
    """Return what the file says, and then what its time of day means beside the scan."""
    exact = first_text(path, about, "RadiopharmaceuticalStartDateTime") or ""
    day, clock, zone = exact[:8], *_zoned(exact[8:])
    alone = first_text(path, about, "RadiopharmaceuticalStartTime")
    moment = _moment(day, clock)
    if moment and zone is not None:  # others are told in the zone of the header, if in any
        here = _zoned(first_text(path, header, "TimezoneOffsetFromUTC") or "")[1]
        if here is not None:
            moment += here - zone
        elif alone:
            moment = _moment(day, alone)
    time = alone or (moment.strftime("%H%M%S") if moment else clock)
    found = [(Suv.KNOWN, moment)]
    same_day = _moment(scanned.strftime("%Y%m%d"), time)
    if same_day and same_day - scanned > _AHEAD:
        same_day -= timedelta(days=1)
    found.append((Suv.DAY_ASSUMED, same_day))
    return [(how, moment) for how, moment in found if moment]


def _time_of_scan(path: Path, header: Dataset, half_life: float) -> tuple[Suv, datetime]:
    """Return the time that a whole series is corrected to: its start.

    A series that is dated after its images has been made of them later. Then GE's own time counts,
    or what the image says about itself: how long after that start its average counts were.
    """
    series, acquired = (_dated(path, header, name) for name in ("Series", "Acquisition"))
    if series and not (acquired and series > acquired):
        return Suv.KNOWN, series
    private = private_text(path, header, *_GE, _SCAN_TIME)
    if started := _moment(private[:8], private[8:]):
        return Suv.KNOWN, started
    offset = _within(_first(path, header, "FrameReferenceTime"), _OFFSET, Suv.NO_TIMES)
    average = _time_of_frame(path, header, half_life)
    return Suv.TIME_RECKONED, average - timedelta(milliseconds=offset)


def _time_of_frame(path: Path, header: Dataset, half_life: float) -> datetime:
    """Return when the activity was what the frame's average counts say."""
    acquired = _dated(path, header, "Acquisition")
    most = 1000 * _MOST_HALF_LIVES * half_life
    told = _first(path, header, "ActualFrameDuration")
    duration = _within(told, (_OFFSET[0], most), Suv.NO_TIMES) / 1000
    if not acquired:
        raise _UnknownError(Suv.NO_TIMES)
    decayed = math.log(2) * duration / half_life
    average = duration * math.log(decayed / -math.expm1(-decayed)) / decayed
    return acquired + timedelta(seconds=average)


def _dated(path: Path, header: Dataset, what: str) -> datetime | None:
    days = (f"{what}Date", "AcquisitionDate", "SeriesDate")
    day = next(filter(None, (first_text(path, header, name) for name in days)), _ANY_DAY)
    return _moment(day, first_text(path, header, f"{what}Time") or "")


def _moment(day: str, time: str) -> datetime | None:
    """Read a DICOM date and time, also in the older form with signs between the numbers.

    Args:
        day: Eight digits.
        time: Without its difference to universal time.
    """
    if not re.fullmatch(r"\d{8}", day.replace(".", "")):
        return None
    whole, _, fraction = time.replace(":", "").partition(".")
    digits = "".join(letter for letter in fraction if letter.isdecimal())[:6]
    try:
        start = datetime.strptime(day.replace(".", "") + whole[:6].ljust(6, "0"), "%Y%m%d%H%M%S")
    except ValueError:
        return None
    if not time or not _YEARS[0] <= start.year <= _YEARS[1]:
        return None
    return start + timedelta(microseconds=int(digits.ljust(6, "0")))


def _zoned(text: str) -> tuple[str, timedelta | None]:
    """Split the difference to universal time, such as +0100, off a time of day."""
    found = re.search(r"([+-])(\d\d)(\d\d)$", text)
    if found is None:
        return text, None
    size = timedelta(hours=int(found[2]), minutes=int(found[3]))
    return text[: found.start()], -size if found[1] == "-" else size


def _first(path: Path, header: Dataset, keyword: str) -> float | None:
    return next(iter(numbers(path, header, keyword)), None)


def _within(number: float | None, limits: tuple[float, float], how: Suv) -> float:
    """Return a number that can be what it says it is."""
    if number is None or not limits[0] <= number <= limits[1]:
        raise _UnknownError(how)
    return number
