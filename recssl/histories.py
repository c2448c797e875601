"""Histories of users that a data set does not know: from a file to rows of a matrix."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from recssl.errors import LogError
from recssl.ingest.blocks import read_blocks
from recssl.ingest.columns import NAMES, Role, binary_as_text, type_problem
from recssl.ingest.delimited import guess_separator, is_number
from recssl.ingest.sources import COMPRESSED, FORMATS, suffix_of
from recssl.matrices import binary
from recssl.trained_run import Side, TrainedRun

NEW_ID = "new"  # of the only one, where a file has no column to tell them apart
_SIDES: tuple[Side, ...] = ("user", "item")
_KNOWN = (
    "CSV and TSV, JSON lines (.jsonl), both also compressed"
    f" ({', '.join(COMPRESSED)}), and Parquet (.parquet)"
)


@dataclass(frozen=True, slots=True)
class Histories:
    """What some new users had, or who had some new items.

    Attributes:
        ids: Names of the new ones, `[rows]`.
        matrix: `[rows, num_items]`, or `[rows, num_users]` for new items; canonical; every entry 1.
        skipped: Lines whose other side the data set does not know.
    """

    ids: pl.Series
    matrix: csr_array
    skipped: int


def read_histories(
    source: Path | pl.DataFrame, opened: TrainedRun, side: Side, *, skip_unknown: bool
) -> Histories:
    """Read interactions of new users or items.

    Args:
        source: CSV, TSV, JSON lines or Parquet, or a table. The columns are found by name as in a
            log; that of `side` may be missing, if all lines are of one. A file with one column
            needs no header.
        opened: Whose data set knows the other side.
        side: Which side is new.
        skip_unknown: Leave out lines whose other side is not known, instead of refusing them.

    Raises:
        LogError: The file cannot be read, lacks a column, or leaves nothing.
        UnknownIdError: Naming what is not known.
    """
    place = source if isinstance(source, Path) else Path("history")
    other: Side = "item" if side == "user" else "user"
    ids = opened.dataset.item_ids if side == "user" else opened.dataset.user_ids
    known = ids.cast(pl.String)
    table = _read(source, other, known) if isinstance(source, Path) else source
    table = _columns(table, place, side)
    size = len(table)
    if skip_unknown:
        table = table.filter(pl.col(other).is_in(known.implode()))
    if not len(table):
        way_out = f"; none of its {size} {other} ids is in {opened.dataset.folder}" if size else ""
        raise LogError(f"{place}: no interaction to go by{way_out}")
    columns = opened.find(other, table[other].to_list())
    ids = table[side].unique(maintain_order=True)
    numbers = pl.DataFrame({side: ids}).with_row_index("row")
    rows = table.join(numbers, on=side, how="left", maintain_order="left")["row"].to_numpy()
    rows = rows.astype(np.int64)
    shape = (len(ids), opened.learnt.shape[1 if side == "user" else 0])
    matrix = csr_array((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)
    matrix.sum_duplicates()
    return Histories(ids, binary(matrix), size - len(table))


def _read(path: Path, other: Side, known: pl.Series) -> pl.DataFrame:
    kind = FORMATS.get(suffix_of(path))
    if not path.exists():
        raise LogError(f"{path}: no such file")
    try:
        if kind == "parquet":
            return pl.read_parquet(path, glob=False)
        data = b"".join(read_blocks(path))
        if kind == "jsonl":
            return pl.read_ndjson(data, infer_schema_length=None)
        return _read_delimited(data, other, known)
    except UnicodeDecodeError as error:
        raise LogError(f"{path}: cannot be read: not UTF-8 text; known are {_KNOWN}") from error
    except (OSError, pl.exceptions.PolarsError) as error:
        raise LogError(
            f"{path}: cannot be read as {kind or 'csv'}: {error}; known are {_KNOWN}"
        ) from error


def _read_delimited(data: bytes, other: Side, known: pl.Series) -> pl.DataFrame:
    """Read text with a header; a first line that is an id, or a number, is none."""
    first = data.decode().partition("\n")[0].rstrip("\r")
    only = first.strip().strip('"')
    if is_number(only) or (known == only).any():
        return pl.read_csv(
            data, has_header=False, new_columns=[other], separator="\t", infer_schema=False
        )
    return pl.read_csv(data, separator=guess_separator(first), infer_schema=False)


def _columns(table: pl.DataFrame, place: Path, side: Side) -> pl.DataFrame:
    """Return the columns user and item, ids as text."""
    other: Side = "item" if side == "user" else "user"
    found: dict[Role, str] = {}
    found |= {role: name for role in _SIDES if (name := _column(table.columns, role))}
    if other not in found and len(table.columns) == 1:
        found[other] = table.columns[0]
    if other not in found:
        raise LogError(
            f"{place}: no column looks like the {other}; name it {other!r}, in a first line if"
            f" there is none. Columns: {', '.join(table.columns)}"
        )
    for role, name in found.items():
        problem = type_problem(name, role, table.schema[name])
        if problem:
            raise LogError(f"{place}: {problem}. Convert it")
    table = table.select(pl.col(name).alias(role) for role, name in found.items())
    table = binary_as_text(place, table, found)
    if side not in found:
        table = table.with_columns(pl.lit(NEW_ID).alias(side))
    return table.select(pl.col(_SIDES).cast(pl.String)).drop_nulls()


def _column(columns: Sequence[str], role: Side) -> str | None:
    plain = {
        "".join(filter(str.isalnum, name.partition(":")[0].lower())): name
        for name in reversed(columns)
    }
    return next((plain[name] for name in NAMES[role] if name in plain), None)
