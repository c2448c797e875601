"""Writes docs/recommender_methods.md: the names of `recssl train --method`, and what they reached.

Run: python -m tools.recommender_page
"""

import json
from collections import Counter
from collections.abc import Iterable
from statistics import mean
from typing import Any, NamedTuple

from recssl.settings.methods import METHODS
from tools.methods_page import RESULTS, ROOT

PAGE = ROOT / "docs" / "recommender_methods.md"
METRICS = ("recall@20", "ndcg@20")
DATA = {"gowalla": "Gowalla", "ml100k": "MovieLens-100K"}


class About(NamedTuple):
    """One method, for the reader who chooses."""

    what: str
    choose: str
    source: str


ABOUT = {
    "bpr": About(
        "the liked item above one drawn item",
        "as the baseline of papers; many cheap steps",
        "Rendle et al., UAI 2009, arXiv:1205.2618",
    ),
    "infonce": About(
        "the liked item among those of the batch, logQ-corrected if asked: the default",
        "first; with in-batch negatives the best per minute",
        "Wu et al., TOIS 2024, arXiv:2201.02327; the correction: Yi et al., RecSys 2019",
    ),
    "bsl": About(
        "softmax on the positive side too",
        "where the log is noisy: clicks that are no likes",
        "Wu et al., ICDE 2024, arXiv:2312.12882",
    ),
    "triplet": About(
        "distances with a margin; loss and miners of pytorch-metric-learning",
        "for distances that mean something by themselves",
        "Schroff et al., CVPR 2015, arXiv:1503.03832",
    ),
    "directau": About(
        "users near their items, both spread evenly; no negatives",
        "where drawing negatives is in doubt",
        "Wang et al., KDD 2022, arXiv:2206.12811",
    ),
    "sgl": About(
        "BPR, and two views of the graph with edges left out",
        "LightGCN on sparse logs, with time",
        "Wu et al., SIGIR 2021, arXiv:2010.10783",
    ),
    "simgcl": About(
        "BPR, and two views with noise on the embeddings",
        "as SGL, at less cost per step",
        "Yu et al., SIGIR 2022, arXiv:2112.08679",
    ),
    "xsimgcl": About(
        "as SimGCL, between layers of one noisy pass",
        "as SimGCL, at a third of its cost",
        "Yu et al., TKDE 2023, arXiv:2209.02544",
    ),
    "lightgcl": About(
        "BPR, and a view of the graph rebuilt from an SVD",
        "as SGL, with a global view instead of a random one",
        "Cai et al., ICLR 2023, arXiv:2302.08191",
    ),
    "ncl": About(
        "BPR, neighbours in structure and prototypes in meaning",
        "where users form groups",
        "Lin et al., WWW 2022, arXiv:2202.06200",
    ),
    "buir": About(
        "users and items predict each other's slow copy; no negatives",
        "where drawing negatives is in doubt",
        "Lee et al., SIGIR 2021, arXiv:2105.06323",
    ),
    "selfcf": About(
        "as BUIR, the copy being a perturbed output",
        "as BUIR, with half its time per step",
        "Zhou et al., TORS 2023, arXiv:2107.03019",
    ),
}
_CORE = "a method of the core on two views, beside the ranking loss"
_HEAD = """# Methods of the recommender

Made by `python -m tools.recommender_page`. `recssl train --method NAME` takes the names below; what
a name stands for is in `recssl/settings/methods.py`, and every part can be set by itself: `--set
ranking.name=...`, `contrast.name=...`, `encoder.name=mf`, `sampling.negatives=...`. What the papers
of nine of them took stands in `configs/papers/rec/`, with the source and what differs here.

Recall@20 / NDCG@20 on the test part, all items ranked, seen ones masked
(`benchmarks/rec_methods.py`): every method with its defaults and the same seconds of one core, the
best of ten checks kept by the validation part, nothing chosen by the test part. Encoders start from
an SVD of the graph, and some are read out along it, so they recommend well before the first step: a
method learns what it has beyond the row of its start, `untrained`. So little time favours cheap
steps: it does not say which method is best. Those on the graph take some hundred steps of LightGCN
in it, and papers some ten thousand.

"""

_Runs = list[dict[str, Any]]


_ADDED = """
What the self-supervised part adds: beside each the same ranking loss and encoder alone, in as many
steps, which cost less. On the graph it adds a tenth. The methods of the core add nothing that can
be measured here to a softmax on an embedding table, whose gradient is far larger than theirs; nor
did `moco` with ten and fifty times the weight (`contrast_weight`) on Gowalla's validation part.
They are here to be set beside other losses, encoders and views.

"""


def page() -> str:
    """Return the page."""
    found = {name: _recorded(name) for name in DATA}
    titles = [
        f"{DATA[name]}, {each['seconds_of_one_core']:g} s, {_seeds(each['runs'])}"
        for name, each in found.items()
    ]
    rows = [
        f"| method | what | choose it | source | start | {' | '.join(titles)} |\n",
        f"|---|---|---|---|---|{'---|' * len(titles)}\n",
    ]
    starts: dict[str, None] = {}
    for method in METHODS:
        about = ABOUT.get(method, About(_CORE, "to compare", "see [methods.md](methods.md)"))
        start = next((s for each in found.values() if (s := _start(each["runs"], method))), "")
        starts[start] = None
        scores = [_score(each["runs"], method) for each in found.values()]
        cells = (*about, start.removeprefix("untrained "), *scores)
        rows.append(f"| `{method}` | {' | '.join(cells)} |\n")
    for start in filter(None, starts):
        scores = [_score(each["runs"], start) for each in found.values()]
        rows.append(f"| {start} | a start | | | | {' | '.join(scores)} |\n")
    for title, name in (("popularity", "popularity"), ("item kNN", "item_knn")):
        scores = [_pair([each["baselines"][name][metric]["value"] for metric in METRICS])
                  for each in found.values()]  # fmt: skip
        rows.append(f"| {title} | a baseline | | | | {' | '.join(scores)} |\n")
    parts = (
        _HEAD,
        *rows,
        _doubtful(found),
        _added(found),
        _tail(found["ml100k"], found["gowalla"]),
    )
    return "".join(parts)


def _added(found: dict[str, dict[str, Any]]) -> str:
    """Say what each self-supervised part adds to its ranking loss in as many steps."""
    rows = []
    for method in METHODS:
        cells = [_beside_alone(each["runs"], method) for each in found.values()]
        if any(cells):
            rows.append(f"| `{method}` | {' | '.join(cells)} |\n")
    titles = " | ".join(DATA[name] for name in found)
    return _ADDED + f"| method | {titles} |\n|---|{'---|' * len(found)}\n" + "".join(rows)


def _beside_alone(runs: _Runs, method: str) -> str:
    kept = [row for row in runs if row["method"] == method and "without_contrast" in row]
    if not kept:
        return ""
    alone = [mean(row["without_contrast"][name]["value"] for row in kept) for name in METRICS]
    steps = round(mean(row["steps"] for row in kept))
    return f"{_pair(_means(kept, method))}, alone {_pair(alone)}, {steps:,} steps"


def _doubtful(found: dict[str, dict[str, Any]]) -> str:
    """Say of each method that is not above its start what it reached instead."""
    lines = []
    for name, each in found.items():
        for method in METHODS:
            start = _start(each["runs"], method)
            if not start:
                continue
            got, had = _means(each["runs"], method), _means(each["runs"], start)
            above = [a > b for a, b in zip(got, had, strict=True)]
            if not all(above):
                what = "above its start in one of the two" if any(above) else "not above its start"
                lines.append(
                    f"- `{method}` on {DATA[name]} is {what}: {_pair(got)}, from {_pair(had)}."
                    f"{_kept_start(each['runs'], method)}"
                )
    if not lines:
        return "\nEvery method is above its start.\n"
    return "\nWhat is not above its start:\n\n" + "\n".join(lines) + "\n"


def _kept_start(runs: _Runs, method: str) -> str:
    """Say in how many runs no check was better than the start."""
    steps = [row["best_step"] for row in runs if row["method"] == method and "best_step" in row]
    count = steps.count(0)
    return f" In {count} of {len(steps)} runs the validation part chose the start." if count else ""


def _tail(small: dict[str, Any], large: dict[str, Any]) -> str:
    users = small["protocol"]["users"]
    interval = _interval(small["baselines"]["popularity"]["recall@20"])
    return f"""
Of MovieLens-100K the last item of each of {users} users is tested, and the 95 % intervals are wide
(popularity: Recall@20 {interval}): a hundredth says nothing there. Gowalla decides, with
{large["protocol"]["users"]:,} users.
"""


def _recorded(name: str) -> dict[str, Any]:
    text = (RESULTS / f"rec_methods_{name}.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def _seeds(runs: _Runs) -> str:
    counts = Counter(row["method"] for row in runs)
    least, most = min(counts.values()), max(counts.values())
    return f"{least} seed{'s' * (least > 1)}" if least == most else f"{least} to {most} seeds"


def _start(runs: _Runs, method: str) -> str:
    """Return the name of what a method starts from; empty if it was not measured."""
    starts = (row["start"] for row in runs if row["method"] == method and "start" in row)
    return next(starts, "")


def _means(runs: _Runs, method: str) -> list[float]:
    rows = [row for row in runs if row["method"] == method and "failed" not in row]
    return [mean(row[name]["value"] for row in rows) for name in METRICS] if rows else []


def _score(runs: _Runs, method: str) -> str:
    values = _means(runs, method)
    if values:
        return _pair(values)
    return "failed" if any(row["method"] == method for row in runs) else ""


def _pair(values: Iterable[float]) -> str:
    return " / ".join(f"{value:.3f}".removeprefix("0") for value in values)


def _interval(value: dict[str, float]) -> str:
    return f"{value['low']:.3f} to {value['high']:.3f}".replace("0.", ".")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
