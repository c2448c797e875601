"""Every method that has a name, with one budget, beside popularity and item kNN.

Run: python benchmarks/rec_methods.py [--seconds 60] [--methods bpr ncl ...] [ml100k] [gowalla]

MovieLens-100K is split by time (ratings of 4 and 5), Gowalla as LightGCN's tables have it. Each
method trains with the settings that its name stands for, on train and the validation part, for as
many steps as fit into the seconds on this machine, by the speed of its first steps. Nothing is
chosen by results: the embeddings of the last step are measured on the test part once, the baselines
with their default settings, fitted on the same parts. Mean and standard deviation are over three
seeds on MovieLens; on Gowalla there is one.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from rec_line import command
from record import Dots, data_folder, dot_chart, keep, keep_chart

from recssl.dataset import open_dataset
from recssl.evaluate import evaluate
from recssl.run_parts import assemble
from recssl.settings.evaluate import EvaluateConfig
from recssl.settings.methods import METHODS, method_preset
from recssl.settings.train import TrainConfig
from recssl.train import train
from sslcore.config import resolve_config
from sslcore.console import Progress
from sslcore.errors import SSLError

NAMES = {"recall@20": "Recall@20", "ndcg@20": "NDCG@20"}
BASELINES = ("popularity", "item_knn")
_TRIED = 0.05  # part of the seconds in which the speed is measured, before the run
_LEAST = 3  # steps


@dataclass(frozen=True)
class Task:
    """A data set as a user would ingest it.

    Attributes:
        ingest: Files below its folder, and options.
        seconds: Of training per method, by default.
        seeds: Of the runs.
    """

    ingest: tuple[str, ...]
    seconds: float
    seeds: tuple[int, ...]


TASKS = {
    "ml100k": Task(("ml-100k.inter", "--split", "time", "--min-weight", "4"), 60, (0, 1, 2)),
    "gowalla": Task(("train.txt", "--test", "test.txt"), 180, (0,)),
}


def main() -> None:
    """Measure the data sets named on the command line, or all."""
    parser = argparse.ArgumentParser(description="Every recommender method with one budget.")
    parser.add_argument("tasks", nargs="*", metavar="DATA", help=" or ".join(TASKS))
    parser.add_argument("--seconds", type=float, help="of training, per method and seed")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    wishes = parser.parse_args()
    for name in wishes.tasks or TASKS:
        if name not in TASKS:
            parser.error(f"unknown data set {name!r}; known: {', '.join(TASKS)}")
        with tempfile.TemporaryDirectory() as folder:
            seconds = wishes.seconds or TASKS[name].seconds
            found = measure(name, Path(folder), seconds, wishes.methods)
        keep(f"rec_methods_{name}", found)
        keep_chart(f"rec_methods_{name}", chart(found))


def measure(name: str, folder: Path, seconds: float, methods: list[str]) -> dict[str, Any]:
    """Ingest, then train and measure each method; one that cannot is told, and left out."""
    task, source, data = TASKS[name], data_folder(f"rec_{name}"), folder / "data"
    files = [source / word if (source / word).is_file() else word for word in task.ingest]
    command("ingest", *files, "--out", data)
    result: dict[str, Any] = {"data": f"rec_{name}", "seconds": seconds, "seeds": task.seeds}
    rows: list[dict[str, Any]] = []
    for method in methods:
        try:
            row = of_method(method, data, folder, seconds, task.seeds, result)
        except SSLError as error:
            row = {"method": method, "failed": str(error)}
        rows.append(row)
        print({key: row.get(key) for key in ("method", "mean", "failed")}, file=sys.stderr)
    return {**result, "methods": rows}


def of_method(
    method: str,
    data: Path,
    folder: Path,
    seconds: float,
    seeds: tuple[int, ...],
    result: dict[str, Any],
) -> dict[str, Any]:
    """Train and measure one method; the first also adds protocol and baselines to `result`."""
    steps = affordable_steps(method, data, seconds)
    runs = []
    for seed in seeds:
        run = folder / "run"
        began = time.perf_counter()
        train(settings(method, data, steps=steps, seed=seed), run)
        taken = round(time.perf_counter() - began, 1)
        names = () if "baselines" in result else BASELINES
        metrics = measured(run, names)
        shutil.rmtree(run)
        if names:
            result["protocol"] = metrics["protocol"]
            result["baselines"] = {
                model["name"]: values(model)
                for model in metrics["models"]
                if model["name"] in names
            }
        runs.append({"seed": seed, "seconds": taken, **values(metrics["models"][0])})
    found = {name: [run[name]["value"] for run in runs] for name in NAMES}
    several = len(seeds) > 1
    return {
        "method": method,
        "parts": metrics["models"][0]["method"],
        "steps": steps,
        "mean": {name: statistics.mean(each) for name, each in found.items()},
        "deviation": {n: statistics.stdev(each) for n, each in found.items()} if several else None,
        "runs": runs,
    }


def settings(method: str, data: Path, *, steps: int, seed: int) -> TrainConfig:
    """Return what the name of a method stands for, with nothing left to choose the best step."""
    options = {
        "data.path": data,
        "data.learn_from": "train+valid",
        "run.steps": steps,
        "run.seed": seed,
        "run.health_every": steps,
        "run.checkpoint_minutes": 60,
        "run.device": "cpu",
    }
    return resolve_config(TrainConfig, preset=method_preset(method), options=options)


def affordable_steps(method: str, data: Path, seconds: float) -> int:
    """Return how many steps fit into the budget, by the clock, from trying some."""
    parts = assemble(
        settings(method, data, steps=1_000_000, seed=0), open_dataset(data), torch.device("cpu")
    )
    parts.method.train()
    began, done = 0.0, -1  # the first step, which sets things up, is not counted
    for drawn in parts.batches.draw(0):
        output = parts.method(parts.batches.complete(drawn, device=torch.device("cpu")))
        parts.optimizer.zero_grad()
        output.loss.backward()
        parts.optimizer.step()
        parts.method.after_step(0.0)
        done += 1
        began = began or time.perf_counter()
        taken = time.perf_counter() - began
        if done >= _LEAST and taken >= _TRIED * seconds:
            return max(1, int(done * seconds / taken))
    raise AssertionError("batches end")


def measured(run: Path, baselines: tuple[str, ...]) -> dict[str, Any]:
    """Evaluate on the test part."""
    tree = {"ks": (20,), "baselines": {"names": baselines, "tune": False}}
    with Progress("evaluate", unit="users") as progress:
        return evaluate(run, EvaluateConfig.model_validate(tree), progress)


def values(model: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics of one model of metrics.json that are kept."""
    return {name: model["metrics"][name] for name in NAMES}


def chart(found: dict[str, Any]) -> Figure:
    """Draw a dot per method, best on top, and a line per baseline."""
    rows = [row for row in found["methods"] if "mean" in row]
    rows.sort(key=lambda row: row["mean"]["recall@20"])

    return dot_chart(
        [row["method"] for row in rows],
        [
            Dots(
                title,
                [row["mean"][name] for row in rows],
                [(row["deviation"] or {}).get(name, 0) for row in rows],
                {each: found["baselines"][each][name]["value"] for each in found["baselines"]},
            )
            for name, title in NAMES.items()
        ],
    )


if __name__ == "__main__":
    main()
