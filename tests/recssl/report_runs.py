"""Runs as `recssl train` and `recssl evaluate` leave them, of a small log with two tastes."""

import json
from pathlib import Path

import numpy as np
import polars as pl

from recssl.dataset import INTERACTIONS, Dataset, write_dataset
from recssl.evaluate import evaluate
from recssl.run_folder import Embeddings, EmbeddingsInfo, RunFolder
from recssl.settings.evaluate import EvaluateConfig
from recssl.settings.train import TrainConfig
from sslcore.config import resolve_config
from sslcore.console import Progress

USERS, ITEMS, STEPS = 60, 40, 30
START, DAY = 1_700_000_000_000_000, 86_400_000_000  # microseconds


def write_data(
    folder: Path, *, features: bool = True, times: bool = True, bad: bool = True
) -> Dataset:
    """Write a data set: even users like even items, later ones are test."""
    rng = np.random.default_rng(3)
    rows = []
    for user in range(USERS):
        fitting = np.arange(user % 2, ITEMS, 2)
        chance = 1.0 / (1 + np.arange(len(fitting)))
        count = 4 + user % 7
        chosen = rng.choice(fitting, count, replace=False, p=chance / chance.sum())
        parts = ["train"] * (count - 2) + ["valid", "test"]
        rows += [
            (user, int(item), 1.0, START + place * DAY, part)
            for place, (item, part) in enumerate(zip(chosen, parts, strict=True))
        ]
    table = pl.DataFrame(rows, schema=list(INTERACTIONS), orient="row")
    if not times:
        table = table.with_columns(time=pl.lit(None, pl.Int64))
    items = {"item": range(ITEMS), "id": [f"item-{number}" for number in range(ITEMS)]}
    if features:
        items |= {"Title": [f"<b>Tale {number}</b>" for number in range(ITEMS)]}
        items |= {"genre": ["even" if number % 2 == 0 else "odd" for number in range(ITEMS)]}
    lines = {"file": "secret/log.csv", "line": [3, 9], "reason": ["no user", "no item"]}
    return write_dataset(
        folder,
        table,
        pl.DataFrame({"user": range(USERS), "id": [f"reader-{user}" for user in range(USERS)]}),
        pl.DataFrame(items),
        config="user: null\nitem_features: /secret/items.csv\n",
        split={
            "name": "time",
            "valid_from": 1_700_000_000_000_000,
            "test_from": 1_700_100_000_000_000,
        },
        bad_lines=pl.DataFrame(lines) if bad else None,
    )


def write_run(folder: Path, dataset: Dataset, *, steps: int = STEPS) -> Path:
    """Write what training leaves, with embeddings that know the two tastes."""
    folder.mkdir(parents=True)
    run = RunFolder(folder)
    path = {"data.path": str(dataset.folder), "data.fingerprint": dataset.fingerprint}
    run.write_config(resolve_config(TrainConfig, options=path))
    log = [
        {"step": step, "loss": 3 - step / 40, "lr": 0.1, "terms": {"ranking": 1.0}}
        for step in range(1, steps + 1)
    ]
    checks = [
        {"step": step, "spread": 0.9, "effective_rank": 5.0, "alignment": 0.3, "uniformity": -2.0}
        | {"recall@20": 0.2 + step / 99, "ndcg@20": 0.1, "recall@20_rare": 0.1}
        for step in (0, steps)
    ]
    run.log.write_text("".join(json.dumps(line) + "\n" for line in log))
    run.health.write_text("".join(json.dumps(line) + "\n" for line in checks))
    write_embeddings(folder, dataset, step=steps)
    return folder


def write_embeddings(folder: Path, dataset: Dataset, *, step: int) -> None:
    rng = np.random.default_rng(4)
    users, items = (
        (np.eye(8)[np.arange(count) % 2] + 0.3 * rng.normal(size=(count, 8))).astype(np.float32)
        for count in (dataset.num_users, dataset.num_items)
    )
    info = EmbeddingsInfo(
        dataset.fingerprint, str(dataset.folder.resolve()), "mf+sampled_softmax", 8, step
    )
    RunFolder(folder).write_embeddings(Embeddings(users, items, info))


def measure(folder: Path) -> None:
    """Write metrics.json beside two baselines."""
    settings = {"ks": (5, 20), "resamples": 40, "buckets": 3}
    baselines = {"names": ("popularity", "item_knn"), "tune": False}
    with Progress("evaluate") as progress:
        evaluate(folder, EvaluateConfig(**settings, baselines=baselines), progress)
