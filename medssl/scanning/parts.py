"""What a scan has finished so far, on disk: so that it resumes, and that memory stays flat."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import polars as pl

from medssl.errors import DataError, Reason
from medssl.identity import SiteKey
from medssl.manifest import (
    REJECTED_SCHEMA,
    SCHEMA,
    SETTINGS_NOTE,
    Manifest,
    read_notes,
    rejected_path,
    write_manifest,
    write_rejected,
    write_table,
)
from medssl.private_paths import reveal
from medssl.scanning.outcome import Outcome, Row
from medssl.scanning.sealed import sealed
from medssl.scanning.walk import SetAside
from sslcore.errors import OutputError
from sslcore.files import in_use, output_errors

_FLUSH_ROWS = 20_000
_FLUSH_SECONDS = 5.0
_FILE = ["path", "stamp"]
_DETACHED = ("nrrd", "metaimage")  # their data may be in another file, whose changes nothing tells
_IS_DICOM_SLIDE = (pl.col("kind") == "slide") & pl.col("transfer_syntax").is_not_null()
_IS_OTHER_LEVEL = pl.col("reason") == Reason.OTHER_LEVEL
# Worth another look even if the file has not changed.
_PASSING = (
    Reason.NO_PERMISSION,
    Reason.VANISHED,
    Reason.OUT_OF_RESOURCES,
    Reason.NOT_FETCHED,
    Reason.DECODER_CRASHED,
    Reason.DECODER_TIMEOUT,
)


@dataclass(frozen=True, slots=True)
class Tables:
    """Rows of the manifest, and rows of the files set aside.

    Attributes:
        rows: Of the manifest.
        rejected: Of the files set aside.
        is_last: Whether the rows are all of the last complete scan, so that its volumes stand.
    """

    rows: pl.DataFrame
    rejected: pl.DataFrame
    is_last: bool = False

    def about(self, files: pl.DataFrame) -> "Tables":
        """Keep what is about `files`, which have columns `path` and `stamp`."""
        rows = self.rows.join(files, on=_FILE, how="semi")
        return Tables(rows, self.rejected.join(files, on=_FILE, how="semi"))

    def reusable(self) -> "Tables":
        """Leave out what another look may change.

        Archives are read anew too: in a manifest their rows may hold labels of another table. So
        are files whose data may be in a file beside them, that has changed on its own.
        """
        return Tables(
            self.rows.filter(~pl.col("kind").is_in(["npz", *_DETACHED])),
            self.rejected.filter(~pl.col("reason").is_in(_PASSING)),
        )

    def without_changed_slides(self, files: pl.DataFrame) -> "Tables":
        """Leave out the slides in DICOM in folders where any file is new, changed or gone.

        Which file of such a slide gives tiles depends on those beside it.
        """
        tables = (self.rows, self.rejected)
        known = pl.concat([table.select(_FILE).unique() for table in tables]).drop_nulls()
        gone, new = known.join(files, on=_FILE, how="anti"), files.join(known, on=_FILE, how="anti")
        folders = set(pl.concat([gone, new]).select(_folder()).to_series())
        is_changed = _folder().is_in(folders)
        return Tables(
            self.rows.filter(~(_IS_DICOM_SLIDE & is_changed)),
            self.rejected.filter(~(_IS_OTHER_LEVEL & is_changed)),
        )


def _folder() -> pl.Expr:
    return pl.col("path").str.replace("[^/]*$", "")


class Parts:
    """A folder of Parquet files beside the output, removed when the output is complete."""

    def __init__(
        self,
        out: Path,
        settings: str,
        key: SiteKey,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare to collect results for `out`.

        Args:
            out: The manifest to be.
            settings: Tells results of this scan from those of scans with other settings or keys.
            key: Seals what is written; see `medssl.scanning.sealed`.
            clock: Seconds.
        """
        self.folder = out.with_name(f".{out.name}.parts")
        self._out = out
        self._settings = settings
        self._key = key
        self._clock = clock
        self._rows: list[Row] = []
        self._aside: list[SetAside] = []
        self._last = clock()

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Keep other scans away from the folder; it stays if it holds parts in the end.

        Raises:
            OutputError: Another scan writes the same output now.
        """
        with output_errors(self.folder):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with in_use(self.folder):
            try:
                yield
            finally:
                with suppress(OSError):  # not empty, or removed already
                    self.folder.rmdir()

    def earlier(self, files: pl.DataFrame) -> Tables:
        """Return what an interrupted scan and the last complete one found out, as far as it holds.

        Args:
            files: All that there are now, with columns `path` and `stamp`.
        """
        tables = self._without("rows", SCHEMA, _IS_DICOM_SLIDE)
        asides = self._without("rejected", REJECTED_SCHEMA, _IS_OTHER_LEVEL)
        last = self._load(self._out, SCHEMA)
        last_aside = self._load(rejected_path(self._out), REJECTED_SCHEMA)
        complete = Tables(last, last_aside).without_changed_slides(files)
        rows = pl.concat([*tables, complete.rows]).unique(["path", "member", "frame"], keep="first")
        rejected = pl.concat([*asides, complete.rejected]).unique("path", keep="first")
        found = Tables(rows, rejected).reusable().about(files)
        return replace(found, is_last=not tables and len(found.rows) == len(last))

    def _without(self, kind: str, schema: pl.Schema, is_slide: pl.Expr) -> list[pl.DataFrame]:
        """Return the parts of a kind, and take slides in DICOM out of them for good.

        Which file of such a slide gives tiles depends on files that may have come since.
        """
        tables = []
        for path in self._files(kind):
            table = self._load(path, schema)
            kept = table.filter(~is_slide)
            if len(kept) < len(table):
                self._write(kept, schema, path)
            tables.append(kept)
        return tables

    def add(self, outcome: Outcome) -> None:
        """Keep the result of one file; it is on disk after some seconds, or with `flush`."""
        self._rows.extend(outcome.rows)
        if outcome.aside:
            self._aside.append(outcome.aside)
        if len(self._rows) > _FLUSH_ROWS or self._clock() - self._last > _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is still in memory."""
        self._last = self._clock()
        number = len(list(self._files("rows"))) + len(list(self._files("rejected")))
        if self._rows:
            rows = pl.from_dicts(self._rows, schema=SCHEMA)
            self._write(rows, SCHEMA, self.folder / f"{number:06d}.rows.parquet")
            self._rows = []
        if self._aside:
            aside = pl.from_dicts([asdict(item) for item in self._aside], schema=REJECTED_SCHEMA)
            path = self.folder / f"{number:06d}.rejected.parquet"
            self._write(aside, REJECTED_SCHEMA, path)
            self._aside = []

    def _write(self, table: pl.DataFrame, schema: pl.Schema, path: Path) -> None:
        rows = sealed(table, self._key) if schema is SCHEMA else table
        write_table(rows, schema, path, about={SETTINGS_NOTE: self._settings})

    def collected(self) -> Tables:
        """Return all parts."""
        self.flush()
        rows = [self._load(path, SCHEMA) for path in self._files("rows")]
        aside = [self._load(path, REJECTED_SCHEMA) for path in self._files("rejected")]
        return Tables(
            pl.concat([SCHEMA.to_frame(), *rows]), pl.concat([REJECTED_SCHEMA.to_frame(), *aside])
        )

    def complete(self, manifest: Manifest, rejected: pl.DataFrame) -> None:
        """Write the output and the rejected files beside it, and delete the parts."""
        about = {SETTINGS_NOTE: self._settings}
        write_rejected(rejected, rejected_path(self._out), about=about, private=manifest.private)
        hidden = replace(manifest, rows=sealed(manifest.rows, self._key))
        write_manifest(hidden, self._out, about=about)
        self.remove()

    def remove(self) -> None:
        """Delete the parts."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _files(self, what: str) -> Iterator[Path]:
        yield from sorted(self.folder.glob(f"*.{what}.parquet"))

    def _load(self, path: Path, schema: pl.Schema) -> pl.DataFrame:
        """Read a table of the same settings; of others, or damaged, it is as good as empty."""
        empty = schema.to_frame()
        if not path.is_file():
            return empty
        try:
            notes = read_notes(path)
            if notes.get(SETTINGS_NOTE) != self._settings:
                return empty
            rows = reveal(pl.read_parquet(path), notes)
        except (DataError, OSError, pl.exceptions.PolarsError):
            return empty
        if rows.schema != schema:
            return empty
        return sealed(rows, self._key) if schema is SCHEMA else rows


def require_replaceable(out: Path) -> None:
    """Raise if `out` is something else than a manifest of an earlier scan.

    Raises:
        OutputError: It would be overwritten.
    """
    if not out.exists():
        return
    try:
        notes = read_notes(out) if out.is_file() else {}
    except DataError:
        notes = {}
    if "medssl.version" not in notes:
        raise OutputError(f"{out} exists and is no manifest; give another name with --out")
