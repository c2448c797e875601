"""Pretrain for some minutes on two cores, then learn from few labels, on real data sets.

Run: python benchmarks/few_labels.py [pneumonia] [cells] [lung] [adrenal] [hippocampus] ...
Each data set gets the commands a user would type, with the recipe named below.
"""

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from record import HERE, data_folder, keep, run_medssl

_KEPT = ("data", "split", "leakage", "interval", "results", "comparisons", "notes")
RECIPES = HERE.parent / "configs" / "med"


@dataclass(frozen=True)
class Task:
    """A data set, and what a user would say of it; `learn_from` is another one to pretrain on."""

    data: str
    file: str
    recipe: str
    scan: tuple[str, ...] = ()
    finetune: tuple[str, ...] = ()
    learn_from: str = ""
    pretrain: tuple[str, ...] = ()


TASKS = {
    "pneumonia": Task("medmnist_pneumonia", "pneumoniamnist.npz", "small_radiographs_simclr.yaml"),
    "cells": Task(
        "img_malaria_cells",
        "",
        "small_cells_simclr.yaml",
        ("--class-folders", "--patient-pattern", r"C\d+P(\d+)"),
        # 17 patients: every one is tested, for five of them would leave the intervals wide
        ("--shots", "10", "--fraction", "1", "--mode", "full", "--folds", "5", "--repeats", "2"),
    ),
    "cells_shares": Task(  # a record of its own, as it takes as long again
        "img_malaria_cells",
        "",
        "small_cells_simclr.yaml",
        ("--class-folders", "--patient-pattern", r"C\d+P(\d+)"),
        (
            *("--fraction", "0.01", "--fraction", "0.1"),
            *("--mode", "full", "--folds", "5", "--repeats", "1"),
        ),
    ),
    "adrenal": Task(
        "medmnist_adrenal3d",
        "adrenalmnist3d_64.npz",
        "small_volumes_simclr.yaml",
        finetune=("--repeats", "1", "--set", "steps=150"),  # scratch takes a second a step
    ),
    "hippocampus": Task(  # 150 volumes of another organ, by another machine
        "medmnist_adrenal3d",
        "adrenalmnist3d_64.npz",
        "small_volumes_simclr.yaml",
        finetune=("--repeats", "1", "--set", "steps=1"),  # scratch stands in the record above
        learn_from="seg_hippocampus/images",
        pretrain=("--epochs", "40"),
    ),
    "lung": Task(  # no patients are known, and tiles are near-copies: too good to be true
        "path_lc25000_lung",
        "",
        "small_tiles_simclr.yaml",
        ("--class-folders",),
        ("--split", "image"),
    ),
}


def main() -> None:
    """Measure the tasks named on the command line, or all."""
    for name in sys.argv[1:] or TASKS:
        with tempfile.TemporaryDirectory() as folder:
            keep(f"few_labels_{name}", measure(TASKS[name], Path(folder)))


def measure(task: Task, folder: Path) -> dict[str, Any]:
    """Run scan, pretrain and finetune, and collect what they wrote."""
    source = data_folder(task.data) / task.file
    manifest, run, result = (folder / name for name in ("manifest.parquet", "run", "result"))
    recipe = RECIPES / task.recipe
    seconds = {"scan": run_medssl("scan", source, "--out", manifest, *task.scan)}
    learnt, tested = manifest, []
    if task.learn_from:
        learnt, tested = folder / "learnt.parquet", ["--data", manifest]
        seconds["scan"] += run_medssl("scan", data_folder(task.learn_from), "--out", learnt)
    pretrain = (learnt, "--config", recipe, "--out", run, *task.pretrain)
    seconds["pretrain"] = run_medssl("pretrain", *pretrain)
    seconds["finetune"] = run_medssl("finetune", run, "--out", result, *tested, *task.finetune)
    lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    health = (run / "health.jsonl").read_text(encoding="utf-8").splitlines()
    metrics = json.loads((result / "metrics.json").read_text(encoding="utf-8"))
    steps = [json.loads(line) for line in lines]
    return {
        "recipe": recipe.read_text(encoding="utf-8"),
        "seconds": seconds,
        "steps": len(steps),
        "samples_per_second": _median([step["samples_per_second"] for step in steps]),
        "wait_share": _median([step["wait_share"] for step in steps]),
        "health": {"first": json.loads(health[0]), "last": json.loads(health[-1])},
        **{key: metrics[key] for key in _KEPT},
    }


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


if __name__ == "__main__":
    main()
