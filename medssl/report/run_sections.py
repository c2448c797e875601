"""Chapters about the pretraining run: its curves, and what its encoder makes of the images."""

from medssl.encoder import unfinished
from medssl.report.inputs import Inputs
from medssl.run_folder import RunFolder
from sslcore.report import writing
from sslcore.report.history import history_drawings, history_points, term_names
from sslcore.report.parts import Drawings, Note, Part, Section

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
_SMOOTH = frozenset({"loss", "grad_norm", "samples_per_second", "wait_share"})
_SHARE = frozenset({"wait_share", "knn"})
_NOT_A_TERM = frozenset({"step", "epoch", "prepare_share", "seconds", *_LOG})
_MOST_TERMS = 6


def training_section(inputs: Inputs) -> Section:
    """Return the curves of the log and of the health checks."""
    parts: list[Part] = []
    if inputs.run and RunFolder(inputs.run).encoder.exists() and (said := unfinished(inputs.run)):
        parts.append(Note(f"{writing.capital(said)}.", "warning"))
    if inputs.log:
        terms = {
            name: (name.replace("_", " ").capitalize(), "Reported by the method.")
            for name in term_names(inputs.log, _NOT_A_TERM, most=_MOST_TERMS)
        }
        drawings = history_drawings(
            inputs.log, {**_LOG, **terms}, "log", smooth=_SMOOTH, share=_SHARE
        )
        parts.append(Drawings(tuple(drawings), "small"))
    else:
        parts.append(Note("log.jsonl of the run is missing or can't be read: no loss curve."))
    health = history_drawings(inputs.health, _HEALTH, "health", share=_SHARE)
    if health:
        parts.append(Drawings(tuple(health), "small"))
    else:
        parts.append(Note("The run holds no health checks (health.jsonl)."))
    return Section("training", "Pretraining", tuple(parts), _lead(inputs))


def _lead(inputs: Inputs) -> str:
    if not inputs.log:
        return ""
    last = inputs.log[-1]
    text = f"{writing.count(last['step'], 'step')}."
    speeds = history_points(inputs.log, "samples_per_second")[1]
    waits = history_points(inputs.log, "wait_share")[1]
    if speeds:
        middle = sorted(speeds)[len(speeds) // 2]
        text += f" Half of them ran at {middle:,.0f} images per second or more."
    if waits:
        share = 100 * sum(waits) / len(waits)
        text += f" {share:.0f} % of the time was spent waiting for data."
    return text
