"""The recipes of the LightGCN splits beside recipes that differ in one setting, on validation.

Run: python benchmarks/rec_settings.py [gowalla] [yelp2018]

Only `train.txt` is read. It is filtered to its 10-core, as the whole was before it was split, and
20 % of each user's items are validation, as they were test. All recipes are shortened to few
epochs. Recipes that were measured are kept, so a run that was stopped goes on.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from rec_line import command
from record import HERE, data_folder, keep

EPOCHS = {"gowalla": 3, "yelp2018": 2}
CUT = ("min_per_user=10", "min_per_item=10", "split.name=random", "split.valid=0.2")
TRIED: dict[str, tuple[Any, ...]] = {
    "encoder.layers": (1, 3),
    "encoder.start": ("random",),
    "readout.weight": (0.1, 0.4),
    "readout.layers": (0,),
    "readout.popularity": (0.0,),
    "run.batch_size": (2048, 8192),
}
FACTORS = {"ranking.temperature": (0.7, 1.3), "optim.learning_rate": (0.5, 2.0)}


def main() -> None:
    """Measure the data sets named on the command line, or both."""
    for name in sys.argv[1:] or ("gowalla", "yelp2018"):
        with tempfile.TemporaryDirectory() as folder:
            measure(name, Path(folder))


def measure(name: str, folder: Path) -> None:
    """Train each recipe that is not yet in the result."""
    recipe = HERE.parent / "configs" / "rec" / f"{name}_lightgcn_softmax.yaml"
    result = f"rec_settings_{name}"
    text = recipe.read_text(encoding="utf-8")
    recipes = _kept(HERE / "results" / f"{result}.json", text, EPOCHS[name])
    log, data = data_folder(f"rec_{name}") / "train.txt", folder / "data"
    cut = [part for wish in (*CUT, "split.test=0.01") for part in ("--set", wish)]
    command("ingest", log, "--out", data, *cut)
    for changed in _changes(yaml.safe_load(text)):
        if changed in [each["changed"] for each in recipes]:
            continue
        run = folder / f"run{len(recipes)}"
        sets = (f"run.epochs={EPOCHS[name]}", *(f"{key}={value}" for key, value in changed.items()))
        wishes = [part for wish in sets for part in ("--set", wish)]
        command("train", data, "--config", recipe, "--out", run, *wishes)
        recipes.append({"changed": changed, "validation": _best(run)})
        kept = {"recipe": text, "cut": CUT, "epochs": EPOCHS[name], "recipes": recipes}
        keep(result, kept)


def _changes(recipe: dict[str, Any]) -> list[dict[str, Any]]:
    changes: list[dict[str, Any]] = [{}]
    for key, values in TRIED.items():
        changes += [{key: value} for value in values]
    for key, factors in FACTORS.items():
        section, name = key.split(".")
        changes += [{key: round(recipe[section][name] * factor, 4)} for factor in factors]
    return changes


def _best(run: Path) -> dict[str, float]:
    """Return the best of the checks, as early stopping does."""
    lines = (run / "health.jsonl").read_text(encoding="utf-8").splitlines()
    best = max(map(json.loads, lines), key=lambda check: float(check["recall@20"]))
    return {name: best[name] for name in ("step", "recall@20", "ndcg@20")}


def _kept(path: Path, recipe: str, epochs: int) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    found = json.loads(path.read_text(encoding="utf-8"))
    if found["recipe"] != recipe or found["epochs"] != epochs:
        return []
    recipes: list[dict[str, Any]] = found["recipes"]
    return recipes


if __name__ == "__main__":
    main()
