"""Embeddings on the splits of LightGCN, by the commands a user types.

Run: python benchmarks/rec_lightgcn_splits.py [gowalla] [yelp2018]

The recipe's settings were chosen on a part cut from train: see the head of each recipe. Here it is
trained once on the rest, to show the validation numbers, then on all of train, and the test part is
looked at once.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rec_line import command
from record import HERE, data_folder, keep

RECIPES = HERE.parent / "configs" / "rec"
NAMES = ("recall@20", "ndcg@20")


def main() -> None:
    """Measure the data sets named on the command line, or both."""
    for name in sys.argv[1:] or ("gowalla", "yelp2018"):
        with tempfile.TemporaryDirectory() as folder:
            keep(f"rec_lightgcn_splits_{name}", measure(name, Path(folder)))


def measure(name: str, folder: Path) -> dict[str, Any]:
    """Ingest, train twice, evaluate."""
    source = data_folder(f"rec_{name}")
    recipe = RECIPES / f"{name}_lightgcn_softmax.yaml"
    data, chosen, final = (folder / part for part in ("data", "chosen", "final"))
    seconds = {
        "ingest": _timed(
            "ingest", source / "train.txt", "--test", source / "test.txt", "--out", data
        )
    }
    options = ("--config", recipe, "--out")
    seconds["train"] = _timed("train", data, *options, chosen)
    all_of_it = ("--set", "data.learn_from=train+valid")
    seconds["train_on_all"] = _timed("train", data, *options, final, *all_of_it)
    seconds["evaluate"] = _timed("evaluate", final, "--set", "baselines.names=[]")
    metrics = json.loads((final / "metrics.json").read_text(encoding="utf-8"))
    checks = (chosen / "health.jsonl").read_text(encoding="utf-8").splitlines()
    steps = (final / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return {
        "recipe": recipe.read_text(encoding="utf-8"),
        "seconds": seconds,
        "steps": len(steps),
        "validation": [{key: json.loads(line)[key] for key in ("step", *NAMES)} for line in checks],
        "protocol": metrics["protocol"],
        "test": metrics["models"][0],
    }


def _timed(name: str, *arguments: str | Path) -> float:
    start = time.perf_counter()
    command(name, *arguments)
    return round(time.perf_counter() - start, 1)


if __name__ == "__main__":
    main()
