"""Name the class of each image of a folder, with a classifier that fine-tuning left."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl
import torch

from medssl.config import EmbedConfig
from medssl.embed import KNOWN
from medssl.errors import DataError
from medssl.fewlabels.classifier import Trained, load_classifier
from medssl.fewlabels.probe import decide
from medssl.manifest import Manifest
from medssl.run_data import open_data
from medssl.volumes.samples import samples_of
from sslcore.console import Progress
from sslcore.device import choose_device
from sslcore.tables import require_parquet, require_replaceable, write_parquet

_COLUMNS = (*KNOWN, "predicted", "probabilities", "part")


@dataclass(frozen=True, slots=True)
class PredictResult:
    """What was written.

    Attributes:
        counts: Images by the class decided on.
        learnt: Images that the classifier learnt from.
        failures: Images that could not be read any more.
    """

    counts: dict[str, int]
    learnt: int
    failures: int


def predict(results: Path, data: Path, out: Path, config: EmbedConfig) -> PredictResult:
    """Write `predicted` and `probabilities` of all images of `data`, beside what is known of them.

    `part` is train or val for an image that the classifier learnt from: there it says little.

    Args:
        results: Folder that fine-tuning or distillation made.
        data: Folder, manifest.parquet or MedMNIST archive.
        out: Parquet file. The manifest of a folder is kept beside it, as `OUT.manifest.parquet`.
        config: Settings.

    Raises:
        OutputError: `out` exists and is something else than such a table.
        SSLError: There is no classifier, or the data cannot be used.
    """
    if not results.is_dir():
        raise DataError(f"{results}: no such folder; give one of finetune, distill or segment")
    require_replaceable(out, _COLUMNS, "table of predictions")
    require_parquet(out)
    classifier = load_classifier(results, device=torch.device(choose_device(config.device)))
    found = open_data(data, scanned_to=out.with_suffix(".manifest.parquet"))
    manifest = samples_of(found, classifier.encoder.spec)
    with Progress("predict") as progress:
        table, failures = prediction_table(classifier, manifest, config.batch_size, progress)
        if failures:
            progress.note(f"{failures} images could not be read and are left out")
        learnt = len(table) - table["part"].null_count()
        if learnt:
            progress.note(
                f"the classifier learnt from {learnt} of these images (column part): what it says"
                " about them tells nothing about how good it is"
            )
    write_parquet(table, out)
    counts = dict(table["predicted"].value_counts().sort("predicted").iter_rows())
    return PredictResult(counts, learnt, failures)


def prediction_table(
    classifier: Trained, manifest: Manifest, batch_size: int, progress: Progress | None = None
) -> tuple[pl.DataFrame, int]:
    """Return one row per readable image, in the manifest's order, and how many were not."""
    found = classifier.encoder.encode(manifest, batch_size=batch_size, progress=progress)
    chances = classifier.probe.probabilities(found.values)
    decided = decide(chances, classifier.shares)
    table = manifest.rows[found.rows.tolist()].select(KNOWN)
    learnt = classifier.learnt.select("sample", "part")
    return table.with_columns(
        pl.Series("predicted", [classifier.classes[code] for code in decided]),
        pl.Series("probabilities", chances.tolist(), dtype=pl.List(pl.Float64)),
    ).join(learnt, on="sample", how="left", maintain_order="left"), len(found.failures)
