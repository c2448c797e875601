"""From a run, data and labels to images with a class and a part."""

from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from medssl.config import DataConfig, FinetuneConfig
from medssl.errors import DataError
from medssl.fewlabels.leakage import Leakage, close_leaks
from medssl.fewlabels.metrics import IntArray
from medssl.fewlabels.split import Split, keep_rows, require_every_class, split_rows
from medssl.identity import load_site_key
from medssl.labels import folder_labels, join_labels
from medssl.manifest import Manifest, read_manifest
from medssl.run_data import open_data, training_rows
from medssl.run_folder import RunFolder
from sslcore.console import Progress


@dataclass(frozen=True, slots=True)
class Cohort:
    """Labelled images and their parts.

    Attributes:
        manifest: Rows with a label only.
        classes: Their labels, sorted.
        split: Rows of the parts; copies of test images are in none.
        leakage: What crossed the parts.
        notes: What a reader of the numbers has to know.
    """

    manifest: Manifest
    classes: tuple[str, ...]
    split: Split
    leakage: Leakage
    notes: tuple[str, ...]

    def readable_only(self, readable: IntArray) -> "Cohort":
        """Leave out the images that could not be read.

        Raises:
            DataError: A part lost a class by it.
        """
        split = keep_rows(self.split, readable)
        require_every_class(self.manifest.rows, split, self.classes)
        lost = len(self.manifest) - len(readable)
        notes = [f"{lost} labelled images could not be read: left out"] if lost else []
        return replace(self, split=split, notes=(*self.notes, *notes))

    def with_parts(self) -> Manifest:
        """Return the manifest with `split` as it was used; null for what was left out."""
        parts: list[str | None] = [None] * len(self.manifest)
        for part, members in self.split.parts().items():
            for row in members.tolist():
                parts[row] = part
        column = pl.Series("split", parts, dtype=pl.String)
        return replace(self.manifest, rows=self.manifest.rows.with_columns(column))


def gather_cohort(
    run: RunFolder, config: FinetuneConfig, data: Path | None, progress: Progress
) -> Cohort:
    """Read, label and split the data.

    Args:
        run: Folder of the pretraining.
        config: Where labels come from, and how to split.
        data: Manifest, folder or MedMNIST archive; by default what the run was pretrained on.
        progress: Of a scan.

    Raises:
        DataError: Data, labels or split cannot be worked with; the message has the way out.
    """
    settings = run.read_config().data
    manifest = read_manifest(run.manifest) if data is None else open_data(data, progress=progress)
    excluded = pl.col("modality").is_in(list(settings.exclude_modalities))
    every = _label(manifest.where(~excluded.fill_null(value=False)), config)
    labelled = every.where(pl.col("label").is_not_null())
    if not len(labelled):
        raise DataError(
            f"none of the {len(every)} images has a label; give --labels labels.csv or"
            " --class-folders"
        )
    split = split_rows(
        labelled.rows,
        how=config.split,
        test_share=config.test_share,
        val_share=config.val_share,
        seed=config.seed,
    )
    learnt = _pretrained_on(run, settings)
    split, leakage = close_leaks(labelled.rows, split, pretrained_on=learnt)
    classes = sorted_classes(labelled.rows["label"])
    require_every_class(labelled.rows, split, classes)
    without = len(every) - len(labelled)
    notes = [f"{without} of {len(every)} images have no label: left out"] if without else []
    return Cohort(labelled, classes, split, leakage, (*notes, *split.notes))


def sorted_classes(labels: pl.Series) -> tuple[str, ...]:
    """Sort names, and numbers by their value."""
    names = labels.unique().to_list()
    if all(name.isdecimal() for name in names):
        return tuple(sorted(names, key=int))
    return tuple(sorted(names))


def _label(manifest: Manifest, config: FinetuneConfig) -> Manifest:
    """Take labels from where they were asked from, else those of the manifest."""
    if config.labels is not None:
        return join_labels(manifest, config.labels, load_site_key())
    if config.class_folders:
        names = folder_labels(manifest.rows["path"].to_list())
        column = pl.Series("label", names, dtype=pl.String)
        return replace(manifest, rows=manifest.rows.with_columns(column))
    return manifest


def _pretrained_on(run: RunFolder, settings: DataConfig) -> set[str]:
    """Return the content of the images that pretraining saw; the images may have moved since."""
    manifest = read_manifest(run.manifest, root=run.path)
    return set(training_rows(manifest, settings).rows["content"].drop_nulls())
