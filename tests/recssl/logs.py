"""Data sets and logs for the tests of all rooms."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from recssl.dataset import INTERACTIONS, PARTS, Dataset, write_dataset

Pairs = Sequence[tuple[int, int]]


def make_dataset(
    folder: Path,
    train_pairs: Pairs,
    valid_pairs: Pairs,
    test_pairs: Pairs,
    num_users: int,
    num_items: int,
    *,
    times: bool = False,
    user_ids: Sequence[int] | Sequence[str] | None = None,
    item_ids: Sequence[int] | Sequence[str] | None = None,
) -> Dataset:
    """Write a data set of the given `(user, item)` rows, all of weight 1.

    Ids are `u0, u1, ...` and `i0, i1, ...` by default. With `times`, pairs follow each other by a
    second in the order given, train before valid before test.
    """
    rows = [
        (user, item, 1.0, part)
        for part, pairs in zip(PARTS, (train_pairs, valid_pairs, test_pairs), strict=True)
        for user, item in pairs
    ]
    table = pl.DataFrame(rows, schema=["user", "item", "weight", "part"], orient="row")
    moments = [number * 1_000_000 if times else None for number in range(len(rows))]
    table = table.with_columns(pl.Series("time", moments, dtype=pl.Int64))
    return write_dataset(
        folder,
        table.select(pl.col(name).cast(dtype) for name, dtype in INTERACTIONS.items()),
        _ids("user", user_ids or [f"u{number}" for number in range(num_users)]),
        _ids("item", item_ids or [f"i{number}" for number in range(num_items)]),
        split={"name": "given"},
    )


def _ids(name: str, ids: Sequence[int] | Sequence[str]) -> pl.DataFrame:
    return pl.DataFrame({name: range(len(ids)), "id": ids}, schema_overrides={name: pl.Int32})
