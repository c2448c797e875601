"""Labels from a table or from folder names, joined to a manifest."""

import csv
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import polars as pl

from medssl.errors import DataError
from medssl.identity import SiteKey
from medssl.manifest import Manifest, of_one_patient
from medssl.manifest_paths import as_written, decode_path, encode_path, path_shape

KEYS = ("path", "file", "patient", "study", "series", "sample")
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_SEPARATORS = ",;\t"
_USUAL = (*KEYS, "label", "frame", "split", "class", "target", "diagnosis", "finding", "filename")
_NO_TABLE = "not a CSV table in UTF-8 with a header"


class Labelled(NamedTuple):
    """Images with the labels of a table.

    Attributes:
        manifest: What was to label.
        unused: Names in the table, with their frames, that are labelled there and fit no image.
    """

    manifest: Manifest
    unused: int = 0


def join_labels(manifest: Manifest, table: Path, key: SiteKey) -> Labelled:
    """Take the labels of `table` in place of any that the manifest has.

    The table is CSV (comma, semicolon or tab) with a column `label` and one of `KEYS`: `path`
    relative to the scanned folder or absolute, `file` the bare name, the others in clear or as the
    hash that the manifest shows. Columns `frame` and `split` are optional; a row without frame is
    for all frames. A row without label is passed over, and images not named get no label.

    Args:
        manifest: What to label.
        table: The CSV file.
        key: Of the scan, to hash identifiers given in clear.

    Raises:
        DataError: The table cannot be read, lacks columns, contradicts itself or names no image.
    """
    given = _read(table)
    by = _key_column(given, table)
    names = _normalise(given[by], by, manifest, key)
    wanted = _merge(given.with_columns(names.alias("name")), table)
    rows = manifest.rows.with_columns(_names_of(manifest, by).alias("name"))
    if rows.join(wanted, on="name", how="semi").is_empty():
        raise DataError(_no_match(table, by, wanted, rows))
    if by == "file":
        _require_unambiguous(rows.join(wanted, on="name", how="semi"), table)
    labelled = _join(rows, wanted).select(manifest.rows.columns)
    return Labelled(replace(manifest, rows=labelled), _count_unused(rows, wanted))


def require_labels(table: Path) -> None:
    """Check what can be checked of a table of labels before there is a manifest.

    Raises:
        DataError: The table cannot be read, or lacks columns.
    """
    _key_column(_read(table), table)


def folder_labels(paths: Iterable[str]) -> list[str | None]:
    """Return the name of the folder that each file is in; None for files in the root itself.

    An archive is a folder of its name, without ".zip" or ".tar".

    Args:
        paths: As in the column `path`.
    """
    parents = (PurePosixPath(decode_path(path)).parent.name for path in paths)
    names = (re.sub(r"\.(zip|tar)$", "", name, flags=re.IGNORECASE) for name in parents)
    return [encode_path(name) if name else None for name in names]


def folder_splits(paths: list[str]) -> list[str | None]:
    """Return the split that a folder on each path names, the uppermost if there are several.

    Folders count, in any case of letters, as `SPLITS` lists them, and only if the data has a
    training folder and another one: a lone folder called "test" is no split.
    """
    folders = [path.rpartition("/")[0] for path in paths]
    split_of = {folder: _split_of(folder) for folder in set(folders)}
    found = [split_of[folder] for folder in folders]
    is_split = "train" in found and len({split for split in found if split}) > 1
    return found if is_split else [None] * len(paths)


def _split_of(folder: str) -> str | None:
    names = folder.lower().split("/")
    return next((SPLITS[name] for name in names if name in SPLITS), None)


def _read(table: Path) -> pl.DataFrame:
    try:
        given = pl.read_csv(table, separator=_separator(table), infer_schema=False)
    except FileNotFoundError as error:
        raise DataError(f"{table}: no such file") from error
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{table}: {_longer_row(table) or _NO_TABLE}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{table}: {_NO_TABLE}") from error
    columns = [name.strip().lower() for name in given.columns]
    for place, name in enumerate(columns):
        if name in columns[:place]:
            which = f"{columns.index(name) + 1} and {place + 1}"
            raise DataError(f"{table}: columns {which} are called the same; leave one")
    given.columns = columns
    return given.with_columns(pl.all().str.strip_chars())


def _separator(table: Path) -> str:
    with table.open(encoding="utf-8-sig") as file:
        return max(_SEPARATORS, key=file.readline().count)


def _longer_row(table: Path) -> str:
    """Name the first row that has more fields than the header; its words stay unsaid."""
    with table.open(encoding="utf-8-sig", newline="", errors="replace") as file:
        rows = csv.reader(file, delimiter=_separator(table))
        try:
            width = len(next(rows, []))
            for row in rows:
                if len(row) > width:
                    return f"line {rows.line_num} has {len(row)} fields, the header {width}"
        except csv.Error:  # a field of more than csv reads: no table either
            return ""
    return ""


def _key_column(given: pl.DataFrame, table: Path) -> str:
    """Check the columns and return the one that names images."""
    held = _columns_in_words(given.columns)
    if "label" not in given.columns:
        raise DataError(f"{table}: without a column 'label'; it has: {held}")
    keys = [name for name in KEYS if name in given.columns]
    if not keys:
        raise DataError(f"{table}: needs one column of {', '.join(KEYS)}; it has: {held}")
    return keys[0]


def _columns_in_words(columns: Sequence[str]) -> str:
    """List the usual names, and count the others: without a header they would be a patient's."""
    shown = [name for name in columns if name in _USUAL or get_close_matches(name, _USUAL)]
    others = len(columns) - len(shown)
    if not others:
        return ", ".join(shown) or "none"
    return f"{', '.join([*shown, f'{others} called otherwise'])}; is line 1 the header?"


def _normalise(names: pl.Series, by: str, manifest: Manifest, key: SiteKey) -> pl.Series:
    """Write names from the table as `_names_of` writes those of the manifest."""
    if by == "path":
        root = f"{as_written(manifest.root).rstrip('/')}/"
        names = names.str.replace_all("\\", "/", literal=True)
        return names.str.strip_prefix(root).str.strip_prefix("./")
    hashers: Mapping[str, Callable[[str], str]] = {
        "patient": key.patient,
        "study": key.study,
        "series": key.series,
    }
    if by not in hashers:
        return names
    known = set(manifest.rows[by].drop_nulls().unique().to_list())
    unique = names.drop_nulls().unique().to_list()
    hashed = {name: name if name in known else hashers[by](name) for name in unique}
    return names.replace_strict(hashed, default=None, return_dtype=pl.String)


def _names_of(manifest: Manifest, by: str) -> pl.Series:
    """Return what the table calls each image; a series or study of several patients has no name."""
    if by == "file":
        return manifest.rows["path"].str.split("/").list.last()
    if by in ("series", "study"):
        return manifest.rows.select(pl.when(of_one_patient(by)).then(by).alias(by))[by]
    return manifest.rows[by]


def _merge(given: pl.DataFrame, table: Path) -> pl.DataFrame:
    """Return one row per name and frame, with columns `name`, `frame`, `label`, `split`."""
    given = given.with_row_index("row", offset=1)
    for column in ("frame", "split"):
        if column not in given.columns:
            given = given.with_columns(pl.lit(None, pl.String).alias(column))
    given = given.select("row", pl.col("name", "frame", "label", "split").replace("", None))
    if not given["frame"].drop_nulls().str.contains(r"^\d{1,9}$").all():
        raise DataError(f"{table}: column 'frame' must hold whole numbers from 0")
    if given["label"].is_null().all():
        raise DataError(f"{table}: the column 'label' is empty")
    splits = given["split"].str.to_lowercase().replace_strict(SPLITS, default="?")
    if (given["split"].is_not_null() & (splits == "?")).any():
        raise DataError(f"{table}: column 'split' must hold train, val or test")
    given = given.with_columns(
        pl.col("frame").cast(pl.Int32), pl.when(splits != "?").then(splits).alias("split")
    )
    given = given.filter(pl.col("name").is_not_null())
    groups = given.group_by("name", "frame", maintain_order=True)
    for column in ("label", "split"):
        counts = groups.agg("row", pl.col(column).drop_nulls().n_unique())
        clashes = counts.filter(pl.col(column) > 1)["row"]
        if len(clashes):
            rows = ", ".join(map(str, clashes[0][:3]))
            raise DataError(
                f"{table}: {len(clashes)} name(s) with two {column}s, the first in rows {rows}"
                " below the header"
            )
    return groups.agg(pl.col("label", "split").drop_nulls().first())


def _count_unused(rows: pl.DataFrame, wanted: pl.DataFrame) -> int:
    labelled = wanted.filter(pl.col("label").is_not_null())
    is_whole = pl.col("frame").is_null()
    whole = labelled.filter(is_whole).join(rows, on="name", how="anti")
    return len(whole) + len(labelled.filter(~is_whole).join(rows, on=["name", "frame"], how="anti"))


def _require_unambiguous(rows: pl.DataFrame, table: Path) -> None:
    counts = rows.group_by("name", maintain_order=True).agg(pl.col("path").n_unique())
    twice = counts.filter(pl.col("path") > 1)["name"]
    if len(twice):
        raise DataError(
            f"{table}: {len(twice)} file name(s) stand in several folders; use a column 'path',"
            " relative to the scanned folder"
        )


def _join(rows: pl.DataFrame, wanted: pl.DataFrame) -> pl.DataFrame:
    """Add label and split: those of the frame where given, else those of the whole file."""
    exact = wanted.filter(pl.col("frame").is_not_null())
    whole = wanted.filter(pl.col("frame").is_null()).drop("frame")
    joined = _add(_add(rows, exact, ["name", "frame"], "_exact"), whole, ["name"], "_whole")
    return joined.with_columns(
        pl.coalesce("label_exact", "label_whole").alias("label"),
        pl.coalesce("split_exact", "split_whole", "split").alias("split"),
    )


def _add(rows: pl.DataFrame, values: pl.DataFrame, on: list[str], suffix: str) -> pl.DataFrame:
    named = values.rename({name: f"{name}{suffix}" for name in values.columns if name not in on})
    return rows.join(named, on=on, how="left", maintain_order="left")


def _no_match(table: Path, by: str, given: pl.DataFrame, rows: pl.DataFrame) -> str:
    """Say what stands on either side: identifiers of people as hashes, paths by their shape."""
    theirs, ours = (_examples(names, by) for names in (given["name"], rows["name"]))
    if not ours:
        return f"{table}: no image has a {by}, so the column '{by}' cannot name any"
    unlike = {
        "patient": " (each as the hash of DICOM's PatientID, or of what --patient-pattern found)",
        "study": " (each as the hash of DICOM's StudyInstanceUID)",
        "series": " (each as the hash of DICOM's SeriesInstanceUID)",
    }
    return (
        f"{table}: its column '{by}' names no image; its {given['name'].n_unique()} names are like"
        f" {' and '.join(theirs) or 'nothing'}, the {rows['name'].drop_nulls().n_unique()} of the"
        f" images like {' and '.join(ours)}{unlike.get(by, '')}"
    )


def _examples(names: pl.Series, by: str) -> list[str]:
    """Return at most two that can be shown."""
    some = names.drop_nulls().unique(maintain_order=True).head(100).to_list()
    shown = map(path_shape, some) if by in ("path", "file", "sample") else some
    return list(dict.fromkeys(shown))[:2]
