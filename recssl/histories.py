"""Histories of users that a data set does not know: from a file to rows of a matrix."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from recssl.errors import LogError
from recssl.ingest.columns import NAMES
from recssl.ingest.delimited import guess_separator
from recssl.matrices import binary
from recssl.trained_run import Side, TrainedRun

NEW_ID = "new"  # of the only one, where a file has no column to tell them apart


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
        source: CSV, TSV or Parquet with a header, or a table. The columns are found by name as in
            a log; that of `side` may be missing, if all lines are of one.
        opened: Whose data set knows the other side.
        side: Which side is new.
        skip_unknown: Leave out lines whose other side is not known, instead of refusing them.

    Raises:
        LogError: The file cannot be read, lacks a column, or leaves nothing.
        UnknownIdError: Naming what is not known.
    """
    place = source if isinstance(source, Path) else Path("history")
    table = _read(source) if isinstance(source, Path) else source
    table = _columns(table, place, side)
    other: Side = "item" if side == "user" else "user"
    size = len(table)
    if skip_unknown:
        known = opened.dataset.item_ids if side == "user" else opened.dataset.user_ids
        table = table.filter(pl.col(other).is_in(known.cast(pl.String).implode()))
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


def _read(path: Path) -> pl.DataFrame:
    try:
        if path.suffix == ".parquet":
            return pl.read_parquet(path, glob=False)
        with path.open(encoding="utf-8") as file:
            separator = guess_separator(file.readline().rstrip("\r\n"))
        return pl.read_csv(path, glob=False, separator=separator, infer_schema=False)
    except (OSError, UnicodeDecodeError, pl.exceptions.PolarsError) as error:
        raise LogError(f"{path}: cannot be read: {error}") from error


def _columns(table: pl.DataFrame, place: Path, side: Side) -> pl.DataFrame:
    """Return the columns user and item, ids as text."""
    other: Side = "item" if side == "user" else "user"
    found = {role: _column(table.columns, role) for role in ("user", "item")}
    if found[other] is None and len(table.columns) == 1:
        found[other] = table.columns[0]
    if found[other] is None:
        raise LogError(
            f"{place}: no column looks like the {other}; name it {other!r}."
            f" Columns: {', '.join(table.columns)}"
        )
    return table.select(
        (pl.lit(NEW_ID) if name is None else pl.col(name).cast(pl.String)).alias(role)
        for role, name in found.items()
    ).drop_nulls()


def _column(columns: Sequence[str], role: Side) -> str | None:
    plain = {
        "".join(filter(str.isalnum, name.partition(":")[0].lower())): name
        for name in reversed(columns)
    }
    return next((plain[name] for name in NAMES[role] if name in plain), None)
