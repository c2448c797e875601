"""Tables of a report."""

from collections.abc import Sequence

import polars as pl

from medssl.report import words
from medssl.report.results import Part, Results, Shares
from sslcore.report import writing
from sslcore.report.comparing import difference_cell, number_cell
from sslcore.report.parts import Cell, Table

_LOWER_IS_BETTER = {"calibration_error"}
_MOST_VALUES = 5


def all_numbers(results: Results) -> Table:
    """Return every metric of every model, grouped by the amount of labels; the best are strong."""
    metrics = _metrics(results)
    groups = []
    for labels in results.amounts:
        models = [model for model in results.models if results.find(labels, model)]
        best = {metric: _best(results, labels, models, metric) for metric in metrics}
        rows = tuple(
            (
                Cell(words.MODELS.get(model, model)),
                *(
                    number_cell(
                        results.measure(labels, model, metric), strong=best[metric] == model
                    )
                    for metric in metrics
                ),
            )
            for model in models
        )
        groups.append((_amount(results, labels), rows))
    return Table(
        caption="Mean over label draws, with its 95 % interval; the best of each column in bold",
        head=("Model", *(_title(name) for name in metrics)),
        groups=tuple(groups),
    )


def _metrics(results: Results) -> list[str]:
    """Return the metrics of any result: those with a name of their own, then those of classes."""
    found = list(dict.fromkeys(name for item in results.results for name in item.metrics))
    of_classes = [name for name in found if name not in words.METRICS]
    own = [name for name in words.METRICS if name in found]
    return own + (of_classes if len(of_classes) > 1 else [])


def _title(metric: str) -> str:
    """Return the name of a metric, or of the class that it is of."""
    kind, _, name = metric.partition(" ")
    return words.METRICS.get(metric) or f"{words.METRICS.get(kind, kind)}, {name}"


def all_comparisons(results: Results) -> Table | None:
    """Return every difference between models with its interval, a column per amount of labels."""
    found = {
        (item.metric, item.model, item.against, item.labels): item.difference
        for item in results.comparisons
    }
    groups = []
    for metric in dict.fromkeys(key[0] for key in found):
        pairs = dict.fromkeys(key[1:3] for key in found if key[0] == metric)
        rows = tuple(
            (
                Cell(f"{words.MODELS.get(model, model)} {writing.MINUS} {_in_sentence(against)}"),
                *(
                    difference_cell(found.get((metric, model, against, labels)))
                    for labels in results.amounts
                ),
            )
            for model, against in pairs
        )
        groups.append((words.METRICS.get(metric, metric), rows))
    if not groups:
        return None
    return Table(
        caption="Differences, measured on the same resamples of the test patients; bold where the"
        " interval leaves out 0",
        head=(
            f"First {writing.MINUS} second",
            *(writing.capital(words.amount(item)) for item in results.amounts),
        ),
        groups=tuple(groups),
    )


def confusion(
    classes: Sequence[str],
    matrix: Sequence[Sequence[float]],
    shares: Shares | None,
    caption: str,
) -> Table:
    """Return a confusion matrix in images, shaded by the share of the true class.

    `shares` brings the intervals; older results have none.
    """
    rows = []
    for truth, (name, counts) in enumerate(zip(classes, matrix, strict=True)):
        total = sum(counts) or 1
        cells = [
            Cell(
                f"{number:,.0f}", _share(number / total, shares, truth, guess), share=number / total
            )
            for guess, number in enumerate(counts)
        ]
        rows.append((Cell(name), *cells))
    return Table(caption, ("Truth ↓ decision →", *classes), (("", tuple(rows)),))


def _share(value: float, shares: Shares | None, truth: int, guess: int) -> str:
    if not shares or shares.low is None or shares.high is None:
        return writing.percent(value)
    low, high = shares.low[truth][guess], shares.high[truth][guess]
    return f"{writing.percent(value)} ({100 * low:.0f} to {100 * high:.0f})"


def split_sizes(results: Results) -> Table:
    """Return images, patients and classes of each part of the split."""
    data = results.data
    is_outlined = results.task == "segmentation"
    classes = () if is_outlined else results.classes
    rows = tuple(
        (Cell(name), *([Cell(f"{part.cases:,}")] if is_outlined else []), *_sizes(part, classes))
        for name, part in (
            ("Training", data.train),
            ("Validation", data.val),
            ("Test", data.test),
        )
    )
    head = ("Part", *(["Cases"] if is_outlined else []), "Images", "Patients", *classes)
    return Table("The split that the results stand on", head, (("", rows),))


def value_counts(rows: pl.DataFrame, column: str, caption: str, head: str) -> Table | None:
    """Return how many rows have each value of `column`, the most frequent first."""
    counts = (
        rows.drop_nulls(column)
        .group_by(column)
        .len()
        .sort(["len", column], descending=[True, False])
    )
    if counts.is_empty():
        return None
    pairs = [(str(value), int(number)) for value, number in counts.rows()]
    most = _MOST_VALUES if len(pairs) > _MOST_VALUES + 1 else len(pairs)
    cells = [(Cell(value), Cell(f"{number:,}")) for value, number in pairs[:most]]
    if len(pairs) > most:
        rest = sum(number for _, number in pairs[most:])
        cells.append((Cell(f"{len(pairs) - most} others"), Cell(f"{rest:,}")))
    missing = rows[column].null_count()
    if missing:
        cells.append((Cell("not known"), Cell(f"{missing:,}")))
    return Table(caption, (head, "Images"), (("", tuple(cells)),))


def rejected_by_reason(rejected: pl.DataFrame) -> Table:
    """Return how many files were set aside, by reason; no paths."""
    counts = rejected.group_by("reason").len().sort(["len", "reason"], descending=[True, False])
    known = {reason.value: meaning for reason, meaning in words.REASONS.items()}
    rows = tuple(
        (Cell(str(reason).replace("_", " ")), Cell(f"{number:,}"), Cell(known.get(reason, "")))
        for reason, number in counts.iter_rows()
    )
    return Table("Files set aside", ("Reason", "Files", "Meaning"), (("", rows),), numeric=False)


def _amount(results: Results, labels: str) -> str:
    number = max(item.num_labels for item in results.results if item.labels == labels)
    unit = "case" if results.task == "segmentation" else "image"
    return f"{writing.capital(words.amount(labels))} ({writing.count(number, unit)})"


def _in_sentence(model: str) -> str:
    name = words.MODELS.get(model, model)
    return name[0].lower() + name[1:]


def _best(results: Results, labels: str, models: list[str], metric: str) -> str | None:
    found = {model: results.measure(labels, model, metric) for model in models}
    values = {model: item.value for model, item in found.items() if item and item.value is not None}
    if not values:
        return None
    choose = min if metric in _LOWER_IS_BETTER else max
    return choose(values, key=values.__getitem__)


def _sizes(part: Part, classes: Sequence[str]) -> list[Cell]:
    patients = writing.DASH if part.patients is None else f"{part.patients:,}"
    numbers = [f"{part.per_class.get(name, 0):,}" for name in classes]
    return [Cell(f"{part.images:,}"), Cell(patients), *map(Cell, numbers)]
