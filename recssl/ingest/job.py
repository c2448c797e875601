"""`recssl ingest`: logs become a data set."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import polars as pl

from recssl.dataset import INTERACTIONS, PART, PARTS, SUPPORT, Dataset, write_dataset
from recssl.errors import LogError
from recssl.ingest.features import add_features
from recssl.ingest.ids import number_rows
from recssl.ingest.pairs import Events, core, merge, sorted_events
from recssl.ingest.splits import split_events
from recssl.ingest.staging import Staged, stage
from recssl.settings.ingest import IngestConfig
from sslcore.config import dump_config
from sslcore.console import Progress
from sslcore.errors import ConfigError
from sslcore.files import new_parents, output_errors, require_new_folder


@dataclass(frozen=True)
class IngestSummary:
    """What came of a log.

    Attributes:
        dataset: The result.
        num_lines: Lines read, headers and blank ones left out.
        num_bad: Bad ones among them.
        dropped: Interactions that each filter took.
        merged: Repeated interactions of a pair that became one, or that came after the end of
            the pair's part.
        num_in_both: Pairs that a given part shares with train; they cannot be recommended.
    """

    dataset: Dataset
    num_lines: int
    num_bad: int
    dropped: dict[str, int]
    merged: int
    num_in_both: int

    def table(self) -> str:
        """Return the summary as lines of text."""
        facts = self.dataset.facts
        counts = facts["counts"]
        head = f"{'':8}{'interactions':>14}{'users':>12}{'items':>12}"
        rows = [head] + [
            f"{part:8}{row['interactions']:>14,}{row['users']:>12,}{row['items']:>12,}"
            for part, row in counts.items()
        ]
        lengths, summary = facts["summary"]["history_lengths"], facts["summary"]
        top = summary["popularity"]["top_shares"]
        rows += [
            (
                f"{self.dataset.num_users:,} users, {self.dataset.num_items:,} items, "
                f"density {summary['density']:.3g}, split {facts['split']['name']}"
            ),
            (
                f"histories in train: median {lengths['median']:g}, mean {lengths['mean']:.1f}, "
                f"longest {lengths['max']:g}"
            ),
            (
                f"the top 1 % of the items hold {top['0.01']:.0%} of train, the top 10 % "
                f"{top['0.1']:.0%}"
            ),
            f"{self.num_lines:,} lines read, {self.num_bad:,} bad, {self.merged:,} repeats merged",
        ]
        taken = [f"{name} {count:,}" for name, count in self.dropped.items() if count]
        if taken:
            rows.append(f"left out: {', '.join(taken)}")
        if self.num_in_both:
            rows.append(
                f"{self.num_in_both:,} pairs of valid or test are also in train: no ranking that "
                "leaves out what was seen can find them"
            )
        return "\n".join(rows)


def ingest(
    logs: Sequence[Path], config: IngestConfig, out: Path, progress: Progress
) -> IngestSummary:
    """Read logs, filter, merge and split them, and write a data set.

    Args:
        logs: Files, folders or patterns.
        config: How.
        out: Folder to write; must not exist, or be empty.
        progress: Shows lines read; already entered.

    Raises:
        LogError: A log cannot be read or used, changes meanwhile, or leaves nothing.
        ConfigError: A setting needs times, and the log has none.
        OutputError: `out` exists, or cannot be written.
    """
    require_new_folder(out, way_out="choose another --out, or remove it")
    with new_parents(out):
        return _ingested(logs, config, out, progress)


def _ingested(
    logs: Sequence[Path], config: IngestConfig, out: Path, progress: Progress
) -> IngestSummary:
    with _draft_folder(out) as folder:
        staged, sources = stage(logs, config, folder, progress)
        _require_rows(staged)
        rows, users, items = number_rows(staged.pieces, with_times=staged.with_times)
        for piece in staged.pieces:
            piece.path.unlink()
    if config.duplicates == "decay" and not staged.with_times:
        raise ConfigError("duplicates=decay needs times, and the log has none; use sum or count")
    events = sorted_events(rows)
    del rows
    kept = core(events, config.min_per_user, config.min_per_item)
    dropped = staged.dropped | {"min_per_user, min_per_item": len(events) - len(kept)}
    if len(kept) == 0:
        raise LogError(_nothing_left(staged.num_rows, staged.num_bad, dropped))
    events = kept
    del kept
    kept_users, kept_items = _present(users, events.user), _present(items, events.item)
    given = (bool(config.valid), bool(config.test))
    split, facts = split_events(events, config.split, given)
    num_events = len(events)
    del events
    merged = [merge(part, config.duplicates, config.half_life_days) for part in split]
    del split
    table = _table(merged, kept_users, kept_items)
    del merged
    for source in sources:
        source.require_unchanged()
    dataset = write_dataset(
        out,
        table,
        add_features(_numbered(kept_users, "user"), "user", config.user_features, progress.note),
        add_features(_numbered(kept_items, "item"), "item", config.item_features, progress.note),
        config=dump_config(config),
        split=facts,
        bad_lines=staged.bad_lines(),
    )
    return IngestSummary(
        dataset,
        staged.num_rows,
        staged.num_bad,
        dropped,
        num_events - len(table),
        _num_in_both(dataset) if any(given) else 0,
    )


@contextmanager
def _draft_folder(out: Path) -> Iterator[Path]:
    """Give a folder beside `out`, where there is room for the result, and remove it."""
    with output_errors(out):
        folder = Path(mkdtemp(prefix=f".{out.name}.", suffix=".draft", dir=out.parent))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _require_rows(staged: Staged) -> None:
    if not staged.pieces:
        raise LogError(_nothing_left(staged.num_rows, staged.num_bad, staged.dropped))


def _nothing_left(num_lines: int, num_bad: int, dropped: dict[str, int]) -> str:
    taken = [f"{name} {count}" for name, count in dropped.items() if count]
    taken += [f"bad lines {num_bad}"] if num_bad else []
    return f"nothing is left of {num_lines} lines; taken by: {', '.join(taken) or 'no filter'}"


def _present(table: pl.DataFrame, numbers: Any) -> pl.DataFrame:
    """Return the rows of users or items that still have interactions, in their old numbers."""
    return table.filter(pl.Series(np.bincount(numbers, minlength=len(table)) > 0))


def _numbered(table: pl.DataFrame, role: str) -> pl.DataFrame:
    numbers = pl.int_range(len(table), dtype=pl.Int32, eager=True).alias(role)
    return pl.DataFrame([numbers, table["id"]])


def _table(parts: list[Events], users: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """Put the parts together, with rows counted among the users and items that are kept."""
    frames = []
    for name, events in zip((*PARTS, SUPPORT), parts, strict=True):
        columns = {
            "user": _renumbered(events.user, users["user"]),
            "item": _renumbered(events.item, items["item"]),
            "weight": events.weight,
            "time": pl.Series(events.time, dtype=pl.Int64)
            if events.time is not None
            else pl.repeat(None, len(events), dtype=pl.Int64, eager=True),
        }
        frames.append(pl.DataFrame(columns).with_columns(part=pl.lit(name, PART)))
    return pl.concat(frames).select(list(INTERACTIONS))


def _renumbered(numbers: Any, kept: pl.Series) -> Any:
    old = kept.to_numpy()
    if old[-1] == len(old) - 1:
        return numbers  # nothing was left out
    new = np.full(int(old[-1]) + 1, -1, np.int32)
    new[old] = np.arange(len(old), dtype=np.int32)
    return new[numbers]


def _num_in_both(dataset: Dataset) -> int:
    seen = dataset.train.astype(bool)
    return sum(int(seen.multiply(part.astype(bool)).nnz) for part in dataset.parts[1:])
