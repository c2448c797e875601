"""All that a report is made of, read from the folders of a run and of its results."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from medssl.config import PretrainConfig
from medssl.errors import DataError
from medssl.manifest import Manifest, read_manifest, rejected_path
from medssl.report.results import Results, read_results
from medssl.volumes.samples import samples_of
from sslcore.config import resolve_config
from sslcore.errors import ConfigError
from sslcore.report.run_files import read_log, read_tree

METRICS = "metrics.json"
LOG = "log.jsonl"
CONFIG = "config.yaml"
MANIFEST = "manifest.parquet"
REJECTED = "rejected.parquet"

_PREDICTIONS = {"labels", "model", "draw", "sample", "label", "probabilities"}
_EMBEDDINGS = {"sample", "patient", "label", "split", "embedding"}


@dataclass(frozen=True, slots=True)
class Inputs:
    """What was found; a part that is missing is None or empty.

    Attributes:
        folder: What the report is about.
        run: Folder of the pretraining run.
        manifest: Of the images that the run was given.
        has_images: Whether the folder with these images is still where the manifest says.
        gallery: The images that the embeddings are of, if their folder is still there.
        rejected: Files that were set aside.
        log: One record per step.
        health: One record per check of the embeddings.
        config: Of the run, checked.
        configs: Title to the content of each configuration file.
        results: What fine-tuning measured.
        predictions: Of the test images.
        embeddings: Of all images.
    """

    folder: Path
    run: Path | None
    manifest: Manifest | None
    has_images: bool
    gallery: Manifest | None
    rejected: pl.DataFrame | None
    log: list[dict[str, Any]]
    health: list[dict[str, Any]]
    config: PretrainConfig | None
    configs: Mapping[str, Mapping[str, Any]]
    results: Results | None
    predictions: pl.DataFrame | None
    embeddings: pl.DataFrame | None


def read_inputs(folder: Path) -> Inputs:
    """Read what `folder`, made by `medssl finetune` or `medssl pretrain`, has to show.

    Raises:
        DataError: The folder does not exist, holds neither, or its `metrics.json` is damaged.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give one that medssl finetune or pretrain made")
    if (folder / METRICS).exists():
        results = read_results(folder / METRICS)
        return _collect(folder, _find_run(folder, results.run), results)
    if (folder / CONFIG).exists() and (folder / LOG).exists():
        return _collect(folder, folder, None)
    raise DataError(
        f"{folder}: holds neither {METRICS} (from medssl finetune) nor {CONFIG} and {LOG}"
        " (from medssl pretrain)"
    )


def _collect(folder: Path, run: Path | None, results: Results | None) -> Inputs:
    manifest, has_images = _read_manifest(run and run / MANIFEST)
    labelled, has_labelled = _read_manifest(folder / MANIFEST)
    config = _read_config(run)
    configs = {"Pretraining": read_tree(run / CONFIG) if run else {}}
    if results:
        configs["Few labels"] = read_tree(folder / CONFIG)
    return Inputs(
        folder=folder,
        run=run,
        manifest=manifest,
        has_images=has_images,
        gallery=_gallery(labelled if has_labelled else manifest if has_images else None, config),
        rejected=_read_rejected(run, config),
        log=read_log(run / LOG) if run else [],
        health=read_log(run / "health.jsonl") if run else [],
        config=config,
        configs={title: tree for title, tree in configs.items() if tree},
        results=results,
        predictions=_read_table(folder / "predictions.parquet", _PREDICTIONS),
        embeddings=_read_table(folder / "embeddings.parquet", _EMBEDDINGS),
    )


def _gallery(manifest: Manifest | None, config: PretrainConfig | None) -> Manifest | None:
    """Return what pictures are taken from: of volumes and patches their middle slices."""
    if manifest is None or config is None or config.data.canvas is None:
        return manifest
    return samples_of(manifest, config.data)


def _find_run(folder: Path, name: str) -> Path | None:
    """Look for the run as named, then from the results' own place, in case both have moved."""
    given = Path(name)
    places = (given, folder / given, folder.parent / given, folder.parent / given.name)
    return next((place for place in places if (place / CONFIG).is_file()), None)


def _read_manifest(path: Path | None) -> tuple[Manifest | None, bool]:
    if not path or not path.exists():
        return None, False
    try:
        return read_manifest(path), True
    except DataError:
        pass  # most often the images have moved; their table is still worth showing
    try:
        return read_manifest(path, root=path.parent), False
    except DataError:
        return None, False


def _read_config(run: Path | None) -> PretrainConfig | None:
    try:
        return resolve_config(PretrainConfig, file=run / CONFIG) if run else None
    except ConfigError:
        return None


def _read_rejected(run: Path | None, config: PretrainConfig | None) -> pl.DataFrame | None:
    """Read the list in the run, or beside the manifest that it was pretrained on."""
    table = _read_table(run and run / REJECTED, {"reason"})
    if table is None and config and config.data.path.suffix == ".parquet":
        return _read_table(rejected_path(config.data.path), {"reason"})
    return table


def _read_table(path: Path | None, columns: set[str]) -> pl.DataFrame | None:
    try:
        table = pl.read_parquet(path) if path else None
    except (OSError, pl.exceptions.PolarsError):
        return None
    return table if table is not None and columns <= set(table.columns) else None
