"""Every method that has a name, with one budget: does it learn?

Run: python benchmarks/rec_methods.py [ml100k gowalla] [--methods bpr ncl ...] [--seeds 0 1 2]
    [--seconds 10] [--again]

Of MovieLens-100K (ratings of 4 and 5) the last item of each user is tested and the one before it
chooses, so that nearly every user counts; Gowalla is split as LightGCN's tables have it. Each
method trains on the train part with the settings that its name stands for, for as many steps as fit
into the seconds of processor time of one core, by the time of its first steps. As `recssl train`
does, it keeps the embeddings of the check, ten in a run, with the best recall on the validation
part: on a small log many methods get worse in the end. Nothing is chosen by the test part, on which
they are measured once, the baselines with their default settings, fitted on train.

Encoders start from an SVD of the graph, and some are read out along it, so that they recommend well
before the first step. A row "untrained ..." says how well, for each kind of encoder, score and
readout. Beside each method that adds a self-supervised part to a ranking loss stands what that loss
reaches alone in as many steps. What is recorded with the same seconds and settings is not measured
again unless asked for.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from rec_line import command
from record import Dots, data_folder, dot_chart, earlier, keep, keep_chart

from recssl.dataset import open_dataset
from recssl.evaluate import evaluate
from recssl.methods.settings import BPRConfig, BUIRConfig, SelfCFConfig
from recssl.run_parts import assemble, method_name
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
_CHECKS = 10
_NOTHING = 1e-12  # learning rate that moves no float32 weight


@dataclass(frozen=True)
class Task:
    """A data set as a user would ingest it.

    Attributes:
        ingest: Files below its folder, and options.
        split: As `recssl ingest` takes it; empty where the files are the parts.
        seconds: Of training per method, by default.
        seeds: Of the runs.
    """

    ingest: tuple[str, ...]
    seconds: float
    seeds: tuple[int, ...]
    split: str = ""


TASKS = {
    "ml100k": Task(("ml-100k.inter", "--min-weight", "4"), 10, (0, 1, 2), "leave_last_out"),
    "gowalla": Task(("train.txt", "--test", "test.txt"), 60, (0,)),
}


def main() -> None:
    """Measure what is missing of what was asked for, and keep the table after each run."""
    parser = argparse.ArgumentParser(description="Every recommender method with one budget.")
    parser.add_argument("tasks", nargs="*", metavar="DATA", help=" or ".join(TASKS))
    parser.add_argument("--seconds", type=float, help="of one core, per method and seed")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, help="of the runs")
    parser.add_argument("--again", action="store_true", help="measure what is recorded, too")
    wishes = parser.parse_args()
    unknown = set(wishes.tasks) - set(TASKS)
    if unknown:
        parser.error(f"unknown data set {sorted(unknown)}; known: {', '.join(TASKS)}")
    torch.set_num_threads(1)
    for name in wishes.tasks or TASKS:
        with tempfile.TemporaryDirectory() as folder:
            table = Table(name, wishes.seconds or TASKS[name].seconds, Path(folder))
            for seed in wishes.seeds or TASKS[name].seeds:
                for method in wishes.methods:
                    table.measure(method, seed, again=wishes.again)


class Table:
    """The record of a data set, to which runs are added."""

    def __init__(self, name: str, seconds: float, folder: Path) -> None:
        """Take in what is recorded with as many seconds, and ingest the data into `folder`."""
        self.title, self.seconds, self.folder = f"rec_methods_{name}", seconds, folder
        task, budget = TASKS[name], {"seconds_of_one_core": seconds}
        split = {"split": task.split} if task.split else {}
        fresh = {"data": f"rec_{name}", **budget, **split, "runs": []}
        self.found: dict[str, Any] = earlier(self.title, budget | split) or fresh
        source, self.data = data_folder(f"rec_{name}"), folder / "data"
        files = [source / w if (source / w).is_file() else w for w in task.ingest]
        options = ("--split", task.split) if task.split else ()
        command("ingest", *files, *options, "--out", self.data)

    def measure(self, method: str, seed: int, *, again: bool) -> None:
        """Train and measure a method and its start, unless they are recorded."""
        config = settings(method, self.data, steps=1, seed=seed)
        start = start_of(config)
        if again or not self._steps(start, about(config, start), seed):
            still = {"optim.learning_rate": _NOTHING}
            self._add(start, settings(method, self.data, steps=1, seed=seed, **still))
        recorded = self._row(method, about(config, method), seed)
        if recorded and not again:
            if config.contrast is not None and "without_contrast" not in recorded:
                same = settings(method, self.data, steps=int(recorded["steps"]), seed=seed)
                self._keep(recorded | self._alone(same))
            return
        try:
            steps = self._steps(method, about(config, method))
            steps = steps or affordable_steps(method, self.data, self.seconds)
            self._add(method, settings(method, self.data, steps=steps, seed=seed))
        except SSLError as error:
            self._keep({"method": method, "seed": seed, "failed": str(error)})

    def _steps(self, name: str, settings: dict[str, Any], seed: int | None = None) -> int:
        """Return the steps of a recorded run with these settings; 0 if there is none."""
        return int(self._row(name, settings, seed).get("steps", 0))

    def _row(self, name: str, settings: dict[str, Any], seed: int | None) -> dict[str, Any]:
        """Return a recorded run with these settings, of any seed for None; empty without one."""
        for row in self.found["runs"]:
            is_it = row["method"] == name and row.get("settings") == settings
            if is_it and seed in (None, row["seed"]):
                return dict(row)
        return {}

    def _alone(self, config: TrainConfig) -> dict[str, Any]:
        """Measure the ranking loss of a method without its self-supervised part."""
        run = self.folder / "run"
        shutil.rmtree(run, ignore_errors=True)
        train(config.model_copy(update={"contrast": None}), run)
        return {"without_contrast": values(measured(run, ())["models"][0])}

    def _add(self, name: str, config: TrainConfig) -> None:
        run, began = self.folder / "run", time.process_time()
        shutil.rmtree(run, ignore_errors=True)
        best = train(config, run).best_step
        taken = round(time.process_time() - began, 1)
        wanted = () if "baselines" in self.found else BASELINES
        metrics = measured(run, wanted)
        if wanted:
            models = {model["name"]: values(model) for model in metrics["models"]}
            self.found["protocol"] = metrics["protocol"]
            self.found["baselines"] = {name: models[name] for name in wanted}
        row = {"method": name, "seed": config.run.seed, "parts": method_name(config)}
        row |= {"start": start_of(config), "steps": config.run.steps, "best_step": best}
        row |= {"seconds": taken, "settings": about(config, name)}
        row |= values(metrics["models"][0])
        if name in METHODS and config.contrast is not None:
            row |= self._alone(config)
        self._keep(row)

    def _keep(self, row: dict[str, Any]) -> None:
        """Put one run beside those that are recorded, and draw them."""
        key = row["method"], row["seed"]
        rows = [each for each in self.found["runs"] if (each["method"], each["seed"]) != key]
        order = list(METHODS)
        self.found["runs"] = sorted(
            [*rows, row],
            key=lambda row: (
                order.index(row["method"]) if row["method"] in order else len(order),
                row["method"],
                row["seed"],
            ),
        )
        keep(self.title, self.found)
        keep_chart(self.title, chart(self.found))


def settings(method: str, data: Path, *, steps: int, seed: int, **others: float) -> TrainConfig:
    """Return what the name of a method stands for, the best step left to the validation part."""
    options = {
        "data.path": data,
        "run.steps": steps,
        "run.seed": seed,
        "run.health_every": max(1, steps // _CHECKS),
        "run.patience": 0,
        "run.checkpoint_minutes": 60,
        "run.device": "cpu",
        **others,
    }
    return resolve_config(TrainConfig, preset=method_preset(method), options=options)


def start_of(config: TrainConfig) -> str:
    """Name what a method starts from: encoder and readout where not the default, and the score."""
    changed = config.encoder.model_dump(exclude_defaults=True, exclude={"name"})
    changed |= config.readout.model_dump(exclude_defaults=True)
    parts = [config.encoder.name, *(f"{key}={value}" for key, value in changed.items())]
    match config.ranking:
        case BPRConfig():
            score = "products"
        case BUIRConfig() | SelfCFConfig():
            score = "predictor"
        case _:
            score = "cosine"
    return f"untrained {' '.join(parts)}, {score}"


def about(config: TrainConfig, name: str) -> dict[str, Any]:
    """Return the settings that decide the result of a row."""
    left_out = {"data", "run"}
    if name not in METHODS:
        left_out |= set(TrainConfig.model_fields) - {"encoder", "readout"}
    return config.model_dump(mode="json", exclude=left_out)


def affordable_steps(method: str, data: Path, seconds: float) -> int:
    """Return how many steps fit into the budget, by the processor's time, from trying some."""
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
        began = began or time.process_time()
        taken = time.process_time() - began
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
    """Draw a dot per method and per start, best on top, and a line per baseline."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in found["runs"]:
        if "failed" not in row:
            rows.setdefault(row["method"], []).append(row)

    def numbers(method: str, name: str) -> list[float]:
        return [row[name]["value"] for row in rows[method]]

    def spread(each: list[float]) -> float:
        return statistics.stdev(each) if len(each) > 1 else 0.0

    methods = sorted(rows, key=lambda method: statistics.mean(numbers(method, "recall@20")))
    return dot_chart(
        methods,
        [
            Dots(
                title,
                [statistics.mean(numbers(method, name)) for method in methods],
                [spread(numbers(method, name)) for method in methods],
                {each: found["baselines"][each][name]["value"] for each in found["baselines"]},
            )
            for name, title in NAMES.items()
        ],
    )


if __name__ == "__main__":
    main()
