"""From a run, data and masks to images with a mask and a part."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from medssl.config import SegmentConfig
from medssl.errors import DataError
from medssl.fewlabels.cohort import part_of_rows, pretrained_on
from medssl.fewlabels.groups import IntArray
from medssl.fewlabels.leakage import Leakage, close_leaks
from medssl.fewlabels.split import Split, keep_rows, split_samples
from medssl.manifest import Manifest, read_manifest
from medssl.masks.read import Classes, MaskReader, Survey
from medssl.run_data import open_data, tell_burned_in, usable_images
from medssl.run_folder import RunFolder
from medssl.volumes.samples import as_samples
from sslcore.console import Progress


@dataclass(frozen=True, slots=True)
class MaskedCohort:
    """Images with masks, and their parts.

    Attributes:
        manifest: Rows whose mask can be used.
        masks: Reader of these rows.
        classes: What masks hold.
        cases: Number of the case of every row: a volume, or an image of none.
        split: Rows of the parts; copies of test images are in none.
        leakage: What crossed the parts.
        notes: What a reader of the numbers has to know.
    """

    manifest: Manifest
    masks: MaskReader
    classes: Classes
    cases: IntArray
    split: Split
    leakage: Leakage
    notes: tuple[str, ...]

    def named(self, cases: IntArray) -> tuple[list[str], list[str | None]]:
        """Return name and patient of cases."""
        _, first = np.unique(self.cases, return_index=True)
        rows = self.manifest.rows[first[cases].tolist()]
        return _case_names(rows).to_list(), rows["patient"].to_list()

    def readable_only(self, readable: IntArray) -> "MaskedCohort":
        """Leave the images out of the parts that cannot be read any more.

        Raises:
            DataError: A part lost all of its images.
        """
        split = keep_rows(self.split, readable)
        _require_cases(split)
        lost = len(self.manifest) - len(readable)
        note = f"{lost} images could not be read any more, or their masks: left out"
        return replace(self, split=split, notes=(*self.notes, *([note] if lost else [])))

    def with_parts(self) -> Manifest:
        """Return the manifest with `split` as it was used; null for what was left out."""
        column = part_of_rows(self.split, len(self.manifest))
        return replace(self.manifest, rows=self.manifest.rows.with_columns(column))


def gather_cohort(
    run: RunFolder, config: SegmentConfig, data: Path | None, progress: Progress
) -> MaskedCohort:
    """Read the data, look into every mask, and split.

    Args:
        run: Folder of the pretraining.
        config: Which structures, and how to split.
        data: Manifest, or folder; by default what the run was pretrained on.
        progress: Of a scan, and of the masks.

    Raises:
        DataError: Data, masks or split cannot be worked with; the message has the way out.
    """
    settings = run.read_config().data
    given = read_manifest(run.manifest) if data is None else open_data(data, progress=progress)
    every = usable_images(as_samples(given, settings.dims, settings.slab), settings)
    masked = every.where(pl.col("masks").is_not_null())
    hidden = tell_burned_in(given, settings)
    if not len(masked):
        raise DataError(
            f"none of the {len(every)} images has a mask: scan with --masks, such as --masks"
            " '{folder}/{stem}_mask.png', or a folder that holds DICOM segmentations of its series,"
            " and give the manifest with --data"
            + (f"; {hidden} when pretraining" if hidden else "")
        )
    reader = MaskReader(masked, config.structures, binary=config.binary, known=given.rows)
    survey = reader.survey(progress)
    usable = [row for row, found in enumerate(survey.present) if found is not None]
    reader.keep(usable)
    used = replace(masked, rows=masked.rows[usable])
    rows = used.rows.with_columns(label=pl.lit("mask"))  # all alike, as the split sees them
    split = split_samples(
        rows,
        how=config.split,
        test_share=config.test_share,
        val_share=config.val_share,
        seed=config.seed,
    )
    split, leakage = close_leaks(rows, split, pretrained_on=pretrained_on(run, settings))
    _require_cases(split)
    _, cases = np.unique(_case_names(used.rows).to_numpy(), return_inverse=True)
    notes = [*split.notes, *_notes(survey, len(every) - len(masked), len(every))]
    notes += _missing(split, [found for found in survey.present if found is not None], survey)
    if hidden:
        notes.append(f"{hidden} when pretraining")
    return MaskedCohort(
        used, reader, survey.classes, cases.astype(np.int64), split, leakage, tuple(notes)
    )


def _case_names(rows: pl.DataFrame) -> pl.Series:
    return rows.select(pl.coalesce("volume", "sample").alias("case"))["case"]


def _require_cases(split: Split) -> None:
    for part, members in split.parts().items():
        if not len(members):
            raise DataError(f"no image with a mask in the {part} part; try another --seed")


def _notes(survey: Survey, without: int, total: int) -> list[str]:
    notes = [f"{without} of {total} images have no mask: left out"] if without else []
    notes += [
        f"{count} image(s) left out, whose mask cannot be used: {detail}"
        for detail, count in survey.failures.items()
    ]
    if survey.loose:
        notes.append(f"{survey.loose} frames or contours of DICOM objects are in no image")
    return notes


def _missing(split: Split, present: list[frozenset[int]], survey: Survey) -> list[str]:
    """Say which classes a part lacks: nobody can learn them there, or be judged by them."""
    classes = survey.classes
    return [
        f"no mask of the {part} part holds {name}"
        for part, members in split.parts().items()
        for name, values in zip(classes.names, classes.values, strict=True)
        if not any(present[row] & set(values) for row in members.tolist())
    ]
