"""Writes docs/methods.md from what the methods say of themselves.

Run: python -m tools.methods_page
"""

import json
import statistics
from pathlib import Path
from typing import Any

from sslcore.methods.registry import CONFIGS
from sslcore.methods.settings import MethodSection

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "methods.md"
RESULTS = ROOT / "benchmarks" / "results"
DATA = {
    "pneumonia": "PneumoniaMNIST",
    "cells": "malaria cells",
    "cells_filled": "cells on grey",
    "mednist": "MedNIST",
}

_HEAD = """# Methods

Made by `python -m tools.methods_page` from `sslcore/methods/`: each method is one file there, with
its settings, their defaults and what its paper takes. `medssl pretrain --method NAME` takes the
names below; defaults are for some thousand small images and a few thousand steps. What the papers
took for ImageNet stands in `configs/papers/`, with the source and what differs here. In all of them
the changes of images are those of photographs here (no solarisation, the same for all full views),
gradients are clipped at norm 5 where the file says nothing else, and transformers have no
stochastic depth. All methods but rotation and jigsaw take volumes too (`--dims 3`). Every one ran
on processors, here and in the tests; none on a GPU so far.

I-JEPA and VICRegL are not here: what they add, a loss of patches, DINOv2 and DINOv3 have.
"""

_COLUMNS = """| name | needs | choose it | source |
|---|---|---|---|
"""

_LEARNT = """
## What they learnt

{images:,} images of each data set, with every method's defaults and one small network
(`benchmarks/methods_learn.py`, {seeds}): AUROC on test images of a linear probe on all labels,
with the deviation over seeds where there are several, and of nearest neighbours in brackets. So
little training says whether a method learns, not which is best. SupCon saw the labels of the
training part, and is left out where it would have seen those of test images. "Untrained" and
"pixels" are linear probes; methods that hide patches have a transformer of six layers.

| method | {names} |
|---|{rules}
"""

_NEAR = """
The cells are of 17 patients, and each seed tests others: the untrained network reaches {untrained},
raw pixels {pixels}. The cells are cut out on black, and how much of a picture is black is the same
in all its views: a network can make views agree by that alone. Losses that ask for no difference
between images (`byol`, `simsiam`, `swav`, `dino`) do so: after SimSiam one direction holds .8 of
the variance of the features, and its correlation with the share of black is .9. With grey around
the same cells ("cells on grey", each image's own mean) BYOL and SimSiam learn as well as any, and
SwAV and DINO stay at the untrained network's, as they do in few steps. In five times as many images
(the first seed, on black): {found}.
So where objects are cut out, fill what is around them, or take a method that contrasts (`simclr`,
`dcl`, `triplet`), decorrelates (`vicreg`) or asks for a distribution (`lejepa`). On MedNIST the
untrained network reaches .999, and nothing can be told apart. Transformers learn slowly: in these
468 steps MAE and DINOv2 beat the linear probe of their own untrained network on PneumoniaMNIST
only, DINOv3 (one seed) equals it there, while nearest neighbours get better with all of them there
(leave-one-out accuracy in the records). MAE and SimMIM are judged by probes here, which their
papers do not take; fine-tuned they were not compared.
"""
_LONGER = 150_000

_COST = """
## What a step costs

A step with two full views on one core of a processor (`benchmarks/methods_cost.py`,
{plain}), as a multiple of SimCLR's with the same network, and of a plain
forward and backward of it; in brackets with the smaller crops that a method has by default. The
limits are 1.6 plain passes for methods with a teacher, 1.15 for others; rotation
encodes four turns of every view and jigsaw nine small tiles: above it by what they are.

| method | network | teacher | time / SimCLR | time / plain | most memory / plain |
|---|---|---|---|---|---|
"""


def page() -> str:
    """Return the whole page."""
    families: dict[str, list[type[MethodSection]]] = {}
    for config in CONFIGS:
        families.setdefault(config.about.family, []).append(config)
    text = _HEAD
    for family, configs in families.items():
        text += f"\n## {family.capitalize()}\n\n{_COLUMNS}" + "".join(map(_row, configs))
    return text + _cost() + _learnt()


def _row(config: type[MethodSection]) -> str:
    about, needs = config.about, [config.about.needs]
    if config.views.local_views:
        needs.append(f"{config.views.local_views} smaller crops by default")
    return (
        f"| `{_name(config)}` ({about.title}) | {'; '.join(needs)} | {about.choose} |"
        f" {about.source} |\n"
    )


def _cost() -> str:
    file = RESULTS / "methods_cost.json"
    if not file.exists():
        return ""
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    rows = [
        f"| `{name}` | {row['network']} | {'yes' if row['teacher'] else 'no'} |"
        f" {_times(row, found['simclr_time_ratio'][row['network']])} | {_times(row)} |"
        f" {row['memory_ratio']:.2f} |\n"
        for name, row in ((_name(each), found["methods"].get(_name(each))) for each in CONFIGS)
        if row
    ]
    plain = f"batches of {found['batch']} images of {found['size_px']} px"
    return _COST.format(plain=plain) + "".join(rows)


def _times(row: dict[str, Any], unit: float = 1.0) -> str:
    crops = row.get("time_ratio_with_crops")
    return f"{row['time_ratio'] / unit:.2f}" + (f" ({crops / unit:.2f})" if crops else "")


def _learnt() -> str:
    found = {name: _recorded(name) for name in DATA}
    runs = {name: each for name, each in found.items() if each}
    if not runs:
        return ""
    budget = next(iter(runs.values()))["budget"]
    seeds = {row["seed"] for each in runs.values() for row in each["runs"]}
    head = _LEARNT.format(
        images=budget["images"],
        seeds="one seed" if len(seeds) == 1 else f"means of up to {len(seeds)} seeds",
        names=" | ".join(DATA[name] for name in runs),
        rules="---|" * len(runs),
    )
    rows = [
        f"| `{method}` | {' | '.join(_score(each['runs'], method) for each in runs.values())} |\n"
        for method in map(_name, CONFIGS)
        if any(row["method"] == method for each in runs.values() for row in each["runs"])
    ]
    for title, model, of in (
        ("Untrained", "untrained_probe", "simclr"),
        ("Untrained transformer", "untrained_probe", "mae"),
        ("Pixels", "pixels_probe", "simclr"),
    ):
        cells = [_beside(each["runs"], model, of) for each in runs.values()]
        rows.append(f"| {title} | {' | '.join(cells)} |\n")
    return head + "".join(rows) + _near()


def _near() -> str:
    """Say what is known of methods that do not beat the untrained network."""
    longer, usual = (_recorded(name).get("runs") for name in (f"cells_{_LONGER}", "cells"))
    if not longer or not usual:
        return ""
    simclr = [row for row in usual if row["method"] == "simclr"]
    return _NEAR.format(
        untrained=_listed(simclr, "untrained_probe"),
        pixels=_listed(simclr, "pixels_probe"),
        found="; ".join(f"`{row['method']}` {_score(longer, row['method'])}" for row in longer),
    )


def _listed(runs: list[dict[str, Any]], model: str) -> str:
    return ", ".join(f"{value:.3f}" for value in _values(runs, model))


def _recorded(name: str) -> dict[str, Any]:
    file = RESULTS / f"methods_learn_{name}.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return found


def _score(runs: list[dict[str, Any]], method: str) -> str:
    own = [row for row in runs if row["method"] == method]
    if not own:
        return ""
    ended = [row for row in own if "failed" not in row]
    if not ended:
        return "did not end: diverged or collapsed"
    probe = f"{_mean(ended, 'linear_probe'):.3f}"
    if len(ended) > 1:
        probe += f" ± {statistics.pstdev(_values(ended, 'linear_probe')):.3f}"
    lost = f"; {len(own) - len(ended)} of {len(own)} did not end" if len(ended) < len(own) else ""
    return f"{probe} ({_mean(ended, 'knn'):.3f}){lost}"


def _beside(runs: list[dict[str, Any]], model: str, of: str) -> str:
    """Return what stands beside the runs of one method: they share network and data."""
    rows = [row for row in runs if row["method"] == of and "failed" not in row]
    return f"{_mean(rows, model):.3f}" if rows else ""


def _mean(runs: list[dict[str, Any]], model: str) -> float:
    return statistics.mean(_values(runs, model))


def _values(runs: list[dict[str, Any]], model: str) -> list[float]:
    return [row["test_auroc"][model]["value"] for row in runs]


def _name(config: type[MethodSection]) -> str:
    name: str = config.model_fields["name"].default
    return name


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
