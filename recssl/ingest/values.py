"""Rows as they stand in a file, turned into ids, times and weights; what cannot be, is set aside.

One `ValueReader` per file: how its times are written is decided by its first rows.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from recssl.errors import LogError
from recssl.ingest.raw import RawBlock, bad_lines
from recssl.ingest.times import TimeReader
from recssl.settings.ingest import IngestConfig

FREE, INTEGER, TEXT = "free", "integer", "text"  # what a file says about the type of an id


@dataclass(frozen=True)
class TypedBlock:
    """Rows that are fit for use, and those that are not.

    Attributes:
        table: `user` and `item` (Int64 or String), `weight` (Float32), `time` (Int64, microseconds
            since 1970, or null).
        kinds: Of `user` and `item`: `FREE`, `INTEGER` or `TEXT`.
        bad: Lines and reasons.
        dropped: Rows left out by each filter.
    """

    table: pl.DataFrame
    kinds: tuple[str, str]
    bad: pl.DataFrame
    dropped: dict[str, int]


class ValueReader:
    """Reads the values of one file."""

    def __init__(self, path: Path, config: IngestConfig) -> None:
        """Prepare for `path`; the name is for messages."""
        self._path = path
        self._config = config
        self._times = TimeReader(path, config)

    def read(self, block: RawBlock) -> TypedBlock:
        """Convert and filter a block.

        Raises:
            LogError: Times of no known form, weights that are NaN, infinite or negative as
                float32, or ids that are fractions.
        """
        raw = block.table
        user, user_kind = self._ids(raw["user"], typed=block.typed)
        item, item_kind = self._ids(raw["item"], typed=block.typed)
        lines = block.line_numbers()
        columns = [user.alias("user"), item.alias("item")]
        columns += [self._weights(raw, lines), self._moments(raw, lines)]
        table = pl.DataFrame(columns).with_columns(lines.alias("line"))
        reason = (
            pl.when(pl.col("user").is_null())
            .then(pl.lit("no user"))
            .when(pl.col("item").is_null())
            .then(pl.lit("no item"))
        )
        if "weight" in raw.columns:
            reason = reason.when(pl.col("weight").is_null()).then(pl.lit("weight is no number"))
        if "time" in raw.columns:
            reason = reason.when(pl.col("time").is_null()).then(pl.lit("time cannot be read"))
        wrong = table.select(reason.alias("reason"))["reason"]
        bad = block.bad
        if wrong.null_count() < len(wrong):
            is_bad = wrong.is_not_null()
            bad = pl.concat([bad, bad_lines(lines.filter(is_bad), wrong.filter(is_bad))])
            table = table.filter(~is_bad)
        table, dropped = self._filtered(table)
        return TypedBlock(table.drop("line"), (user_kind, item_kind), bad, dropped)

    def _ids(self, raw: pl.Series, *, typed: bool) -> tuple[pl.Series, str]:
        if raw.dtype.is_integer():
            if raw.dtype == pl.UInt64 and (raw > 2**63 - 1).any():
                return raw.cast(pl.String), INTEGER
            return raw.cast(pl.Int64), INTEGER
        if raw.dtype.is_float():
            whole = raw.cast(pl.Int64, strict=False)
            if (whole.cast(raw.dtype) != raw).any():
                raise LogError(f"{self._path}: column of {raw.name} ids holds fractions")
            return whole, INTEGER
        text = raw.cast(pl.String)
        if typed:
            return text.replace("", None), TEXT
        return free_ids(text), FREE

    def _weights(self, raw: pl.DataFrame, lines: pl.Series) -> pl.Series:
        if "weight" not in raw.columns:
            return pl.repeat(1.0, len(raw), dtype=pl.Float32, eager=True).alias("weight")
        values = raw["weight"]
        if values.dtype == pl.String:
            values = values.str.strip_chars()
        exact = values.cast(pl.Float64, strict=False)
        weights = exact.cast(pl.Float32)  # checked as they are kept: 1e39 is infinite, 1e-60 is 0
        broken = (~weights.is_finite()).fill_null(value=False)
        if broken.any():
            first = lines.filter(broken)[0]
            raise LogError(
                f"{self._path}: line {first}: weight {exact.filter(broken)[0]}, and "
                f"{broken.sum() - 1} more in these lines; weights must be finite as float32 (up to "
                "3.4e38): remove those rows, or mend the column"
            )
        if self._config.min_weight is None and (weights <= 0).any():
            low = (weights <= 0).fill_null(value=False)
            raise LogError(
                f"{self._path}: line {lines.filter(low)[0]}: weight "
                f"{exact.filter(low)[0]:g}; weights must be above 0, also as float32 (from 1e-45 "
                "on). If they are ratings, say with --min-weight from which on they count"
            )
        return weights.alias("weight")

    def _moments(self, raw: pl.DataFrame, lines: pl.Series) -> pl.Series:
        if "time" not in raw.columns:
            return pl.repeat(None, len(raw), dtype=pl.Int64, eager=True).alias("time")
        return self._times.read(raw["time"], lines).alias("time")

    def _filtered(self, table: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
        config, dropped = self._config, {}
        steps = []
        if config.min_weight is not None:
            steps.append(("min_weight", pl.col("weight") >= config.min_weight))
        if config.since is not None:
            steps.append(("since", pl.col("time") >= microseconds(config.since)))
        if config.until is not None:
            steps.append(("until", pl.col("time") < microseconds(config.until)))
        for name, keep in steps:
            if name != "min_weight" and table["time"].null_count():
                raise LogError(f"{self._path} has no times, which {name} (--set {name}=...) needs")
            kept = table.filter(keep)
            dropped[name] = len(table) - len(kept)
            table = kept
        if config.min_weight is not None:
            table = table.with_columns(weight=pl.lit(1.0, pl.Float32))
        return table, dropped


def free_ids(text: pl.Series) -> pl.Series:
    """Return ids of a file without types: Int64 if each is an integer in its plain form.

    `007` and `+7` are not: as integers they could not be written back.
    """
    numbers = text.cast(pl.Int64, strict=False)
    if numbers.null_count() == 0:
        padded = text.str.contains(r"^(\+|0.|-0)")
        if not padded.any():
            return numbers
    stripped = text.str.strip_chars().replace("", None)
    numbers = stripped.cast(pl.Int64, strict=False)
    same = numbers.null_count() == stripped.null_count()
    return numbers if same and not stripped.str.contains(r"^(\+|0.|-0)").any() else stripped


def microseconds(moment: datetime) -> int:
    """Return microseconds since 1970 of a moment with a time zone."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
