"""What every reader of a format gives: rows as they stand in the file, in blocks."""

from dataclasses import dataclass, field

import polars as pl

BAD_SCHEMA = {"line": pl.Int64, "reason": pl.String}


def no_bad_lines() -> pl.DataFrame:
    """Return an empty table of bad lines."""
    return pl.DataFrame(schema=BAD_SCHEMA)


def bad_lines(lines: pl.Series, reasons: pl.Series) -> pl.DataFrame:
    """Put numbers and reasons of bad lines together."""
    columns = [lines.alias("line"), reasons.alias("reason")]
    return pl.DataFrame(columns).cast({"line": pl.Int64, "reason": pl.String})


@dataclass(frozen=True)
class RawBlock:
    """Some rows of a log.

    Attributes:
        table: Columns `user`, `item` and, if the log has them, `time` and `weight`.
        lines: Number in the file of each row, `[rows]`; or of the first, if they follow each other.
        num_lines: Lines of the file that the block covers, bad ones too.
        typed: The file says whether an id is a number or a text; in CSV it does not.
        bad: Columns of `BAD_SCHEMA`: lines that could not be taken apart.
    """

    table: pl.DataFrame
    lines: pl.Series | int
    num_lines: int
    typed: bool = False
    bad: pl.DataFrame = field(default_factory=no_bad_lines)

    def line_numbers(self) -> pl.Series:
        """Number in the file of each row."""
        if isinstance(self.lines, pl.Series):
            return self.lines
        stop = self.lines + len(self.table)
        return pl.int_range(self.lines, stop, eager=True).alias("line")
