"""CSV, TSV and RecBole's `.inter`: blocks of delimited text as columns.

A block whose separators add up is parsed as it is. Only one that holds quotes, or a line with too
many or too few fields, is taken apart line by line (still in columns) to find and count the bad.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from recssl.errors import LogError
from recssl.ingest.blocks import lines_of, read_blocks
from recssl.ingest.columns import Role, find_columns
from recssl.ingest.raw import RawBlock, bad_lines
from recssl.settings.ingest import IngestConfig

_SEPARATORS = "\t,;| "


@dataclass(frozen=True)
class Layout:
    """How the lines of a file are built."""

    separator: str
    names: tuple[str, ...]
    header: bool
    quotes: bool
    columns: dict[Role, str]


def read_delimited(
    path: Path, config: IngestConfig, *, separator: str | None, typed_header: bool = False
) -> Iterator[RawBlock]:
    """Yield the rows of a file.

    Args:
        path: May be compressed.
        config: Names of columns, separator and header, where they are given.
        separator: Of the format; None to see it from the first line.
        typed_header: The header has RecBole's form `name:type`.

    Raises:
        LogError: No column for users or items, or a file that cannot be read.
    """
    layout: Layout | None = None
    line = 1
    quotes = not typed_header and (config.separator or separator) != "\t"
    for data in read_blocks(path, quotes=quotes):
        block = data
        if layout is None:
            first, _, after = data.partition(b"\n")
            layout = _layout(path, first, config, separator, typed_header=typed_header)
            if layout.header:
                block = after
                line += 1
        raw = _parse(path, block, line, layout)
        line += raw.num_lines
        yield raw
    if layout is None:
        raise LogError(f"{path} is empty")


def guess_separator(line: str) -> str:
    """Return the separator that a line holds most often; a blank only if there is no other."""
    return max(_SEPARATORS[:-1], key=line.count) if set(line) & set(_SEPARATORS[:-1]) else " "


def _layout(
    path: Path, first: bytes, config: IngestConfig, separator: str | None, *, typed_header: bool
) -> Layout:
    text = first.decode(errors="replace").rstrip("\r")
    mark = config.separator or separator or guess_separator(text)
    quotes = not typed_header and mark != "\t"
    fields = [name.strip().strip('"') if quotes else name.strip() for name in text.split(mark)]
    header = config.header if config.header is not None else not any(map(is_number, fields))
    names = fields if header else [str(number) for number in range(1, len(fields) + 1)]
    if typed_header:
        names = [name.partition(":")[0] for name in names]
    if len(set(names)) < len(names):
        raise LogError(f"{path}: two columns have one name: {', '.join(names)}")
    try:
        columns = find_columns(path, names, config)
    except LogError as error:
        if header:
            raise
        hint = "it has no header: columns are numbered from 1, as in --user 1 --item 2"
        raise LogError(f"{error} ({hint})") from error
    return Layout(mark, tuple(names), header, quotes, columns)


def is_number(text: str) -> bool:
    """Tell whether a field of the first line is rather a value than the name of a column."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _parse(path: Path, data: bytes, first_line: int, layout: Layout) -> RawBlock:
    count = data.count(b"\n")
    separators = data.count(layout.separator.encode())
    plain = not (layout.quotes and b'"' in data)
    if plain and separators == count * (len(layout.names) - 1):
        try:
            table = _columns(data, layout, quotes=False)
        except pl.exceptions.PolarsError:  # a line too long and one too short, or not UTF-8
            table = None
        if table is not None and len(table) == count:
            return RawBlock(table, first_line, count)
    return _parse_by_line(path, data, first_line, layout)


def _parse_by_line(path: Path, data: bytes, first_line: int, layout: Layout) -> RawBlock:
    lines = lines_of(data)
    frame = pl.DataFrame({"text": lines}).with_row_index("line", offset=first_line)
    marks = pl.lit(0)
    unquoted = pl.col("text")
    if layout.quotes:
        marks = pl.col("text").str.count_matches('"', literal=True)
        frame = _join_records(frame.with_columns(marks=marks))
        unquoted = pl.col("text").str.replace_all(r'"[^"]*"', "")
    frame = frame.filter(pl.col("text").str.strip_chars() != "").with_columns(
        fields=unquoted.str.count_matches(layout.separator, literal=True) + 1,
        damaged=pl.col("text").str.contains("\ufffd", literal=True),
    )
    expected = len(layout.names)
    reason = (
        pl.when("damaged")
        .then(pl.lit("not UTF-8"))
        .when(pl.col("fields") != expected)
        .then(pl.format("{} fields, expected {}", "fields", pl.lit(expected)))
        .alias("reason")
    )
    frame = frame.with_columns(reason)
    good, bad = frame.filter(pl.col("reason").is_null()), frame.drop_nulls("reason")
    text = good["text"].str.join("\n").item() if len(good) else ""
    try:
        table = _columns(text.encode() + b"\n", layout, quotes=layout.quotes)
    except pl.exceptions.PolarsError as error:
        last = first_line + len(lines) - 1
        message = f"{path}: lines {first_line} to {last}: quotes that do not fit: {error}"
        raise LogError(message) from error
    table = table.head(len(good))
    if len(table) != len(good):
        raise LogError(f"{path}: lines {first_line} and following: quotes that do not fit")
    return RawBlock(
        table, good["line"].cast(pl.Int64), len(lines), bad=bad_lines(bad["line"], bad["reason"])
    )


def _join_records(frame: pl.DataFrame) -> pl.DataFrame:
    """Join lines between which a quote stays open."""
    open_before = (pl.col("marks").cum_sum().shift(1, fill_value=0) % 2) == 1
    if not frame.select(open_before.any()).item():
        return frame
    record = (~open_before).cum_sum().alias("record")
    joined = frame.group_by(record, maintain_order=True).agg(
        pl.col("line").first(), pl.col("text").str.join("\n")
    )
    return joined.drop("record")


def _columns(data: bytes, layout: Layout, *, quotes: bool) -> pl.DataFrame:
    table = pl.read_csv(
        data,
        has_header=False,
        separator=layout.separator,
        quote_char='"' if quotes else None,
        schema=dict.fromkeys(layout.names, pl.String),
    )
    return table.select(pl.col(name).alias(role) for role, name in layout.columns.items())
