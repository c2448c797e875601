"""What pretraining is worth on the demo's invented hospitals, by seed.

Run: python benchmarks/demo_seeds.py [SEED ...]
The demo as anybody runs it, on other hospitals than the one it shows; the settings were chosen with
hospital 2 and 3 in sight.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from record import keep

SEEDS = (0, 5, 6, 7)
MODELS = ("knn", "linear_probe", "scratch", "untrained_probe", "pixels_probe")


def main() -> None:
    """Run the demo for the seeds named on the command line, or for all."""
    rows = []
    for seed in map(int, sys.argv[1:] or SEEDS):
        with tempfile.TemporaryDirectory() as folder:
            rows.append({"seed": seed, **measure(seed, Path(folder) / "demo")})
    keep("demo_seeds", {"hospitals": rows})


def measure(seed: int, out: Path) -> dict[str, Any]:
    """Run one demo, and return the AUROC of each model for each number of labels."""
    command = [sys.executable, "-m", "medssl.cli", "demo", "--out", str(out), "--seed", str(seed)]
    subprocess.run(command, check=True)
    metrics = json.loads((out / "results" / "metrics.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = {}
    for row in metrics["results"]:
        labels = found.setdefault(row["labels"], {})
        labels["learnt_from"], labels["chosen_by"] = row["num_labels"], row["num_val_labels"]
        if row["model"] in MODELS:
            labels[row["model"]] = row["metrics"]["auroc"]
    return {"test": metrics["data"]["test"], "auroc": found}


if __name__ == "__main__":
    main()
