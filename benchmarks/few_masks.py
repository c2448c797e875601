"""Pretrain for some minutes on two cores, then learn to outline from few masks, on real data sets.

Run: python benchmarks/few_masks.py [cells] [hippocampus]
Each data set gets the commands a user would type. No patients are known of the cells, whose split
is by image; every volume of the hippocampus is of another patient.
"""

import json
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from record import data_folder, keep, run_medssl

_KEPT = ("data", "split", "leakage", "interval", "results", "comparisons", "notes")


@dataclass(frozen=True)
class Task:
    """A data set, and what a user would say of it."""

    data: str
    scan: tuple[str, ...]
    pretrain: tuple[str, ...]
    segment: tuple[str, ...]


_NARROW = ("--set", "backbone.width=16", "--set", "backbone.stem=medium")
TASKS = {
    "cells": Task(  # white blood cells: cytoplasm and nucleus
        "seg_wbc",
        ("--masks", "{folder}/{stem}.png"),
        (
            *("--backbone", "resnet18", "--image-size", "64", "--epochs", "100"),
            *("--batch-size", "64", "--set", "views.preset=microscopy", *_NARROW),
        ),
        ("--split", "image", "--steps", "300"),
    ),
    "hippocampus": Task(  # its front and its back, in MR
        "seg_hippocampus",
        ("--masks", "labels/{name}", "--patient-pattern", r"(hippocampus_\d+)"),
        (
            *("--dims", "3", "--backbone", "resnet18", "--image-size", "32", "--epochs", "40"),
            *("--batch-size", "32", "--set", "views.crop_scale=[0.6, 1.0]", *_NARROW),
            *("--set", "optim.learning_rate=0.001"),
        ),
        ("--steps", "200", "--batch-size", "4", "--set", "encoder_rate=1"),
    ),
}


def main() -> None:
    """Measure the tasks named on the command line, or all."""
    for name in sys.argv[1:] or TASKS:
        with tempfile.TemporaryDirectory() as folder:
            keep(f"few_masks_{name}", measure(TASKS[name], Path(folder)))


def measure(task: Task, folder: Path) -> dict[str, Any]:
    """Run scan, pretrain and segment, and collect what they wrote."""
    manifest, run, result = (folder / name for name in ("manifest.parquet", "run", "result"))
    seconds = {
        "scan": run_medssl("scan", data_folder(task.data), "--out", manifest, *task.scan),
        "pretrain": run_medssl("pretrain", manifest, "--out", run, *task.pretrain),
        "segment": run_medssl("segment", run, "--out", result, *task.segment),
    }
    steps = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    metrics = json.loads((result / "metrics.json").read_text(encoding="utf-8"))
    return {
        "pretrain": " ".join(task.pretrain),
        "segment": " ".join(task.segment),
        "seconds": seconds,
        "steps": len(steps),
        "samples_per_second": statistics.median(step["samples_per_second"] for step in steps),
        **{key: metrics[key] for key in _KEPT},
    }


if __name__ == "__main__":
    main()
