"""Time of one training step of LightGCN on Gowalla, and of its parts.

Run: OMP_NUM_THREADS=2 python benchmarks/rec_lightgcn_step.py

3 layers, 64 dimensions, 2,048 pairs per step, as LightGCN trains (BPR, one uniform negative each),
and with the default loss (sampled softmax, in-batch negatives). The parts are timed one by one in
the order of a step; `step` is the whole, measured apart.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightgcn_split import read_split
from record import data_folder, keep
from torch import Tensor

from recssl.batches import BatchMaker
from recssl.dataset import Dataset, open_dataset
from recssl.graph import GraphView
from recssl.ingest.job import ingest
from recssl.run_parts import RunParts, assemble
from recssl.settings.ingest import IngestConfig
from recssl.settings.train import TrainConfig
from sslcore.console import Progress

_ROUNDS = 15
Seconds = tuple[float, float]  # wall, processor
_CPU = torch.device("cpu")
_WAYS: dict[str, dict[str, Any]] = {
    "bpr_uniform": {"ranking": {"name": "bpr"}, "sampling": {"negatives": "uniform"}},
    "sampled_softmax_in_batch": {},
}


def main() -> None:
    """Measure both ways, and write them down."""
    source = data_folder("rec_gowalla")
    with tempfile.TemporaryDirectory() as folder:
        data = _dataset(source, Path(folder) / "data")
        rows = {name: measure(data, wishes) for name, wishes in _WAYS.items()}
    keep(
        "rec_lightgcn_step",
        {
            "data": "rec_gowalla",
            "interactions": read_split("rec_gowalla").train.nnz,
            "threads": torch.get_num_threads(),
            "load_average": round(os.getloadavg()[0], 1),
            "clock": f"of {_ROUNDS} steps: wall time, median and least; least processor time",
            "milliseconds": rows,
        },
    )


def measure(data: Dataset, wishes: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return the milliseconds of each part of a step, and of the whole."""
    tree = {
        "data": {"path": data.folder, "learn_from": "train+valid"},
        "encoder": {"name": "lightgcn", "layers": 3, "dim": 64, "start": "random"},
        "run": {"batch_size": 2048, "device": "cpu"},
        **wishes,
    }
    parts = assemble(TrainConfig.model_validate(tree), data, _CPU)
    times: dict[str, list[Seconds]] = {}
    for step in range(_ROUNDS + 1):
        for name, seconds in _one_step(parts, parts.batches, step).items():
            times.setdefault(name, []).append(seconds)
    whole = [_timed(lambda step=step: _plain_step(parts, step))[1] for step in range(_ROUNDS + 1)]
    times["step"] = whole
    return {
        name: {
            # the first one warms up
            "median": round(1000 * statistics.median(wall for wall, _ in values[1:]), 1),
            "least": round(1000 * min(wall for wall, _ in values[1:]), 1),
            "processor": round(1000 * min(used for _, used in values[1:]), 1),
        }
        for name, values in times.items()
    }


def _one_step(parts: RunParts, batches: BatchMaker, step: int) -> dict[str, Seconds]:
    """Do one step in pieces; the gradient is passed on by hand, so that its parts can be timed."""
    method, optimizer = parts.method, parts.optimizer
    seconds: dict[str, Seconds] = {}
    batch, seconds["sampling"] = _timed(
        lambda: batches.complete(next(batches.draw(step)), device=_CPU)
    )
    optimizer.zero_grad()
    nodes = batch.nodes(method.encoder.num_users)
    rows, seconds["propagation_forward"] = _timed(lambda: method.encoder(GraphView(nodes)))
    inner = rows.detach().requires_grad_()
    (loss, _), seconds["loss_forward"] = _timed(lambda: method.ranking(batch.ranked(inner)))
    _, seconds["loss_backward"] = _timed(loss.backward)
    _, seconds["propagation_backward"] = _timed(lambda: rows.backward(_gradient(inner)))
    _, seconds["optimiser"] = _timed(optimizer.step)
    return seconds


def _plain_step(parts: RunParts, step: int) -> None:
    batch = parts.batches.complete(next(parts.batches.draw(step)), device=_CPU)
    parts.optimizer.zero_grad()
    parts.method(batch).loss.backward()
    parts.optimizer.step()


def _gradient(rows: Tensor) -> Tensor:
    if rows.grad is None:
        raise AssertionError("no gradient has come")
    return rows.grad


def _timed(work: Callable[[], Any]) -> tuple[Any, Seconds]:
    wall, processor = time.perf_counter(), time.process_time()
    result = work()
    return result, (time.perf_counter() - wall, time.process_time() - processor)


def _dataset(source: Path, out: Path) -> Dataset:
    config = IngestConfig(test=(source / "test.txt",))
    with Progress("ingest", unit="lines") as progress:
        ingest([source / "train.txt"], config, out, progress)
    return open_dataset(out)


if __name__ == "__main__":
    main()
