"""Tables as files, whole or not at all."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from sslcore.errors import OutputError
from sslcore.files import require_local, whole_file


def require_parquet(out: Path) -> None:
    """Raise `OutputError` for a name that says the file is something else, or not here."""
    require_local(out)
    if out.suffix != ".parquet":
        raise OutputError(f"--out {out}: what is written is Parquet; name it {out.stem}.parquet")


def require_replaceable(out: Path, columns: Sequence[str], what: str) -> None:
    """Raise `OutputError` if `out` is there and holds other columns, and so something else."""
    if not out.exists():
        return
    try:
        found = list(pl.read_parquet_schema(out)) if out.is_file() else []
    except (OSError, pl.exceptions.PolarsError):
        found = []
    if found != list(columns):
        raise OutputError(f"{out} exists and is no {what}; give another --out")


def write_parquet(
    table: pl.DataFrame, path: Path, *, about: Mapping[str, str] | None = None
) -> None:
    """Write `table` to `path`, with the facts `about` it in the file's metadata.

    Raises:
        OutputError: The disk is full, or the place cannot be written.
    """
    with _draft(path) as draft:
        table.write_parquet(draft, metadata=dict(about or {}))


def write_delimited(table: pl.DataFrame, path: Path, *, separator: str) -> None:
    """Write `table` to `path` as text, a line per row, block by block.

    Raises:
        OutputError: The disk is full, or the place cannot be written.
    """
    with _draft(path) as draft:
        table.write_csv(draft, separator=separator)


@contextmanager
def _draft(path: Path) -> Iterator[Path]:
    """Give a path to write to, as `whole_file`; errors of Polars do not say what is wrong."""
    with whole_file(path) as draft:
        try:
            yield draft
        except pl.exceptions.PolarsError as error:
            raise OutputError(f"cannot write {path}; is the disk full?") from error
