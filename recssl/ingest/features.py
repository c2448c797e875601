"""Further columns of users and items, joined by id."""

from collections.abc import Callable
from pathlib import Path

import polars as pl

from recssl.errors import LogError
from recssl.ingest.columns import NAMES, Role, type_problem
from recssl.ingest.delimited import guess_separator
from sslcore.config import suggest


def add_features(
    table: pl.DataFrame, role: Role, path: Path | None, note: Callable[[str], None]
) -> pl.DataFrame:
    """Join the columns of `path` to the ids of users or items.

    Args:
        table: `role` (row number) and `id`.
        role: `user` or `item`; says how the id column of the file may be called.
        path: Parquet, CSV, TSV, or RecBole's `.user` and `.item`. Rows of unknown ids are left
            out, ids without a row get nulls.
        note: Told how many have a row, if not all.

    Raises:
        LogError: The file cannot be read, has no usable id column, an id twice, or no known id.
    """
    if path is None:
        return table
    features = read_features(path, role, table["id"].dtype)
    if role in features.columns:
        raise LogError(f"{path}: column {role!r} would stand twice; rename it")
    found = len(table.join(features, on="id", how="semi"))
    if not found:
        raise LogError(
            f"{path}: none of its {len(features)} ids is that of one of the {len(table)} {role}s;"
            f" theirs are like {', '.join(table['id'].head(3).cast(pl.String))}"
        )
    if found < len(table):
        note(f"{path}: {found} of {len(table)} {role}s have a row; the others have no features")
    return table.join(features, on="id", how="left", maintain_order="left")


def read_features(path: Path, role: Role, ids: pl.DataType) -> pl.DataFrame:
    """Read a table of features, its id column as `id` of type `ids`, rows without one left out.

    Raises:
        LogError: As `add_features`.
    """
    features = _read(path)
    plain = {
        "".join(filter(str.isalnum, name.lower())): name for name in reversed(features.columns)
    }
    found = [plain[name] for name in (*NAMES[role], "id") if name in plain]
    if not found:
        message = f"{path}: no column looks like the {role} id; {suggest('id', features.columns)}"
        raise LogError(message)
    problem = type_problem(found[0], role, features[found[0]].dtype)
    if problem:
        raise LogError(f"{path}: {problem}. Convert it")
    features = features.rename({found[0]: "id"})
    features = features.with_columns(pl.col("id").cast(ids, strict=False))
    features = features.drop_nulls("id")
    if features["id"].n_unique() < len(features):
        twice = features["id"].filter(features["id"].is_duplicated())[0]
        raise LogError(f"{path}: id {twice} has more than one row")
    return features


def _read(path: Path) -> pl.DataFrame:
    try:
        if path.suffix == ".parquet":
            return pl.read_parquet(path, glob=False)
        with path.open(encoding="utf-8") as file:
            first = file.readline()
        typed = path.suffix in (".user", ".item")
        separator = "\t" if typed else guess_separator(first)
        quote = None if separator == "\t" else '"'
        table = pl.read_csv(
            path, glob=False, separator=separator, quote_char=quote, infer_schema_length=None
        )
    except (OSError, UnicodeDecodeError, pl.exceptions.PolarsError) as error:
        raise LogError(f"{path}: cannot be read: {error}") from error
    return table.rename(lambda name: name.partition(":")[0]) if typed else table
