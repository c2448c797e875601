"""Times of a log as microseconds since 1970."""

from pathlib import Path

import polars as pl

from recssl.errors import LogError
from recssl.settings.ingest import IngestConfig

_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
# below these a number counts seconds, milliseconds, microseconds: until the year 5138
_LIMITS = (("s", 1e11), ("ms", 1e14), ("us", 1e17))
_FORMATS = (
    "%Y-%m-%dT%H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M:%S%.f%#z",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f UTC",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d",
    "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d",
)
_ENOUGH = 0.5  # of the first rows; below it the form is another one, not a few bad lines


class TimeReader:
    """Reads the times of one file; the first rows decide on their form."""

    def __init__(self, path: Path, config: IngestConfig) -> None:
        """Prepare for `path`; the name is for messages."""
        self._path = path
        self._given_format = config.time_format is not None
        self._format = config.time_format
        self._given_unit = None if config.time_unit == "auto" else config.time_unit
        self._unit: str | None = None
        self._decided = False

    def read(self, raw: pl.Series, lines: pl.Series) -> pl.Series:
        """Return microseconds, Int64, null where a value cannot be read.

        Args:
            raw: Numbers, texts, dates or moments, `[rows]`.
            lines: Number of each row, for messages.

        Raises:
            LogError: Most of the first rows have no known form.
        """
        if self._given_format and raw.dtype.is_numeric():
            raw = raw.cast(pl.String)  # 20241231 is a date if the format says so
        if raw.dtype == pl.String:
            raw = raw.str.strip_chars()
        if not self._decided and raw.null_count() < len(raw):
            self._decide(raw, lines)
        if raw.dtype.is_temporal():
            return _moments(raw)
        if self._unit is not None:
            return _numbers(raw, self._unit)
        return _parse(raw.cast(pl.String), self._format or _FORMATS[0])

    def _decide(self, raw: pl.Series, lines: pl.Series) -> None:
        self._decided = True
        if raw.dtype.is_temporal() or (self._format and raw.dtype == pl.String):
            if not raw.dtype.is_temporal():
                self._require_read(_parse(raw, str(self._format)), raw, lines)
            return
        values = raw.cast(pl.Float64, strict=False)
        if len(values) - values.null_count() >= _ENOUGH * len(raw):
            self._unit = self._given_unit or _unit_of(values)
            return
        if raw.dtype != pl.String:
            raise LogError(f"{self._path}: a time column of type {raw.dtype} cannot be read")
        sample = raw.head(10_000)
        fits = {text: len(sample) - _parse(sample, text).null_count() for text in _FORMATS}
        self._format = max(fits, key=lambda text: fits[text])
        self._require_read(_parse(sample, self._format), sample, lines)

    def _require_read(self, times: pl.Series, raw: pl.Series, lines: pl.Series) -> None:
        if len(times) - times.null_count() >= _ENOUGH * len(raw):
            return
        first = times.is_null().arg_max() or 0
        raise LogError(
            f"{self._path}: line {lines[first]}: time {raw[first]!r} cannot be read. Known are "
            "seconds to nanoseconds since 1970 and 2024-12-31T23:59:59; say how it is written "
            "with --set 'time_format=\"%d/%m/%Y %H:%M\"'"
        )


def _unit_of(values: pl.Series) -> str:
    middle = values.abs().median()
    size = float(middle) if isinstance(middle, int | float) else 0.0
    return next((unit for unit, limit in _LIMITS if size < limit), "ns")


def _numbers(raw: pl.Series, unit: str) -> pl.Series:
    per_second = _PER_SECOND[unit]
    whole = raw.cast(pl.Int64, strict=False)
    if whole.null_count() > raw.null_count() or raw.dtype.is_float():
        values = raw.cast(pl.Float64, strict=False) * (1e6 / per_second)
        return values.round().cast(pl.Int64, strict=False)
    if per_second > 1_000_000:
        return whole // (per_second // 1_000_000)
    return whole * (1_000_000 // per_second)


def _moments(raw: pl.Series) -> pl.Series:
    if isinstance(raw.dtype, pl.Datetime) and raw.dtype.time_zone:
        raw = raw.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return raw.cast(pl.Datetime("us")).cast(pl.Int64)


def _parse(raw: pl.Series, form: str) -> pl.Series:
    if "%H" not in form and "%I" not in form:
        return raw.str.to_date(form, strict=False).cast(pl.Datetime("us")).cast(pl.Int64)
    zone = "UTC" if "z" in form else None
    times = raw.str.to_datetime(form, strict=False, time_unit="us", time_zone=zone)
    return times.cast(pl.Int64)
