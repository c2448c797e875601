"""Chapters about the pretraining run: its curves, and what its encoder makes of the images."""

from typing import Any

from medssl.report import words
from medssl.report.inputs import Inputs
from medssl.report.parts import Drawing, Drawings, Note, Part, Section
from medssl.report.run_figures import history_curve
from sslcore.plots import to_svg

_LOG = {
    "loss": ("Loss", "What pretraining minimises; the bold line is a running mean."),
    "lr": ("Learning rate", "Warm-up, then cosine."),
    "grad_norm": ("Gradient norm", "Before clipping."),
    "samples_per_second": ("Images per second", "Speed of training."),
    "wait_share": ("Waiting for data", "Part of each step spent waiting for the loader."),
}
_HEALTH = {
    "spread": ("Spread", "How far the embeddings point apart, 0 to 1; near 0 is collapse."),
    "effective_rank": ("Effective rank", "Directions that the embeddings use; near 1 is collapse."),
    "alignment": ("Alignment", "Squared distance of two views of an image; lower is closer."),
    "uniformity": ("Uniformity", "Lower means more evenly spread."),
    "knn": ("Nearest-neighbour accuracy", "Balanced, of the labels, by the nearest other images."),
}
_SMOOTH = {"loss", "grad_norm", "samples_per_second", "wait_share"}
_NOT_A_TERM = {"step", "epoch", "prepare_share", "seconds", *_LOG}
_MOST_TERMS = 6


def training_section(inputs: Inputs) -> Section:
    """Return the curves of the log and of the health checks."""
    parts: list[Part] = []
    if inputs.log:
        terms = {
            name: (name.replace("_", " ").capitalize(), "Reported by the method.")
            for name in _terms(inputs.log)
        }
        drawings = _drawings(inputs.log, {**_LOG, **terms}, "log")
        parts.append(Drawings(tuple(drawings), "small"))
    else:
        parts.append(Note("log.jsonl of the run is missing or can't be read: no loss curve."))
    health = _drawings(inputs.health, _HEALTH, "health")
    if health:
        parts.append(Drawings(tuple(health), "small"))
    else:
        parts.append(Note("The run holds no health checks (health.jsonl)."))
    return Section("training", "Pretraining", tuple(parts), _lead(inputs))


def _lead(inputs: Inputs) -> str:
    if not inputs.log:
        return ""
    last = inputs.log[-1]
    text = f"{words.count(last['step'], 'step')}."
    speeds = _values(inputs.log, "samples_per_second")
    waits = _values(inputs.log, "wait_share")
    if speeds:
        middle = sorted(speeds)[len(speeds) // 2]
        text += f" Half of them ran at {middle:,.0f} images per second or more."
    if waits:
        share = 100 * sum(waits) / len(waits)
        text += f" {share:.0f} % of the time was spent waiting for data."
    return text


def _drawings(
    records: list[dict[str, Any]], names: dict[str, tuple[str, str]], prefix: str
) -> list[Drawing]:
    drawings = []
    for name, (title, caption) in names.items():
        points = [(item["step"], _flat(item).get(name)) for item in records]
        kept = [(step, float(value)) for step, value in points if isinstance(value, int | float)]
        if not kept:
            continue
        steps, values = zip(*kept, strict=True)
        figure = history_curve(
            steps, values, title=title, smooth=name in _SMOOTH, share=name in {"wait_share", "knn"}
        )
        alt = f"{title} over the steps: from {values[0]:.4g} to {values[-1]:.4g}."
        drawings.append(Drawing(to_svg(figure, name=f"{prefix}-{name}", alt=alt), caption))
    return drawings


def _terms(records: list[dict[str, Any]]) -> list[str]:
    names = dict.fromkeys(name for record in (records[0], records[-1]) for name in _flat(record))
    found = [name for name in names if name not in _NOT_A_TERM]
    return found[:_MOST_TERMS]


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    nested = record.get("terms")
    return {**record, **nested} if isinstance(nested, dict) else record


def _values(records: list[dict[str, Any]], name: str) -> list[float]:
    found = (record.get(name) for record in records)
    return [float(value) for value in found if isinstance(value, int | float)]
