"""Logs of any format, read once, block by block, into pieces of Parquet beside the result."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from recssl.dataset import BAD_LINES
from recssl.errors import LogError
from recssl.ingest.delimited import read_delimited
from recssl.ingest.other_formats import read_adjacency, read_jsonl, read_parquet
from recssl.ingest.raw import RawBlock
from recssl.ingest.sources import FORMATS, Source, find_sources
from recssl.ingest.text_forms import text_formats
from recssl.ingest.values import ValueReader
from recssl.settings.ingest import IngestConfig
from sslcore.console import Progress

_SHOWN = 10
_KEPT = 1_000_000  # bad lines that are listed; the rest is only counted


@dataclass(frozen=True)
class Piece:
    """Rows on disk: `user`, `item` (Int64 or String), `weight`, `time`, `given` (part, or 0)."""

    path: Path
    types: tuple[pl.DataType, pl.DataType]
    kinds: tuple[str, str]


@dataclass
class Staged:
    """All logs, read."""

    pieces: list[Piece] = field(default_factory=list)
    bad: list[pl.DataFrame] = field(default_factory=list)
    num_lines: int = 0
    num_rows: int = 0
    num_bad: int = 0
    timed: dict[Path, bool] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)

    @property
    def with_times(self) -> bool:
        """Whether the logs have times; `stage` refuses those of which only some have."""
        return all(self.timed.values())

    def bad_lines(self) -> pl.DataFrame:
        """Return file, line and reason of the bad lines, in the order of files and lines."""
        table = pl.concat([pl.DataFrame(schema=BAD_LINES), *self.bad])
        return table.sort(pl.col("file").rle_id(), "line")

    def bad_table(self) -> str:
        """Show the first bad lines."""
        rows = self.bad_lines().head(_SHOWN).iter_rows()
        shown = [f"  {file}: line {line}: {reason}" for file, line, reason in rows]
        more = [f"  and {self.num_bad - _SHOWN} more"] if self.num_bad > _SHOWN else []
        return "\n".join([*shown, *more])


def stage(
    logs: Sequence[Path], config: IngestConfig, folder: Path, progress: Progress
) -> tuple[Staged, list[Source]]:
    """Read the logs, and those of `config.valid` and `config.test`, into `folder`.

    Returns:
        What was read, and the files, to ask at the very end whether one of them changed.

    Raises:
        LogError: A log cannot be read or used, has too many bad lines, or is one without times
            among others that have them.
    """
    staged = Staged()
    parts = [find_sources(paths) for paths in (logs, config.valid, config.test)]
    formats = _formats([source for sources in parts for source in sources], config, progress)
    progress.expect(None, unit="lines")
    for part, sources in enumerate(parts):
        for source in sources:
            blocks = open_log(source.path, formats[source.path], config)
            _stage_file(source.path, blocks, part, config, folder, staged, progress)
            source.require_unchanged()
    _require_few_bad(staged, config.max_bad)
    _require_times_in_all_or_none(staged)
    if staged.num_bad:
        progress.note(f"{staged.num_bad} bad line(s) set aside:\n{staged.bad_table()}")
    return staged, [source for sources in parts for source in sources]


def _formats(
    sources: list[Source], config: IngestConfig, progress: Progress
) -> dict[Path, str | None]:
    """Name the format of each file; None if nothing says it."""
    if config.format != "auto":
        return dict.fromkeys((source.path for source in sources), config.format)
    named = {source.path: FORMATS.get(source.suffix) for source in sources}
    texts = [path for path, name in named.items() if name == "text"]
    return named | text_formats(texts, config, progress.note)


def open_log(path: Path, name: str | None, config: IngestConfig) -> Iterator[RawBlock]:
    """Start to read a file in the format `name`.

    Raises:
        LogError: `name` is None.
    """
    match name:
        case "parquet":
            return read_parquet(path, config)
        case "jsonl":
            return read_jsonl(path, config)
        case "adjacency":
            return read_adjacency(path, config)
        case "inter":
            return read_delimited(path, config, separator="\t", typed_header=True)
        case "tsv":
            return read_delimited(path, config, separator="\t")
        case "csv":
            return read_delimited(path, config, separator=None)
        case _:
            known = ", ".join(FORMATS)
            raise LogError(
                f"{path}: unknown kind of file; known: {known}. Or name it: --set format=csv"
            )


def _stage_file(
    path: Path,
    blocks: Iterator[RawBlock],
    part: int,
    config: IngestConfig,
    folder: Path,
    staged: Staged,
    progress: Progress,
) -> None:
    reader = ValueReader(path, config)
    for raw in blocks:
        block = reader.read(raw)
        staged.num_lines += raw.num_lines
        staged.num_rows += len(raw.table) + len(raw.bad)
        _keep_bad(staged, block.bad, path)
        for name, count in block.dropped.items():
            staged.dropped[name] = staged.dropped.get(name, 0) + count
        progress.advance(raw.num_lines)
        if len(block.table) == 0:
            continue
        staged.timed[path] = "time" in raw.table.columns
        table = block.table.with_columns(given=pl.lit(part, pl.UInt8))
        place = folder / f"{len(staged.pieces):06d}.parquet"
        table.write_parquet(place, compression="lz4")
        types = (table["user"].dtype, table["item"].dtype)
        staged.pieces.append(Piece(place, types, block.kinds))


def _keep_bad(staged: Staged, bad: pl.DataFrame, path: Path) -> None:
    if len(bad) and staged.num_bad < _KEPT:
        rows = bad.head(_KEPT - staged.num_bad)
        staged.bad.append(rows.select(pl.lit(str(path)).alias("file"), "line", "reason"))
    staged.num_bad += len(bad)


def _require_few_bad(staged: Staged, max_bad: float) -> None:
    if staged.num_bad > max_bad * staged.num_rows:
        share = staged.num_bad / staged.num_rows
        raise LogError(
            f"{staged.num_bad} of {staged.num_rows} lines ({share:.2%}) are bad, more than "
            f"--max-bad {max_bad:g} allows:\n{staged.bad_table()}"
        )


def _require_times_in_all_or_none(staged: Staged) -> None:
    without = [str(path) for path, timed in staged.timed.items() if not timed]
    if not 0 < len(without) < len(staged.timed):
        return
    shown = ", ".join(without[:_SHOWN])
    more = f" and {len(without) - _SHOWN} more" if len(without) > _SHOWN else ""
    raise LogError(
        f"{len(without)} of {len(staged.timed)} logs have no times: {shown}{more}; name the column "
        "with --time, add one, or remove the times from the other logs"
    )
