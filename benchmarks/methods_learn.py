"""Every method on one task with one budget: does it learn, does it collapse, what does it cost?

Run: python benchmarks/methods_learn.py [METHOD ...]
PneumoniaMNIST with the recipe of few_labels.py, shorter; a transformer where a method hides
patches. Beside each method stands the encoder before its first step: leave-one-out kNN on 512
images; probes with all labels on the test images. Named methods alone are measured anew; a method
that diverges or collapses is recorded as such.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from record import HERE, data_folder, keep

from sslcore.methods.registry import CONFIGS, METHODS

RECIPE = HERE.parent / "configs" / "med" / "small_radiographs_simclr.yaml"
EPOCHS = 6
TRANSFORMER = (  # the recipe's numbers are those of a convolutional network
    "backbone.name=vit_tiny",
    "backbone.width=null",
    "optim.learning_rate=null",
    "views.strength=null",
)
MASKED = {each.model_fields["name"].default for each in CONFIGS if each.needs_tokens}


def main() -> None:
    """Measure the methods named on the command line, or all, and keep the table after each."""
    source = data_folder("medmnist_pneumonia") / "pneumoniamnist.npz"
    rows = _earlier() if sys.argv[1:] else {}
    for method in sys.argv[1:] or METHODS:
        with tempfile.TemporaryDirectory() as folder:
            try:
                rows[method] = measure(method, source, Path(folder))
            except subprocess.CalledProcessError as error:
                rows[method] = {"failed": error.returncode}
        keep("methods_learn", {"recipe": RECIPE.name, "epochs": EPOCHS, "methods": rows})


def _earlier() -> dict[str, Any]:
    file = HERE / "results" / "methods_learn.json"
    rows: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["methods"]
    return rows


def measure(method: str, source: Path, folder: Path) -> dict[str, Any]:
    """Pretrain and evaluate one method with its own defaults."""
    run, result = folder / "run", folder / "result"
    _medssl(
        *("pretrain", source, "--config", RECIPE, "--out", run),
        *("--method", method, "--epochs", EPOCHS),
        *(word for value in TRANSFORMER if method in MASKED for word in ("--set", value)),
    )
    _medssl("finetune", run, "--out", result, "--fraction", 1, "--set", "steps=1")
    health = [json.loads(line) for line in (run / "health.jsonl").read_text().splitlines()]
    steps = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    metrics = json.loads((result / "metrics.json").read_text(encoding="utf-8"))
    return {
        "knn_leave_one_out": {"untrained": health[0]["knn"], "trained": health[-1]["knn"]},
        "effective_rank": {
            "untrained": health[0]["effective_rank"],
            "trained": health[-1]["effective_rank"],
        },
        "spread": {"untrained": health[0]["spread"], "trained": health[-1]["spread"]},
        "samples_per_second": sorted(step["samples_per_second"] for step in steps)[len(steps) // 2],
        "test_auroc": {
            row["model"]: row["metrics"]["auroc"]
            for row in metrics["results"]
            if row["model"] in ("knn", "linear_probe", "untrained_probe", "pixels_probe")
        },
    }


def _medssl(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "medssl.cli", *map(str, arguments)], check=True)


if __name__ == "__main__":
    main()
