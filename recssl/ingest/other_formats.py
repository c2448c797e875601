"""Parquet, JSON lines, and the adjacency text of the LightGCN data sets."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from recssl.errors import LogError
from recssl.ingest.blocks import lines_of, read_blocks
from recssl.ingest.columns import Role, binary_as_text, find_columns, type_problem
from recssl.ingest.raw import RawBlock, bad_lines, no_bad_lines
from recssl.settings.ingest import IngestConfig

_ROWS = 1_000_000


def read_parquet(path: Path, config: IngestConfig) -> Iterator[RawBlock]:
    """Yield the rows of a Parquet file; only the columns that are needed are read.

    Raises:
        LogError: No such columns, or of a type without a meaning, or not a Parquet file.
    """
    line = 1
    try:
        frame = pl.scan_parquet(path, glob=False)
        schema = frame.collect_schema()
        columns = find_columns(path, schema.names(), config)
        _require_types(path, schema, columns)
        frame = frame.select(pl.col(name).alias(role) for role, name in columns.items())
        for table in frame.collect_batches(chunk_size=_ROWS, maintain_order=True):
            yield RawBlock(binary_as_text(path, table, columns), line, len(table), typed=True)
            line += len(table)
    except (OSError, pl.exceptions.ComputeError) as error:
        raise LogError(f"{path}: not a Parquet file, or damaged: {error}") from error


def read_jsonl(path: Path, config: IngestConfig) -> Iterator[RawBlock]:
    """Yield the rows of a file with one JSON object per line.

    Raises:
        LogError: No such columns, or an array instead of lines.
    """
    line = 1
    columns: dict[str, str] | None = None
    for data in read_blocks(path):
        if columns is None:
            if data.lstrip().startswith(b"["):
                raise LogError(f"{path}: a JSON array; write one object per line (JSON lines)")
            columns = _json_columns(path, data, config)
        lines = lines_of(data)
        yield from _json_blocks(lines, line, columns)
        line += len(lines)
    if columns is None:
        raise LogError(f"{path} is empty")


def read_adjacency(path: Path, config: IngestConfig) -> Iterator[RawBlock]:
    """Yield the pairs of a file whose lines are `user item item ...`, parted by blanks.

    A user without items is no error: it is how these data sets write an empty test line. But a
    line without a blank that holds another separator is a bad one.

    Raises:
        LogError: A time or weight column was asked for, or the file is empty.
    """
    asked = [role for role in ("user", "item", "time", "weight") if getattr(config, role)]
    if asked:
        raise LogError(f"{path} has no columns (user item item ...); leave out --{asked[0]}")
    line = 1
    for data in read_blocks(path):
        lines = lines_of(data)
        frame = pl.DataFrame({"text": lines}).with_row_index("line", offset=line)
        reason = (
            pl.when(pl.col("text").str.contains("\ufffd", literal=True))
            .then(pl.lit("not UTF-8"))
            .when(pl.col("text").str.contains(r"^\s*\S*[,;|]\S*\s*$"))
            .then(pl.lit("parted by another separator than blanks"))
            .alias("reason")
        )
        frame = frame.with_columns(reason)
        bad = frame.drop_nulls("reason")
        tokens = pl.col("text").str.extract_all(r"\S+")
        frame = frame.filter(pl.col("reason").is_null()).select("line", tokens=tokens)
        frame = frame.filter(pl.col("tokens").list.len() > 1).select(
            "line",
            user=pl.col("tokens").list.first(),
            item=pl.col("tokens").list.slice(1),
        )
        frame = frame.explode("item", empty_as_null=True)
        yield RawBlock(
            frame.select("user", "item"),
            frame["line"].cast(pl.Int64),
            len(lines),
            bad=bad_lines(bad["line"], bad["reason"]),
        )
        line += len(lines)
    if line == 1:
        raise LogError(f"{path} is empty")


def _require_types(path: Path, schema: pl.Schema, columns: dict[Role, str]) -> None:
    for role, name in columns.items():
        problem = type_problem(name, role, schema[name])
        if problem:
            raise LogError(f"{path}: {problem}. Convert it, or name another with --{role}")


def _json_columns(path: Path, data: bytes, config: IngestConfig) -> dict[str, str]:
    names: dict[str, None] = {}
    for text in data.decode(errors="replace").split("\n", 100)[:100]:
        names |= dict.fromkeys(_object(text)[0])  # what is none is counted when its block is read
    if not names:
        raise LogError(f"{path}: none of the first lines is a JSON object")
    found = find_columns(path, list(names), config)
    return {str(role): name for role, name in found.items()}


def _json_blocks(lines: pl.Series, first_line: int, columns: dict[str, str]) -> Iterator[RawBlock]:
    """Take lines apart; those with a number as id and those with a text come separately."""
    paths = {role: f"$['{name}']" for role, name in columns.items()}
    frame = pl.DataFrame({"text": lines}).with_row_index("line", offset=first_line)
    frame = frame.filter(pl.col("text").str.strip_chars() != "").with_columns(
        *(pl.col("text").str.json_path_match(path).alias(role) for role, path in paths.items()),
        user_is_text=_is_text(columns["user"]),
        item_is_text=_is_text(columns["item"]),
    )
    frame, bad = _without_broken(frame, columns)
    kinds = frame.partition_by("user_is_text", "item_is_text", as_dict=True, maintain_order=True)
    counted = len(lines)
    for (user_is_text, item_is_text), rows in kinds.items():
        texts = {"user": user_is_text, "item": item_is_text}
        numbers = [pl.col(r).cast(pl.Int64, strict=False) for r, text in texts.items() if not text]
        whole = rows.with_columns(numbers)
        # 5.5 is no integer, nor is a number of 20 digits: such ids stay texts
        lost = [whole[role].null_count() > rows[role].null_count() for role in texts]
        table = (rows if any(lost) else whole).select(*columns)
        yield RawBlock(table, rows["line"].cast(pl.Int64), counted, typed=True, bad=bad)
        counted, bad = 0, bad.clear()
    if counted:
        yield RawBlock(pl.DataFrame(schema=dict.fromkeys(columns, pl.String)), 1, counted, bad=bad)


def _without_broken(
    frame: pl.DataFrame, columns: dict[str, str]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Look once more at lines that gave no user, or an object or a list as one.

    Some are no JSON, and some hold NaN or Infinity, which not every reader takes.
    """
    is_doubtful = (
        frame["user"].is_null()
        | frame.select(
            pl.any_horizontal(
                ~pl.col(f"{role}_is_text")
                & pl.col(role).str.contains(r"^\s*[{\[]").fill_null(value=False)
                for role in ("user", "item")
            )
        ).to_series()
    )
    if not is_doubtful.any():
        return frame, no_bad_lines()
    doubtful = frame.filter(is_doubtful)
    read = [_object(text) for text in doubtful["text"]]
    values = [
        pl.Series(role, [_text_of(row.get(name)) for row, _ in read], dtype=pl.String)
        for role, name in columns.items()
    ]
    reasons = pl.Series("reason", [reason for _, reason in read], dtype=pl.String)
    is_bad = reasons.is_not_null()
    mended = doubtful.with_columns(values).filter(~is_bad)
    good = pl.concat([frame.filter(~is_doubtful), mended]).sort("line")
    return good, bad_lines(doubtful["line"].filter(is_bad), reasons.filter(is_bad))


def _object(text: str) -> tuple[dict[str, Any], str | None]:
    """Return the object of a line, or an empty one and what the line is instead."""
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        return {}, "not JSON"
    return (row, None) if isinstance(row, dict) else ({}, "not a JSON object")


def _text_of(value: object) -> str | None:
    if isinstance(value, dict | list):
        return None  # as if it were not there
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _is_text(name: str) -> pl.Expr:
    key = re.escape(f'"{name}"')
    return pl.col("text").str.contains(rf'{key}\s*:\s*"').fill_null(value=False)
