"""Chapters about what was learnt from few labels."""

from typing import Literal

import polars as pl

from medssl.report import figures, tables, words
from medssl.report.curves import calibration_bins, mean_roc
from medssl.report.inputs import Inputs
from medssl.report.outline_section import outline_section
from medssl.report.results import SCRATCH, Results
from sslcore.plots import to_svg
from sslcore.report import writing
from sslcore.report.parts import Drawing, Drawings, Note, NoteTone, Part, Points, Section, Tables

_CURVE_METRICS = ("auroc", "balanced_accuracy", "average_precision", "dice")
_NARROW = 3  # classes whose confusion matrices fit side by side
_NO_PREDICTIONS = (
    "These figures need predictions.parquet, which medssl finetune writes beside metrics.json;"
    " it is missing or can't be read."
)


def result_sections(inputs: Inputs) -> list[Section]:
    """Return the chapters; one sentence for a run that was not fine-tuned yet."""
    if not inputs.results:
        return []
    if inputs.results.task == "segmentation":
        return [
            _few_labels(inputs.results),
            _numbers(inputs.results),
            outline_section(inputs.folder, inputs.results.classes),
            _leakage(inputs.results),
        ]
    return [
        _few_labels(inputs.results),
        _numbers(inputs.results),
        _curves(inputs.results, inputs.predictions),
        _confusion(inputs.results),
        _leakage(inputs.results),
    ]


def _few_labels(results: Results) -> Section:
    main = words.MODELS.get(results.main_model, results.main_model)
    found = {name for item in results.results for name in item.metrics}
    drawings = [
        Drawing(
            to_svg(figures.few_label_curves(results, metric), name=f"few-{metric}", alt=alt),
            "Dots are means over label draws, thin bars 95 % intervals over test patients.",
        )
        for metric in _CURVE_METRICS
        if metric in found
        for alt in [f"{words.METRICS[metric]} of each model against the number of labels."]
    ]
    if any(results.against_scratch(labels, results.metric) for labels in results.amounts):
        figure = figures.differences(results, results.metric)
        name = words.METRICS[results.metric]
        alt = f"Difference in {name} between pretrained and from scratch, per amount of labels."
        caption = "Right of the line, pretraining helped. A bar across the line may be chance."
        drawings.append(Drawing(to_svg(figure, name="ahead", alt=alt), caption))
    parts: list[Part] = [Drawings(tuple(drawings))]
    if SCRATCH not in results.models:
        parts.append(Note("These results hold no model that was trained from scratch."))
    rival = "trained on the labels alone" if results.mode == "distilled" else "without pretraining"
    lead = f"{main}, against the same network {rival}, on the same labels."
    return Section("few-labels", "Few labels", tuple(parts), lead)


def _numbers(results: Results) -> Section:
    comparisons = tables.all_comparisons(results)
    draws = max(item.draws for item in results.results)
    known = (results.interval.note, results.decision, results.validation, *results.notes)
    points = Points(tuple(f"{writing.capital(text.rstrip('.'))}." for text in known if text))
    parts: list[Part] = [tables.all_numbers(results)]
    parts += [comparisons] if comparisons else []
    parts += [points] if points.items else []
    lead = f"Labels were drawn {writing.count(draws, 'time')} per amount. Higher is better" + (
        "." if results.task == "segmentation" else ", except for the calibration error."
    )
    return Section("numbers", "All numbers", tuple(parts), lead)


def _curves(results: Results, predictions: pl.DataFrame | None) -> Section:
    title = "ROC and calibration"
    shown = [model for model in (results.main_model, SCRATCH) if model in results.models]
    kept = predictions.filter(pl.col("model").is_in(shown)) if predictions is not None else None
    if kept is None or kept.is_empty():
        return Section("curves", title, (Note(_NO_PREDICTIONS),))
    roc, bins = [], []
    for number, labels in enumerate(_spread(results.amounts)):
        tables_by_model = {
            model: kept.filter((pl.col("model") == model) & (pl.col("labels") == labels))
            for model in shown
        }
        filled = {model: table for model, table in tables_by_model.items() if len(table)}
        if filled:
            head = writing.capital(words.amount(labels))
            roc.extend(_roc_drawing(results, filled, head, f"roc-{number}"))
            bins.append(_calibration_drawing(results, filled, head, f"calibration-{number}"))
    parts: list[Part] = [Drawings(tuple(drawings), "small") for drawings in (roc, bins) if drawings]
    if len(results.classes) > 2:
        parts += _class_roc(results, kept)
    if not parts:
        parts.append(Note(_NO_PREDICTIONS))
    return Section("curves", title, tuple(parts), _curves_lead(results))


def _curves_lead(results: Results) -> str:
    if len(results.classes) == 2:
        positive = results.classes[1]
        return (
            f"Positive is “{positive}”. Above: how many of its images are found, for how many"
            " false alarms. Below: whether a claimed probability can be taken at its word."
        )
    return (
        "Above: each class against the rest, averaged. Below: whether the probability that the"
        " model gives to its decision can be taken at its word."
    )


def _roc_drawing(
    results: Results, predictions: dict[str, pl.DataFrame], head: str, name: str
) -> list[Drawing]:
    curves = {model: mean_roc(table, results.classes) for model, table in predictions.items()}
    found = {model: curve for model, curve in curves.items() if curve}
    if not found:
        return []
    alt = f"ROC curves with {head.lower()}."
    caption = "Mean over label draws; the band is their range."
    return [Drawing(to_svg(figures.roc_curves(found, head), name=name, alt=alt), caption)]


def _calibration_drawing(
    results: Results, predictions: dict[str, pl.DataFrame], head: str, name: str
) -> Drawing:
    bins = {model: calibration_bins(table, results.classes) for model, table in predictions.items()}
    alt = f"Observed share against claimed probability with {head.lower()}."
    caption = "The size of a mark is its share of the images."
    return Drawing(to_svg(figures.reliability(bins, head), name=name, alt=alt), caption)


def _class_roc(results: Results, predictions: pl.DataFrame) -> list[Part]:
    labels = results.amounts[-1]
    chosen = predictions.filter(
        (pl.col("model") == results.main_model) & (pl.col("labels") == labels)
    )
    curves = {name: mean_roc(chosen, results.classes, name) for name in results.classes[:8]}
    found = {name: curve for name, curve in curves.items() if curve}
    if not found:
        return []
    title = f"Each class, {words.amount(labels)}"
    svg = to_svg(figures.class_roc_curves(found, title), name="roc-classes", alt=f"ROC: {title}.")
    caption = f"{words.MODELS.get(results.main_model, '')}: each class against all others."
    return [Drawings((Drawing(svg, caption),), "small")]


def _confusion(results: Results) -> Section:
    items = []
    for labels in _spread(results.amounts):
        for model in (results.main_model, SCRATCH):
            found = results.find(labels, model)
            if found and found.confusion and len(found.confusion) == len(results.classes):
                caption = f"{words.MODELS.get(model, model)}, {words.amount(labels)}"
                matrix = _mean_over_draws(found.confusion, results.data.test.images)
                shares = found.confusion_share
                items.append(tables.confusion(results.classes, matrix, shares, caption))
    if not items:
        note = Note("These results hold no confusion matrix.")
        return Section("confusion", "Confusion matrix", (note,))
    lead = (
        "Rows are the truth, columns the decision; right is the diagonal. Images, as a mean over"
        " label draws, and below their share of the row with its 95 % interval."
    )
    size: Literal["medium", "large"] = "medium" if len(results.classes) <= _NARROW else "large"
    return Section("confusion", "Confusion matrix", (Tables(tuple(items), size),), lead)


def _mean_over_draws(matrix: list[list[float]], images: int) -> list[list[float]]:
    """Turn a sum over draws into their mean: the matrix of one draw adds up to the test images."""
    draws = sum(map(sum, matrix)) / images if images else 1
    return [[number / (draws or 1) for number in row] for row in matrix]


def _leakage(results: Results) -> Section:
    title, lead = "Leakage", "Whether anything of the test images was there to be learnt."
    leakage = results.leakage
    sizes = tables.split_sizes(results)
    if not leakage:
        note = Note("These results hold no leakage check.")
        return Section("leakage", title, (note, sizes), lead)
    split = {
        "patient": "The split was drawn by patient.",
        "study": "The split was drawn by study.",
        "given": "The split is the one that the data brought.",
        "image": "The split was drawn by image.",
    }.get(results.split, "")
    unsafe = leakage.patients_across_splits > 0 or results.data.test.patients is None
    unsafe = unsafe or leakage.conflicting_duplicates > 0
    safe: NoteTone = "neutral" if leakage.test_seen_in_pretraining else "good"
    note = Note(f"{split} {leakage.note}".strip(), "warning" if unsafe else safe)
    return Section("leakage", title, (note, sizes), lead)


def _spread(amounts: list[str]) -> list[str]:
    """Keep at most three: fewest, middle, most."""
    return amounts if len(amounts) <= 3 else [amounts[0], amounts[len(amounts) // 2], amounts[-1]]
