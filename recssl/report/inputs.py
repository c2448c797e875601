"""All that a report is made of, read from the folders of a run and of its data set."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recssl.dataset import Dataset, is_dataset, open_dataset
from recssl.errors import DatasetError
from recssl.report.results import Results, read_results
from recssl.run_folder import Embeddings, RunFolder
from recssl.settings.train import TrainConfig
from sslcore.errors import CheckpointError, ConfigError
from sslcore.report.run_files import read_log, read_tree

_NO_METRICS = "This run has not been measured yet: recssl evaluate writes metrics.json."
_NO_EMBEDDINGS = "The embeddings of the run are missing or damaged: train it to the end first."


@dataclass(frozen=True, slots=True)
class Inputs:
    """What was found; a part that is missing is None or empty, and `missing` says why.

    Attributes:
        dataset: Of the run, if it is still there.
        log: One record per step.
        health: One record per check of the embeddings.
        config: Of the run, checked.
        configs: Title to the content of each configuration file.
        results: What evaluation measured.
        embeddings: Users and items.
        missing: `dataset`, `results` or `embeddings` to a sentence for the reader.
    """

    dataset: Dataset | None
    log: list[dict[str, Any]]
    health: list[dict[str, Any]]
    config: TrainConfig | None
    configs: Mapping[str, Mapping[str, Any]]
    results: Results | None
    embeddings: Embeddings | None
    missing: Mapping[str, str]


def read_inputs(run: Path, data: Path | None) -> Inputs:
    """Read what the folder of a run has to show.

    Args:
        run: Made by `recssl train`.
        data: The data set, if it is no longer where the run says.

    Raises:
        CheckpointError: The folder does not exist, or holds no run.
        DatasetError: `data` is given and is no data set, or not that of the run.
    """
    folder = RunFolder(run)
    if not run.is_dir():
        raise CheckpointError(f"{run}: no such folder; give one that recssl train made")
    if is_dataset(run):
        raise CheckpointError(
            f"{run} is a data set, not a run; give a folder that recssl train made from it"
        )
    if not folder.config.exists():
        raise CheckpointError(f"{run}: holds no config.yaml; give a folder that recssl train made")
    missing: dict[str, str] = {}
    config = _read_config(folder)
    embeddings = _read_embeddings(folder, missing)
    dataset = _find_dataset(data, config, embeddings, missing)
    configs = {"Training": read_tree(folder.config)}
    if dataset:
        configs["Data set"] = read_tree(dataset.folder / "config.yaml")
    return Inputs(
        dataset=dataset,
        log=read_log(folder.log),
        health=read_log(folder.health),
        config=config,
        configs={title: tree for title, tree in configs.items() if tree},
        results=_read_results(run / "metrics.json", embeddings, missing),
        embeddings=_fitting(embeddings, dataset, missing),
        missing=missing,
    )


def _read_config(folder: RunFolder) -> TrainConfig | None:
    try:
        return folder.read_config()
    except ConfigError:
        return None


def _read_embeddings(folder: RunFolder, missing: dict[str, str]) -> Embeddings | None:
    try:
        return folder.read_embeddings()
    except CheckpointError:
        missing["embeddings"] = _NO_EMBEDDINGS
        return None


def _read_results(
    path: Path, embeddings: Embeddings | None, missing: dict[str, str]
) -> Results | None:
    if not path.exists():
        missing["results"] = _NO_METRICS
        return None
    try:
        results = read_results(path)
    except DatasetError as error:
        missing["results"] = f"What recssl evaluate wrote can't be used: {error}."
        return None
    measured = results.ours.step
    if embeddings is None or measured in (None, embeddings.info.step):
        return results
    missing["results"] = (
        f"What recssl evaluate measured are the embeddings of step {measured}; the run went on, and"
        f" has those of step {embeddings.info.step} now: call recssl evaluate again."
    )
    return None


def _find_dataset(
    given: Path | None,
    config: TrainConfig | None,
    embeddings: Embeddings | None,
    missing: dict[str, str],
) -> Dataset | None:
    """Open the data set that was given, or the one the run names, if it is still the same."""
    expected = embeddings.info.fingerprint if embeddings else config and config.data.fingerprint
    if given:
        dataset = open_dataset(given)
        if expected not in (None, dataset.fingerprint):
            raise DatasetError(
                f"{given} has fingerprint {dataset.fingerprint}, the run was trained on {expected};"
                " give its own data set with --set data=DIR"
            )
        return dataset
    places = [Path(embeddings.info.data)] if embeddings else []
    places += [config.data.path] if config else []
    for place in places:
        try:
            dataset = open_dataset(place)
        except DatasetError:
            continue
        if expected in (None, dataset.fingerprint):
            return dataset
    missing["dataset"] = (
        "The data set of the run is no longer where it was, or has changed; name its place with"
        " --set data=DIR."
    )
    return None


def _fitting(
    embeddings: Embeddings | None, dataset: Dataset | None, missing: dict[str, str]
) -> Embeddings | None:
    if embeddings is None or dataset is None:
        return embeddings
    sizes = (len(embeddings.users), len(embeddings.items))
    if sizes == (dataset.num_users, dataset.num_items):
        return embeddings
    missing["embeddings"] = _NO_EMBEDDINGS
    return None
