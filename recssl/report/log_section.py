"""The chapter about the log: how much there is, how popular items are, how long histories."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl

from recssl.dataset import PARTS, Dataset
from recssl.matrices import count_entries, count_users
from recssl.report import words
from recssl.report.inputs import Inputs
from recssl.report.log_figures import (
    concentration_curve,
    history_lengths,
    over_time,
    popularity_curve,
)
from sslcore.plots import to_svg
from sslcore.report import writing
from sslcore.report.parts import Cell, Drawing, Drawings, Note, Part, Section, Table, Tables

_SPREAD = (
    *(("min", "Least"), ("q25", "A quarter below"), ("median", "Half below")),
    *(("q75", "Three quarters below"), ("q99", "99 % below"), ("max", "Most"), ("mean", "Mean")),
)
_SPANS = 40
_MOST_REASONS = 6


def log_section(inputs: Inputs) -> Section:
    """Return what the log holds and how it was split."""
    title = "The log"
    dataset = inputs.dataset
    if dataset is None:
        return Section("log", title, (Note(inputs.missing["dataset"]),))
    parts: list[Part] = [Drawings(tuple(_drawings(dataset)))]
    tables = [_counts(dataset), *_tables(dataset)]
    bad = _bad_lines(dataset)
    if isinstance(bad, Table):
        parts.append(Tables((*tables, bad), "medium"))
    else:
        parts += [Tables(tuple(tables), "medium"), bad]
    return Section("log", title, tuple(parts), _lead(dataset))


def _lead(dataset: Dataset) -> str:
    summary, counts = dataset.facts["summary"], dataset.facts["counts"]
    total = sum(part["interactions"] for part in counts.values())
    top = summary["popularity"]["top_shares"]
    return (
        f"{writing.count(total, 'interaction')} of {writing.count(dataset.num_users, 'user')} with"
        f" {writing.count(dataset.num_items, 'item')}: {100 * summary['density']:.3g} % of what"
        f" could be. In train, the most popular 1 % of the items hold"
        f" {writing.percent(top['0.01'])} of the interactions, 10 % hold"
        f" {writing.percent(top['0.1'])} (Gini {summary['popularity']['gini']:.2f})."
        f" Split {_split(dataset.facts.get('split', {}))}."
    )


def _split(split: dict[str, Any]) -> str:
    name = str(split.get("name", ""))
    text = words.SPLITS.get(name, name or "as given")
    if not {"valid_from", "test_from"} <= split.keys():
        return text
    valid, test = (
        f"{datetime.fromtimestamp(split[key] / 1e6, UTC):%d %B %Y}".lstrip("0")
        for key in ("valid_from", "test_from")
    )
    return f"{text} (valid from {valid}, test from {test})"


def _drawings(dataset: Dataset) -> list[Drawing]:
    popularity = count_users(dataset.train)
    lengths = count_entries(dataset.train)
    made = [
        (
            *("popularity-curve", popularity_curve(popularity)),
            *("Interactions of the items in train, on logarithmic axes.", "Both axes logarithmic."),
        ),
        (
            *("concentration", concentration_curve(popularity)),
            "Share of the interactions that the most popular items hold.",
            "The dotted line: if all items were equally popular.",
        ),
        (
            *("history-lengths", history_lengths(lengths)),
            *("How many users have which length of history in train.", "In train."),
        ),
    ]
    drawings = [
        Drawing(to_svg(figure, name=name, alt=alt), caption) for name, figure, alt, caption in made
    ]
    if dataset.has_times:
        starts, counts = _spans(dataset)
        svg = to_svg(over_time(starts, counts), name="over-time", alt="Interactions over time.")
        caption = "When the interactions of each part happened."
        drawings.append(Drawing(svg, caption))
    return drawings


def _spans(dataset: Dataset) -> tuple[Any, dict[str, Any]]:
    """Count the interactions of each part in equal spans of time."""
    edge = dataset.interactions.select(low=pl.col("time").min(), high=pl.col("time").max())
    low, high = edge.collect().row(0)
    width = max(1, -(-(high + 1 - low) // _SPANS))
    table = (
        dataset.interactions.group_by("part", span=(pl.col("time") - low) // width).len().collect()
    )
    counts = {}
    for part in PARTS:
        rows = table.filter(pl.col("part") == part)
        numbers = np.zeros(_SPANS, np.int64)
        numbers[rows["span"].to_numpy()] = rows["len"].to_numpy()
        counts[part] = numbers
    return (low + width * np.arange(_SPANS + 1)).astype("datetime64[us]"), counts


def _counts(dataset: Dataset) -> Table:
    counts = dataset.facts["counts"]
    rows = tuple(
        (
            Cell(writing.capital(part)),
            *(Cell(f"{row[name]:,}") for name in ("interactions", "users", "items")),
        )
        for part, row in counts.items()
    )
    return Table("Parts of the log", ("Part", "Interactions", "Users", "Items"), (("", rows),))


def _tables(dataset: Dataset) -> list[Table]:
    summary = dataset.facts["summary"]
    columns = (
        (summary["history_lengths"], "Length of history"),
        (summary["popularity"]["interactions_per_item"], "Popularity of items"),
    )
    if not all(values for values, _ in columns):
        return []
    rows = tuple(
        (Cell(label), *(Cell(f"{values[name]:,.4g}") for values, _ in columns))
        for name, label in _SPREAD
    )
    head = ("", *(name for _, name in columns))
    spread = Table("Interactions in train, of users and of items", head, (("", rows),))
    top = summary["popularity"]["top_shares"]
    shares = tuple(
        (Cell(f"{100 * float(part):g} %"), Cell(writing.percent(held)))
        for part, held in top.items()
    )
    held_by = Table("What popular items hold", ("Of the items", "Hold in train"), (("", shares),))
    return [spread, held_by]


def _bad_lines(dataset: Dataset) -> Table | Note:
    try:
        bad = pl.read_parquet(dataset.folder / "bad_lines.parquet", glob=False)
    except (OSError, pl.exceptions.PolarsError):
        return Note("The list of bad lines (bad_lines.parquet) is missing or can't be read.")
    if bad.is_empty():
        return Note("Every line of the log could be read.", "good")
    counts = bad.group_by("reason").len().sort(["len", "reason"], descending=[True, False])
    pairs = [(str(reason), int(number)) for reason, number in counts.iter_rows()]
    rows = [(Cell(reason), Cell(f"{number:,}")) for reason, number in pairs[:_MOST_REASONS]]
    rest = sum(number for _, number in pairs[_MOST_REASONS:])
    rows += [(Cell("other reasons"), Cell(f"{rest:,}"))] if rest else []
    caption = f"{writing.count(len(bad), 'line')} of the log set aside"
    return Table(caption, ("Reason", "Lines"), (("", tuple(rows)),))
