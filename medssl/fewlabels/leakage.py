"""Whether anything of the test images was there to be learnt."""

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from medssl.fewlabels.groups import IntArray
from medssl.fewlabels.split import Split, patients_on_two_sides


@dataclass(frozen=True, slots=True)
class Leakage:
    """What crosses the borders of the split.

    Attributes:
        patients_across_splits: Patients with images in more than one part.
        duplicates_across_splits: Images of train or val that were left out, because their exact
            pixels are also in a later part (val, test).
        conflicting_duplicates: Groups of equal images that carry different labels.
        test_seen_in_pretraining: Test images the encoder was pretrained on, without their labels.
        note: The same in words.
    """

    patients_across_splits: int
    duplicates_across_splits: int
    conflicting_duplicates: int
    test_seen_in_pretraining: int
    note: str


def close_leaks(
    rows: pl.DataFrame, split: Split, *, pretrained_on: Collection[str] = ()
) -> tuple[Split, Leakage]:
    """Leave copies of later parts out of earlier ones, and count all that crosses.

    A copy of a test image leaves train and val, and a copy of a val image leaves train; the test
    part stays as given, so that its numbers stay comparable.

    Args:
        rows: Columns patient, content and label of a manifest.
        split: Row numbers into `rows`.
        pretrained_on: Content hashes of the images the encoder was pretrained on.

    Returns:
        The split without copies, and the report.
    """
    content = rows["content"]
    test, val = _hashes(content, split.test), _hashes(content, split.val)
    kept_val = _without(content, split.val, test)
    kept_train = _without(content, split.train, test | val)
    dropped = len(split.val) - len(kept_val) + len(split.train) - len(kept_train)
    clean = replace(split, train=kept_train, val=kept_val)
    seen = len(split.test) - len(_without(content, split.test, set(pretrained_on)))
    patients = len(patients_on_two_sides(rows, clean))
    conflicts = _conflicts(rows)
    note = _in_words(rows, split, patients, dropped, conflicts, seen)
    return clean, Leakage(patients, dropped, conflicts, seen, note)


def _hashes(content: pl.Series, members: IntArray) -> set[str]:
    return set(content.gather(members).drop_nulls().to_list())


def _without(content: pl.Series, members: IntArray, hashes: set[str]) -> IntArray:
    copied = np.array([name in hashes for name in content.gather(members)], bool)
    return np.asarray(members[~copied])


def _conflicts(rows: pl.DataFrame) -> int:
    labels = rows.drop_nulls("content").group_by("content").agg(pl.col("label").n_unique())
    return int((labels["label"] > 1).sum())


def _in_words(
    rows: pl.DataFrame, split: Split, patients: int, dropped: int, conflicts: int, seen: int
) -> str:
    known = not rows["patient"].has_nulls()
    sentences = [
        f"{patients} patient(s) have images in more than one part"
        + ("." if not patients else ": the numbers are too good.")
        if known
        else "Patients are not known for all images, so they may stand on both sides.",
        "No image has an exact copy in another part."
        if not dropped and split.how == "given"
        else f"{dropped} training or validation image(s) with an exact copy in a later part left"
        " out."
        if dropped
        else "Exact copies were kept in one part.",
    ]
    if conflicts:
        sentences.append(f"{conflicts} group(s) of identical images carry different labels.")
    if seen:
        sentences.append(
            f"The encoder saw {seen} of {len(split.test)} test images in pretraining, without"
            " labels; to avoid it, scan with a split and pretrain on its train part."
        )
    return " ".join(sentences)
