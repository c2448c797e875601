"""The chapter about the training run: its curves."""

from recssl.health import BUCKETS, RANKS
from recssl.report.inputs import Inputs
from sslcore.plots import to_svg
from sslcore.report import writing
from sslcore.report.history import history_drawings, history_lines, history_points, term_names
from sslcore.report.parts import Drawing, Drawings, Note, Part, Section

_LOG = {
    "loss": ("Loss", "What training minimises; the bold line is a running mean."),
    "lr": ("Learning rate", "Warm-up if there is one, then cosine."),
    "grad_norm": ("Gradient norm", "Before clipping."),
    "samples_per_second": ("Pairs per second", "Speed of training."),
    "wait_share": ("Waiting for data", "Part of each step spent waiting for the sampler."),
}
_RECALL = f"recall@{RANKS}"
_HEALTH = {
    _RECALL: (f"Recall@{RANKS} on valid", "Decides which embeddings are kept."),
    f"ndcg@{RANKS}": (f"NDCG@{RANKS} on valid", "Likewise, with the place in the list."),
    "spread": ("Spread", "How far the embeddings point apart, 0 to 1; near 0 is collapse."),
    "effective_rank": ("Effective rank", "Directions that the embeddings use; near 1 is collapse."),
    "alignment": ("Alignment", "Squared distance of users and their items; lower is closer."),
    "uniformity": ("Uniformity", "Lower means more evenly spread."),
}
_SMOOTH = frozenset({"loss", "grad_norm", "samples_per_second", "wait_share"})
_SHARE = frozenset({"wait_share"})
_NOT_A_TERM = frozenset({"step", "epoch", "prepare_share", "seconds", "terms", *_LOG})
_MOST_TERMS = 6


def training_section(inputs: Inputs) -> Section:
    """Return the curves of the log and of the health checks."""
    parts: list[Part] = []
    health = _health(inputs)
    if health:
        parts.append(Drawings(tuple(health), "small"))
    else:
        parts.append(Note("The run holds no health checks (health.jsonl)."))
    if inputs.log:
        terms = {
            name: (name.replace("_", " ").capitalize(), "Reported by the method.")
            for name in term_names(inputs.log, _NOT_A_TERM, most=_MOST_TERMS)
        }
        names = {**_LOG, **terms}
        drawings = history_drawings(inputs.log, names, "log", smooth=_SMOOTH, share=_SHARE)
        parts.append(Drawings(tuple(drawings), "small"))
    else:
        parts.append(Note("log.jsonl of the run is missing or can't be read: no loss curve."))
    return Section("training", "Training", tuple(parts), _lead(inputs))


def _health(inputs: Inputs) -> list[Drawing]:
    drawings = history_drawings(inputs.health, _HEALTH, "health")
    lines = {name: history_points(inputs.health, f"{_RECALL}_{name}") for name in BUCKETS}
    found = {f"{name} items": points for name, points in lines.items() if points[1]}
    if found:
        title = f"Recall@{RANKS} by popularity"
        figure = history_lines(found, title=title)
        svg = to_svg(figure, name="health-buckets", alt=f"{title} over the steps.")
        caption = "Each third of the interactions, by the popularity of their item."
        drawings.insert(min(2, len(drawings)), Drawing(svg, caption))
    return drawings


def _lead(inputs: Inputs) -> str:
    if not inputs.log:
        return ""
    text = f"{writing.count(inputs.log[-1]['step'], 'step')}."
    speeds = history_points(inputs.log, "samples_per_second")[1]
    if speeds:
        middle = sorted(speeds)[len(speeds) // 2]
        text += f" Half of them ran at {middle:,.0f} pairs per second or more."
    if inputs.embeddings:
        text += f" The embeddings are those of step {inputs.embeddings.info.step:,}"
        text += ", the best on valid." if history_points(inputs.health, _RECALL)[1] else "."
    return text
