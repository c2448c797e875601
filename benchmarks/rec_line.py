"""What the scripts share that measure the whole line by the commands a user types."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

NAMES = ("recall@10", "recall@20", "ndcg@10", "ndcg@20", "mrr@20", "hit_rate@20")


def command(name: str, *arguments: str | Path) -> None:
    """Run one command of recssl, or end the script with its error."""
    subprocess.run([sys.executable, "-m", "recssl.cli", name, *map(str, arguments)], check=True)


def line(folder: Path, ingest: list[str | Path], train: list[str], evaluate: list[str]) -> Any:
    """Ingest, train, evaluate; return what is worth keeping, without times.

    Args:
        folder: Empty; holds the data set and the run.
        ingest: Arguments of the command, less --out.
        train: Settings `key=value`; the others are the defaults.
        evaluate: Likewise.
    """
    data, run = folder / "data", folder / "run"
    command("ingest", *ingest, "--out", data)
    command("train", data, "--out", run, *_settings(train))
    command("evaluate", run, *_settings(evaluate))
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    facts = json.loads((data / "dataset.json").read_text(encoding="utf-8"))
    checks = (run / "health.jsonl").read_text(encoding="utf-8").splitlines()
    return {
        "split": facts["split"],
        "counts": facts["counts"],
        "train_settings": train,
        "evaluate_settings": evaluate,
        "validation": [
            {key: check.get(key) for key in ("step", "recall@20", "ndcg@20")}
            for check in map(json.loads, checks)
        ],
        "protocol": metrics["protocol"],
        "models": [_kept(model) for model in metrics["models"]],
        "comparisons": [
            {
                "model": pair["model"],
                "against": pair["against"],
                "differences": {name: pair["differences"][name] for name in NAMES},
            }
            for pair in metrics["comparisons"]
        ],
        "left_out": metrics["left_out"],
    }


def _settings(wishes: list[str]) -> list[str]:
    return [part for wish in wishes for part in ("--set", wish)]


def _kept(model: dict[str, Any]) -> dict[str, Any]:
    kept = ("name", "method", "settings", "chosen_by", "tried", "fitted_on", "new_users", "step")
    found = {key: model[key] for key in kept if key in model}
    return found | {"metrics": {name: model["metrics"][name] for name in NAMES}}
