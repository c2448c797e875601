"""Every method on three data sets with one small network and one budget: does it learn?

Run: python benchmarks/methods_learn.py [DATA ...] [--methods simclr ...] [--seeds 0 1 2] [--again]
    [--images 30000]

Each method sees 30,000 images, two views and more of each, with its own defaults, by a ResNet-10 of
width 16 or, where a method hides patches, by a transformer of six layers: five minutes on two
cores, more or less. Another number of images has a record of its own.
Beside it stand the same network before its first step and raw pixels, all judged by nearest
neighbours and a linear probe on all labels of the training part: AUROC on test images. What is
recorded with the same budget is not measured again unless asked for; a method that diverges or
collapses is recorded as such. `cells_filled` are the cells with grey around them instead of black:
how much of a picture is black is the same in all its views, and enough for losses that ask for no
difference between images.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from record import Dots, data_folder, dot_chart, earlier, keep, keep_chart, run_medssl

from sslcore.methods.registry import CONFIGS, METHODS

IMAGES = 30_000
BATCH = 64
SIZE = 28  # px
BLACK = 30  # of 765, the sum of three colours
JUDGES = {"knn": "Nearest neighbours", "linear_probe": "Linear probe"}
BESIDE = {"untrained_probe": "untrained", "pixels_probe": "pixels"}
LABELLED = {each.model_fields["name"].default for each in CONFIGS if each.uses_labels}
MASKED = {each.model_fields["name"].default for each in CONFIGS if each.needs_tokens}


@dataclass(frozen=True)
class Task:
    """A data set, and what a user would say of it.

    With `fill`, what is black takes the mean of the rest of its image.
    """

    folder: str
    file: str = ""
    fill: bool = False
    scan: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    split: str = "auto"


CELLS = Task(
    "img_malaria_cells",
    scan=("--class-folders", "--patient-pattern", r"C\d+P(\d+)"),
    views=("views.preset=microscopy",),
)
TASKS = {
    "pneumonia": Task("medmnist_pneumonia", "pneumoniamnist.npz", split="given"),
    "cells": CELLS,
    "cells_filled": replace(CELLS, fill=True),
    "mednist": Task("img_mednist", scan=("--class-folders",), split="image"),
}


def main() -> None:
    """Measure what is missing of what was asked for, and keep the table after each run."""
    parser = argparse.ArgumentParser(description="Does every method learn?")
    parser.add_argument("tasks", nargs="*", metavar="DATA", help=" or ".join(TASKS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--again", action="store_true", help="measure what is recorded, too")
    parser.add_argument("--images", type=int, default=IMAGES, help="that each method sees")
    wishes = parser.parse_args()
    unknown = set(wishes.tasks) - set(TASKS)
    if unknown:
        parser.error(f"unknown data set {sorted(unknown)}; known: {', '.join(TASKS)}")
    for seed in wishes.seeds:
        for name in wishes.tasks or [name for name, task in TASKS.items() if not task.fill]:
            for method in wishes.methods:
                if method in LABELLED and TASKS[name].split != "given":
                    continue  # it would be tested on images whose labels it saw
                if wishes.again or not is_recorded(name, wishes.images, method, seed):
                    with tempfile.TemporaryDirectory() as folder:
                        row = measure(name, wishes.images, method, seed, Path(folder))
                    add(name, wishes.images, method, seed, row)


def title_of(name: str, images: int) -> str:
    """Return what a record is named."""
    return f"methods_learn_{name}" + ("" if images == IMAGES else f"_{images}")


def recorded(name: str, images: int) -> dict[tuple[str, int], dict[str, Any]]:
    """Return what was measured with this budget, by method and seed."""
    runs = earlier(title_of(name, images), {"budget": budget(images)}).get("runs", [])
    return {(row["method"], row["seed"]): row for row in runs}


def is_recorded(name: str, images: int, method: str, seed: int) -> bool:
    """Tell whether a run was measured with the rate that the method has by default now."""
    row = recorded(name, images).get((method, seed), {})
    return bool(row.get("adamw_rate") == adamw_rate(method))


def adamw_rate(method: str) -> float:
    """Return the peak learning rate of 256 samples."""
    (config,) = [each for each in CONFIGS if each.model_fields["name"].default == method]
    rate: float = config.rates.adamw
    return rate


def budget(images: int) -> dict[str, int]:
    """Return what every method gets."""
    return {
        "images": images,
        "batch": BATCH,
        "size_px": SIZE,
    }


def add(name: str, images: int, method: str, seed: int, row: dict[str, Any]) -> None:
    """Keep one run beside those that are recorded, and draw them."""
    row = {"method": method, "seed": seed, "adamw_rate": adamw_rate(method), **row}
    rows = recorded(name, images) | {(method, seed): row}
    order = sorted(rows, key=lambda key: (METHODS.index(key[0]), key[1]))
    runs = [rows[key] for key in order]
    found = {"data": TASKS[name].folder, "budget": budget(images), "runs": runs}
    keep(title_of(name, images), found)
    keep_chart(title_of(name, images), chart(found))


def measure(name: str, images: int, method: str, seed: int, folder: Path) -> dict[str, Any]:
    """Pretrain and evaluate one method with its own defaults."""
    task = TASKS[name]
    manifest, run, result = (folder / each for each in ("manifest.parquet", "run", "result"))
    source = data_folder(task.folder) / task.file
    if task.fill:
        source = filled(source, folder / "filled")
    run_medssl("scan", source, "--out", manifest, *task.scan)
    network = (
        ("backbone.name=vit_mini",)
        if method in MASKED
        else ("backbone.width=16", "backbone.stem=medium")
    )
    settings = (*network, *task.views, f"run.steps={images // BATCH}", "run.device=cpu")
    try:
        run_medssl(
            *("pretrain", manifest, "--out", run, "--method", method, "--seed", seed),
            *("--image-size", SIZE, "--batch-size", BATCH),
            *(() if method in MASKED else ("--backbone", "resnet10")),
            *(word for value in settings for word in ("--set", value)),
        )
    except subprocess.CalledProcessError as error:
        return {"failed": error.returncode}
    run_medssl(
        *("finetune", run, "--out", result, "--fraction", 1, "--seed", seed),
        *("--split", task.split, "--set", "steps=1"),
    )
    health = [json.loads(line) for line in (run / "health.jsonl").read_text().splitlines()]
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    metrics = json.loads((result / "metrics.json").read_text(encoding="utf-8"))
    return {
        "knn_leave_one_out": [health[0]["knn"], health[-1]["knn"]],
        "effective_rank": [health[0]["effective_rank"], health[-1]["effective_rank"]],
        "samples_per_second": round(statistics.median(row["samples_per_second"] for row in log)),
        "test_auroc": {
            row["model"]: row["metrics"]["auroc"]
            for row in metrics["results"]
            if row["model"] in (*JUDGES, *BESIDE)
        },
    }


def filled(source: Path, target: Path) -> Path:
    """Copy PNG images; what is black takes the mean of the rest of its image."""
    for path in source.rglob("*.png"):
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"), np.float64)
        is_black = pixels.sum(axis=2) <= BLACK
        pixels = np.where(is_black[..., None], pixels[~is_black].mean(axis=0), pixels)
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.round().astype(np.uint8)).save(copy)
    return target


def chart(found: dict[str, Any]) -> Figure:
    """Draw a dot per method, its deviation over seeds as a bar, and lines for what stands beside.

    Transformers have an untrained network of their own, so that line is of the others.
    """
    scores: dict[str, dict[str, list[float]]] = {}
    for row in found["runs"]:
        if "failed" not in row:
            of_method = scores.setdefault(row["method"], {})
            for model, auroc in row["test_auroc"].items():
                of_method.setdefault(model, []).append(auroc["value"])
    names = sorted(scores, key=lambda name: statistics.mean(scores[name]["linear_probe"]))
    beside = {
        model: [value for name in names if name not in MASKED for value in scores[name][model]]
        for model in BESIDE
    }

    lines = {
        f"{label}, linear probe": statistics.mean(beside[model])
        for model, label in BESIDE.items()
        if beside[model]
    }
    values = {judge: [scores[name][judge] for name in names] for judge in JUDGES}
    return dot_chart(
        names,
        [
            Dots(
                f"{title}, AUROC",
                [statistics.mean(each) for each in values[judge]],
                [statistics.pstdev(each) for each in values[judge]],
                lines,
            )
            for judge, title in JUDGES.items()
        ],
    )


if __name__ == "__main__":
    main()
