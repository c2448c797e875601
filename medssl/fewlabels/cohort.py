"""From a run, data and labels to images with a class and a part."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from medssl.config import DataConfig, FinetuneConfig
from medssl.errors import DataError
from medssl.fewlabels.folds import fold_rows
from medssl.fewlabels.leakage import Leakage, close_leaks
from medssl.fewlabels.metrics import IntArray
from medssl.fewlabels.split import Split, keep_rows, require_every_class, split_rows
from medssl.identity import load_site_key
from medssl.labels import Labelled, folder_labels, join_labels
from medssl.manifest import Manifest, read_manifest
from medssl.run_data import open_data, tell_burned_in, training_rows, usable_images
from medssl.run_folder import RunFolder
from medssl.volumes.samples import samples_of
from sslcore.console import Progress


@dataclass(frozen=True, slots=True)
class Cohort:
    """Labelled images and their parts.

    Attributes:
        manifest: Rows with a label only.
        classes: Their labels, sorted.
        splits: Rows of the parts; copies of test images are in none. Several where there are
            folds.
        leakage: What crossed the parts.
        notes: What a reader of the numbers has to know.
    """

    manifest: Manifest
    classes: tuple[str, ...]
    splits: tuple[Split, ...]
    leakage: Leakage
    notes: tuple[str, ...]

    @property
    def split(self) -> Split:
        """The split, or the first of several."""
        return self.splits[0]

    @property
    def tested(self) -> IntArray:
        """Rows that any split tests on, ascending."""
        return np.unique(np.concatenate([split.test for split in self.splits]))

    @property
    def described(self) -> Split:
        """Train and val of the first split, and all that any split tests on."""
        return replace(self.split, test=self.tested)

    def readable_only(self, readable: IntArray) -> "Cohort":
        """Leave out the images that could not be read.

        Raises:
            DataError: A part lost a class by it.
        """
        splits = tuple(keep_rows(split, readable) for split in self.splits)
        for split in splits:
            require_every_class(self.manifest.rows, split, self.classes)
        lost = len(self.manifest) - len(readable)
        notes = [f"{lost} labelled images could not be read: left out"] if lost else []
        return replace(self, splits=splits, notes=(*self.notes, *notes))

    def noting(self, note: str | None) -> "Cohort":
        """Add a note; None adds nothing."""
        return replace(self, notes=(*self.notes, note)) if note else self

    def with_parts(self) -> Manifest:
        """Return the manifest with `split` as it was used; null for what was left out.

        With folds every image that was tested is in the test part, although it trained others.
        """
        column = part_of_rows(self.described, len(self.manifest))
        return replace(self.manifest, rows=self.manifest.rows.with_columns(column))


def part_of_rows(split: Split, count: int) -> pl.Series:
    """Return the column `split` of so many rows; null for what is in no part."""
    parts: list[str | None] = [None] * count
    for part, members in split.parts().items():
        for row in members.tolist():
            parts[row] = part
    return pl.Series("split", parts, dtype=pl.String)


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
    given = read_manifest(run.manifest) if data is None else open_data(data, progress=progress)
    found, unused = _label(given, config)
    manifest = samples_of(found, settings)
    every = usable_images(manifest, settings)
    labelled = every.where(pl.col("label").is_not_null())
    hidden = tell_burned_in(manifest, settings)
    if not len(labelled):
        if hidden and not len(every):
            raise DataError(f"no image remains: {hidden} when pretraining")
        raise DataError(
            f"none of the {len(every)} images has a label; give --labels labels.csv or"
            " --class-folders"
        )
    learnt = pretrained_on(run, settings)
    splits, leakage, about = _split(labelled.rows, config, learnt)
    _require_unseen_labels(run, leakage)
    classes = sorted_classes(labelled.rows["label"])
    for split in splits:
        require_every_class(labelled.rows, split, classes)
    without = len(every) - len(labelled)
    notes = [f"{without} of {len(every)} images have no label: left out"] if without else []
    if unused:
        notes.append(f"{unused} names in the table of labels fit no image")
    if hidden:
        notes.append(f"{hidden} when pretraining")
    return Cohort(labelled, classes, splits, leakage, (*notes, *about))


def _require_unseen_labels(run: RunFolder, leakage: Leakage) -> None:
    """Refuse to test an encoder on images whose labels it learnt from."""
    method = run.read_config().method
    if method.uses_labels and leakage.test_seen_in_pretraining:
        raise DataError(
            f"{method.about.title} learnt from labels, and {leakage.test_seen_in_pretraining} test"
            " images were among those it saw: the numbers would mean nothing; scan with a split,"
            " of which pretraining leaves the test part out, or pretrain with another method"
        )


def sorted_classes(labels: pl.Series) -> tuple[str, ...]:
    """Sort names, and numbers by their value."""
    names = labels.unique().to_list()
    if all(name.isdecimal() for name in names):
        return tuple(sorted(names, key=int))
    return tuple(sorted(names))


def _split(
    rows: pl.DataFrame, config: FinetuneConfig, learnt: Collection[str]
) -> tuple[tuple[Split, ...], Leakage, tuple[str, ...]]:
    """Return one split or those of the folds, what crosses them, and notes."""
    if config.folds == 1:
        split = split_rows(
            rows,
            how=config.split,
            test_share=config.test_share,
            val_share=config.val_share,
            seed=config.seed,
        )
        split, leakage = close_leaks(rows, split, pretrained_on=learnt)
        return (split,), leakage, split.notes
    splits = fold_rows(
        rows,
        how=config.split,
        folds=config.folds,
        rounds=config.repeats,
        val_share=config.val_share,
        seed=config.seed,
    )
    none = np.empty(0, np.int64)
    tested = Split(none, none, np.arange(len(rows)), splits[0].how)
    _, leakage = close_leaks(rows, tested, pretrained_on=learnt)  # folds keep copies together
    note = (
        f"{config.repeats} x {config.folds} folds by {tested.how}: each image is tested in one"
        f" fold of every round, by models that learnt from none of its {tested.how}; the train and"
        " val parts named are those of the first fold"
    )
    return splits, leakage, (note,)


def _label(manifest: Manifest, config: FinetuneConfig) -> Labelled:
    """Take labels from where they were asked from, else those of the manifest."""
    if config.labels is not None:
        return join_labels(manifest, config.labels, load_site_key())
    if config.class_folders:
        names = folder_labels(manifest.rows["path"].to_list())
        column = pl.Series("label", names, dtype=pl.String)
        return Labelled(replace(manifest, rows=manifest.rows.with_columns(column)))
    return Labelled(manifest)


def pretrained_on(run: RunFolder, settings: DataConfig) -> set[str]:
    """Return the content of the images that pretraining saw; the images may have moved since."""
    manifest = read_manifest(run.manifest, root=run.path)
    return set(training_rows(manifest, settings).rows["content"].drop_nulls())
