"""Tables as Parquet, whole or not at all."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from sslcore.errors import OutputError
from sslcore.files import whole_file


def require_parquet(out: Path) -> None:
    """Raise `OutputError` for a name that says the file is something else than Parquet."""
    if out.suffix != ".parquet":
        raise OutputError(f"--out {out}: what is written is Parquet; name it {out.stem}.parquet")


def write_parquet(
    table: pl.DataFrame, path: Path, *, about: Mapping[str, str] | None = None
) -> None:
    """Write `table` to `path`, with the facts `about` it in the file's metadata.

    Raises:
        OutputError: The disk is full, or the place cannot be written. Polars has errors of its own
            for that, which do not say so.
    """
    with whole_file(path) as draft:
        try:
            table.write_parquet(draft, metadata=dict(about or {}))
        except pl.exceptions.PolarsError as error:
            raise OutputError(f"cannot write {path}; is the disk full?") from error
