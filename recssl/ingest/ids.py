"""Ids of the log become row numbers, in the order of the ids."""

import numpy as np
import polars as pl

from recssl.errors import LogError
from recssl.ingest.staging import Piece
from recssl.ingest.values import INTEGER, TEXT

_ROLES = ("user", "item")
_ROWS = 1_000_000
_DENSE_AT_LEAST, _DENSE_PER_ROW = 10_000_000, 2


def number_rows(
    pieces: list[Piece], *, with_times: bool
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Return the rows of all pieces with numbers for ids, and the ids of users and items.

    Args:
        pieces: At least one.
        with_times: Keep the column `time`.

    Returns:
        Rows in the order of the log: `user`, `item` (Int32), `weight`, `given` and perhaps `time`;
        then `user` and `id`, sorted by id; then `item` and `id`.

    Raises:
        LogError: The same id stands in the log as a number and as a text.
    """
    frame = _joined(pieces)
    tables = []
    for place, role in enumerate(_ROLES):
        dense = _dense(frame, role)
        if dense is not None:
            ids, numbering = dense
            frame = frame.with_columns(numbering.alias(f"{role}_number"))
        else:
            found = frame.select(role).unique().collect(engine="streaming")
            ids = found[role].sort()
        numbers = pl.int_range(len(ids), dtype=pl.Int32, eager=True)
        if dense is None:
            table = pl.LazyFrame({role: ids, f"{role}_number": numbers})
            frame = frame.join(table, on=role, how="left", maintain_order="left")
        _require_one_type(pieces, place, ids)
        tables.append(pl.DataFrame({role: numbers, "id": ids}))
    columns = ["weight", "given", *(["time"] if with_times else [])]
    rows = frame.select(
        *(pl.col(f"{role}_number").alias(role) for role in _ROLES), *columns
    ).collect(engine="streaming")
    return rows, tables[0], tables[1]


def _dense(frame: pl.LazyFrame, role: str) -> tuple[pl.Series, pl.Expr] | None:
    """Number integers by a table of their whole range, if that is not much longer than the log.

    Several times faster than a join, which all other ids take.
    """
    if frame.collect_schema()[role] != pl.Int64:
        return None
    column = pl.col(role)
    ends = frame.select(pl.len(), low=column.min(), high=column.max())
    rows, low, high = ends.collect(engine="streaming").row(0)
    if high - low >= _DENSE_AT_LEAST + _DENSE_PER_ROW * rows:
        return None
    present = np.zeros(high - low + 1, bool)
    for batch in frame.select(role).collect_batches(chunk_size=_ROWS):
        present[batch[role].to_numpy() - low] = True
    ids = pl.Series("id", np.flatnonzero(present) + low)
    number = np.cumsum(present, dtype=np.int32)
    number -= 1

    def look_up(values: pl.Series) -> pl.Series:
        return pl.Series(values.name, number[values.to_numpy() - low])

    return ids, column.map_batches(look_up, return_dtype=pl.Int32, is_elementwise=True)


def _joined(pieces: list[Piece]) -> pl.LazyFrame:
    if len({piece.types for piece in pieces}) == 1:
        return pl.scan_parquet([piece.path for piece in pieces], glob=False)
    # an id that is an integer in some pieces only: as a text it is written in one way alone
    wanted = {
        role: pl.String if len({piece.types[place] for piece in pieces}) > 1 else None
        for place, role in enumerate(_ROLES)
    }
    casts = [pl.col(role).cast(dtype) for role, dtype in wanted.items() if dtype is not None]
    return pl.concat(
        [pl.scan_parquet(piece.path, glob=False).with_columns(casts) for piece in pieces]
    )


def _require_one_type(pieces: list[Piece], place: int, ids: pl.Series) -> None:
    role = _ROLES[place]
    sets = []
    for kind in (INTEGER, TEXT):
        paths = [piece.path for piece in pieces if piece.kinds[place] == kind]
        frames = [pl.scan_parquet(path, glob=False) for path in paths]
        scans = [frame.select(pl.col(role).cast(pl.String)) for frame in frames]
        sets.append(pl.concat(scans) if scans else None)
    integers, texts = sets
    if integers is not None and texts is not None:
        both = integers.unique().join(texts.unique(), on=role).sort(role).collect()
        _refuse(role, both[role], "numbers as well as texts")
    if ids.dtype == pl.String:
        decimals = ids.filter(ids.str.contains(r"^-?\d+\.0+$"))
        both = decimals.str.replace(r"\.0+$", "").to_frame("id").join(ids.to_frame("id"), on="id")
        _refuse(role, both["id"], "integers as well as decimals (such as 5 and 5.0)")
        padded = ids.filter(ids.str.contains(r"^0+\d+$"))
        plain = padded.str.replace(r"^0+(\d)", "$1").to_frame("id")
        both = plain.join(ids.to_frame("id"), on="id")
        _refuse(role, both["id"], "numbers with as well as without zeros in front (005 and 5)")


def _refuse(role: str, ids: pl.Series, how: str) -> None:
    if len(ids):
        shown = ", ".join(ids.head(3).to_list())
        raise LogError(
            f"{len(ids)} {role} id(s) differ only in type: {shown} stand(s) in the log as {how}. "
            "Write them in one way in all files"
        )
