"""The manifest: one row per image, the table that every later stage starts from."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import polars as pl
from polars.datatypes import DataType, DataTypeClass

from medssl.errors import DataError
from medssl.manifest_paths import as_written, decode_path, is_remote
from medssl.private_paths import NOTE as PRIVATE_NOTE
from medssl.private_paths import hide, reveal
from medssl.sources.cut import LEFT_OUT
from medssl.sources.remote import require_usable
from medssl.volumes.patch import Patch
from sslcore.tables import write_parquet

VERSION = "5"
VERSION_NOTE = "medssl.version"
ROOT_NOTE = "medssl.root"
SETTINGS_NOTE = "medssl.settings"

_COLUMNS: dict[str, DataType | DataTypeClass] = {
    "sample": pl.String,  # keyed hash of path, member and frame: the name in all outputs
    "path": pl.String,  # relative to the root, "/" between folders; see medssl.manifest_paths
    "member": pl.String,  # array such as "train_images", or how a slide is cut; else null
    "frame": pl.Int32,  # from 0
    "frames": pl.Int32,  # in the file
    "kind": pl.String,  # of medssl.sources.sniff.KINDS, or slide
    "rows": pl.Int32,
    "columns": pl.Int32,
    "volume": pl.String,  # the first sample of the volume it is a slice of, or null
    "slice": pl.Int32,  # from 0, in the order in space
    "slices": pl.Int32,  # of the volume
    "channels": pl.Int32,  # after decoding: 3, or 1 for grey, also where RGB holds it
    "bits": pl.Int32,  # stored per value
    "photometric": pl.String,  # as DICOM names it, also for other files
    "modality": pl.String,  # a DICOM modality code, or null
    "transfer_syntax": pl.String,  # DICOM UID, or null
    "burned_in": pl.String,  # why text in the pixels is suspected, or null
    "suv": pl.String,  # of PET: whether SUV are known, a value of dicom_suv.Suv; else null
    "spacing_row_mm": pl.Float64,  # between rows
    "spacing_column_mm": pl.Float64,  # between columns
    "spacing_slice_mm": pl.Float64,  # between slices
    "plane": pl.Array(pl.Float64, 9),  # see medssl.sources.place: position, right, down
    "moment": pl.Array(pl.Int32, 3),  # likewise: temporal, acquisition, number; sealed in files
    "stack": pl.String,  # keyed hash of what the images of a volume have in common
    "patient": pl.String,  # keyed hashes, or null where unknown
    "study": pl.String,
    "series": pl.String,
    "site": pl.String,  # where the image was made, keyed hash
    "scanner": pl.String,  # on which device of the site, keyed hash
    "content": pl.String,  # hash of the pixels: equal for exact copies; null if blank
    "stamp": pl.String,  # keyed hash of file size and time: tells whether the file changed
    "masks": pl.List(pl.String),  # paths of files with the structures in it, or null
    "label": pl.String,
    "split": pl.String,  # train, val or test where the data brings its own, else null
    "left_out": pl.Array(pl.Int32, len(LEFT_OUT)),  # tiles of its slide by reason, or null
}
SCHEMA = pl.Schema(_COLUMNS)

_REJECTED: dict[str, DataType | DataTypeClass] = {
    "path": pl.String,
    "reason": pl.String,  # a value of medssl.errors.Reason
    "detail": pl.String,  # words without values from the file
    "stamp": pl.String,
    "series": pl.List(pl.String),  # keyed hashes of the series that a segmentation is of
}
REJECTED_SCHEMA = pl.Schema(_REJECTED)


def of_one_patient(by: str) -> pl.Expr:
    """Tell of each row whether all of its series, or study, are of one patient (and study).

    Identifiers are unique in theory; where patients share one, what refers to it is nobody's.

    Args:
        by: `series` or `study`.
    """
    owners = pl.struct("patient", "study") if by == "series" else pl.col("patient")
    return owners.n_unique().over(by) == 1


@dataclass(frozen=True, slots=True)
class Manifest:
    """Rows and the folder their paths start from.

    Attributes:
        rows: A table of `SCHEMA`, in the order of path, member and frame.
        root: Absolute folder, or a remote one: see `medssl.sources.remote`.
        private: Name of the table that holds its paths, if files are to hold keys instead; see
            `medssl.private_paths`. In memory the paths are always there.
        slices: Rows of all slices, where a row of `rows` stands for several of them; see
            `medssl.volumes.samples`.
        slab: How many of them, if not the whole volume.
        patch: What a row stands for if it is a part of a volume; further columns say which.
    """

    rows: pl.DataFrame
    root: Path
    private: str | None = None
    slices: pl.DataFrame | None = None
    slab: Literal[1, 3] = 1
    patch: Patch | None = None

    @property
    def holds_volumes(self) -> bool:
        """Whether a row stands for a whole volume, or for a patch of one."""
        return self.slices is not None and self.slab == 1

    def __len__(self) -> int:
        return len(self.rows)

    def file(self, path: str) -> Path:
        """Return the file that a value of the column `path` names."""
        return self.root / decode_path(path)

    def where(self, condition: pl.Expr) -> Self:
        """Keep the rows that fulfil `condition`."""
        return replace(self, rows=self.rows.filter(condition))


def count_copies(rows: pl.DataFrame) -> int:
    """Return how many images repeat the pixels of another; blank ones repeat nothing."""
    content = rows["content"].drop_nulls()
    return len(content) - content.n_unique()


def write_manifest(
    manifest: Manifest, path: Path, *, about: Mapping[str, str] | None = None
) -> None:
    """Write the manifest as Parquet, whole or not at all.

    Args:
        manifest: What to write.
        path: The file.
        about: More to note in the file, such as the settings of the scan.
    """
    notes = {**(about or {}), VERSION_NOTE: VERSION, ROOT_NOTE: as_written(manifest.root)}
    _write(manifest.rows, SCHEMA, path, notes, manifest.private)


def write_rejected(
    rows: pl.DataFrame, path: Path, *, about: Mapping[str, str], private: str | None = None
) -> None:
    """Write the table of what was set aside, whole or not at all; `private` as in `Manifest`."""
    _write(rows, REJECTED_SCHEMA, path, {**about, VERSION_NOTE: VERSION}, private)


def _write(
    rows: pl.DataFrame, schema: pl.Schema, path: Path, about: dict[str, str], private: str | None
) -> None:
    if private is not None:
        rows, about = hide(rows, private), {**about, PRIVATE_NOTE: private}
    write_table(rows, schema, path, about=about)


def write_table(
    rows: pl.DataFrame, schema: pl.Schema, path: Path, *, about: Mapping[str, str]
) -> None:
    """Write the columns of `schema` as Parquet with notes, whole or not at all."""
    write_parquet(rows.select(schema.names()).cast(schema), path, about=about)


def rejected_path(manifest: Path) -> Path:
    """Return where the files set aside are listed: beside the manifest.

    `manifest.parquet` has `rejected.parquet`, and `x.parquet` has `x.rejected.parquet`.
    """
    name = "rejected" if manifest.stem == "manifest" else f"{manifest.stem}.rejected"
    return manifest.with_name(f"{name}{manifest.suffix}")


def read_notes(path: Path) -> dict[str, str]:
    """Return what was noted in a Parquet file.

    Raises:
        DataError: Not there, or not a readable Parquet file.
    """
    if is_remote(path):
        raise DataError("a manifest is read from this machine only; copy it here")
    if not path.exists():
        raise DataError(f"{path} does not exist")
    try:
        return pl.read_parquet_metadata(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path}: not a readable Parquet file") from error


def read_manifest(path: Path, *, root: Path | None = None) -> Manifest:
    """Read what `write_manifest` wrote.

    Args:
        path: The Parquet file.
        root: Where the images are now, if the folder has moved.

    Raises:
        DataError: The file is no manifest, of another version, its root does not exist, or its
            paths are private to another place.
        ConfigError: Its root is a remote folder that cannot be read here; it is not contacted.
    """
    about = read_notes(path)
    rows = _read(path)
    if rows.columns == SCHEMA.names()[:-1]:  # the first ones of this version do not count tiles
        rows = rows.with_columns(pl.lit(None, SCHEMA["left_out"]).alias("left_out"))
    if about.get(VERSION_NOTE) != VERSION or rows.schema != SCHEMA:
        raise DataError(f"{path}: not a manifest of version {VERSION}; make one: medssl scan")
    root = root or Path(about[ROOT_NOTE])
    require_usable(root)
    if not is_remote(root) and not root.exists():
        raise DataError(
            f"{path}: its folder {root} does not exist; scan the folder where it is now"
        )
    return Manifest(reveal(rows, about), root, about.get(PRIVATE_NOTE))


def _read(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path}: not a readable Parquet file") from error
