"""Paths that stay in one place: a table beside the site key, and keys of it in all manifests.

Whoever gets a manifest or a run folder without that table sees neither a name of a file nor of a
folder below the root, and cannot read the images.
"""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from medssl.errors import DataError
from medssl.identity import SiteKey, key_file
from sslcore.files import output_errors
from sslcore.tables import write_parquet

NOTE = "medssl.private_paths"  # in a manifest: the name of the table
_SCHEMA = pl.Schema({"path": pl.String, "key": pl.String})


def table_file(name: str) -> Path:
    """Return where the table `name` is: in a folder that only the user may open."""
    return key_file().parent / "paths" / f"{name}.parquet"


def keep_paths(paths: pl.Series, root: Path, key: SiteKey) -> str:
    """Add the paths of a scan to the table of its root, and return the table's name.

    Raises:
        OutputError: It cannot be written.
        DataError: It is damaged.
    """
    name = key.hash("paths", str(root))
    file = table_file(name)
    with output_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = paths.unique().to_list()
    fresh = pl.DataFrame(
        {"path": found, "key": [key.hash("path", path) for path in found]}, schema=_SCHEMA
    )
    known = _read(file) if file.exists() else _SCHEMA.to_frame()
    write_parquet(pl.concat([known, fresh]).unique("path", maintain_order=True), file)
    return name


def hide(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    """Replace the column `path`, and the paths in `masks`, by keys.

    Raises:
        DataError: The table is not here, or lacks a path.
    """
    return _replaced(rows, name, "path", "key")


def reveal(rows: pl.DataFrame, notes: Mapping[str, str]) -> pl.DataFrame:
    """Replace keys in the columns `path` and `masks` by the paths that they stand for.

    Args:
        rows: Of a manifest, or of rejected files, as the file holds them.
        notes: Of the file.

    Raises:
        DataError: The table is not here, or lacks a key.
    """
    name = notes.get(NOTE)
    return rows if name is None else _replaced(rows, name, "key", "path")


def _replaced(rows: pl.DataFrame, name: str, given: str, wanted: str) -> pl.DataFrame:
    file = table_file(name)
    if not file.exists():
        raise DataError(
            f"the paths of this manifest are private, and their table {file} is not here; work"
            " where it was scanned, or scan again"
        )
    table = _read(file).select(pl.col(given).alias("path"), pl.col(wanted).alias("_wanted"))
    replaced = rows.with_columns(_looked_up(rows["path"], table))
    lacking = replaced["path"].null_count()
    if "masks" in rows.columns:
        lists = rows["masks"]
        every = lists.explode().drop_nulls().unique(maintain_order=True).alias("path")
        names = _looked_up(every, table)
        known = dict(zip(every, names, strict=True))
        masks = [None if each is None else [known[path] for path in each] for each in lists]
        replaced = replaced.with_columns(pl.Series("masks", masks, dtype=pl.List(pl.String)))
        lacking += names.null_count()
    if lacking:
        raise DataError(f"{file} lacks paths of this manifest; scan again")
    return replaced


def _looked_up(paths: pl.Series, table: pl.DataFrame) -> pl.Series:
    """Return what stands for each path; null for what the table lacks."""
    joined = paths.to_frame().join(table, on="path", how="left", maintain_order="left")
    return joined["_wanted"].alias("path")


def _read(file: Path) -> pl.DataFrame:
    try:
        table = pl.read_parquet(file)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{file}: not a readable Parquet file; scan again") from error
    if table.schema != _SCHEMA:
        raise DataError(f"{file}: not a table of paths; scan again")
    return table
