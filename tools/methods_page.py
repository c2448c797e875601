"""Writes docs/methods.md from what the methods say of themselves.

Run: python -m tools.methods_page
"""

import json
from pathlib import Path
from typing import Any

from sslcore.methods.registry import CONFIGS
from sslcore.methods.settings import MethodSection

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "methods.md"
LEARNT = ROOT / "benchmarks" / "results" / "methods_learn.json"

_HEAD = """# Methods

Made by `python -m tools.methods_page` from `sslcore/methods/`: each method is one file there, with
its settings, their defaults and what its paper takes. `medssl pretrain --method NAME` takes the
names below; defaults are for some thousand small images and a few thousand steps.
"""

_COLUMNS = """| name | needs | choose it | source |
|---|---|---|---|
"""

_LEARNT = """
## What they learnt

{epochs} epochs of PneumoniaMNIST on two cores, with each method's defaults and one small network
(`benchmarks/methods_learn.py`, one seed): balanced accuracy of leave-one-out nearest neighbours
before and after, and AUROC of a linear probe on the test images with all labels. So few steps say
whether a method learns, not which is best.

| method | kNN before | after | linear probe | images per second |
|---|---|---|---|---|
"""


def page() -> str:
    """Return the whole page."""
    families: dict[str, list[type[MethodSection]]] = {}
    for config in CONFIGS:
        families.setdefault(config.about.family, []).append(config)
    text = _HEAD
    for family, configs in families.items():
        text += f"\n## {family.capitalize()}\n\n{_COLUMNS}" + "".join(map(_row, configs))
    return text + _learnt()


def _row(config: type[MethodSection]) -> str:
    about, needs = config.about, [config.about.needs]
    if config.views.local_views:
        needs.append(f"{config.views.local_views} smaller crops by default")
    return (
        f"| `{_name(config)}` ({about.title}) | {'; '.join(needs)} | {about.choose} |"
        f" {about.source} |\n"
    )


def _learnt() -> str:
    if not LEARNT.exists():
        return ""
    recorded: dict[str, Any] = json.loads(LEARNT.read_text(encoding="utf-8"))
    rows = [
        _measured(_name(config), recorded["methods"][_name(config)])
        for config in CONFIGS
        if _name(config) in recorded["methods"]
    ]
    return _LEARNT.format(epochs=recorded["epochs"]) + "".join(rows)


def _measured(name: str, row: dict[str, Any]) -> str:
    if "failed" in row:
        return f"| `{name}` | | did not end: diverged or collapsed | | |\n"
    knn, probe = row["knn_leave_one_out"], row["test_auroc"]["linear_probe"]["value"]
    return (
        f"| `{name}` | {knn['untrained']:.3f} | {knn['trained']:.3f} | {probe:.3f} |"
        f" {row['samples_per_second']:.0f} |\n"
    )


def _name(config: type[MethodSection]) -> str:
    name: str = config.model_fields["name"].default
    return name


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
