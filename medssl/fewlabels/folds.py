"""Many splits instead of one: each patient is tested once per round, where patients are few."""

import numpy as np
import polars as pl

from medssl.config import SplitBy
from medssl.errors import DataError
from medssl.fewlabels.groups import groups_by, unit_of
from medssl.fewlabels.split import Split, divide, require_every_class


def fold_rows(
    rows: pl.DataFrame,
    *,
    how: SplitBy,
    folds: int,
    rounds: int,
    val_share: float,
    seed: int,
) -> tuple[Split, ...]:
    """Divide labelled images into `folds` test parts, anew in each round.

    The rest of a fold's images is divided into train and val, every class in each. Exact copies
    of an image stay together, and so do all patients that share one.

    Args:
        rows: As for `medssl.fewlabels.split.split_rows`.
        how: `auto` means by patient.
        folds: Test parts of a round, two or more.
        rounds: How often the images are divided.
        val_share: Of all patients.
        seed: Of the first round; equal seeds give equal splits.

    Returns:
        `folds` splits of the first round, then those of the next.

    Raises:
        DataError: The data bring a split, or as for `split_rows`.
    """
    has_given = rows["split"].is_not_null().any()
    if how == "given" or (how == "auto" and has_given):
        raise DataError(
            f"the data's own split cannot be divided into {folds} folds; use --split patient, or"
            " --folds 1"
        )
    if how in ("site", "scanner"):
        raise DataError(f"folds are by patient, study or image; use --folds 1 with --split {how}")
    by = unit_of(how)
    groups = groups_by(rows, by)
    classes = rows["label"].unique().sort().to_list()
    inner = min(0.5, val_share * folds / (folds - 1))
    splits = []
    for number in range(rounds):
        shares = [1 / folds] * folds
        for test in divide(rows, groups, shares, seed=seed + number, unit=by):
            rest = np.setdiff1d(np.arange(len(rows)), test)
            _, own = np.unique(groups[rest], return_inverse=True)
            train, val = divide(
                rows[rest.tolist()], own, (1 - inner, inner), seed=seed + number, unit=by
            )
            split = Split(rest[train], rest[val], test, by)
            require_every_class(rows, split, classes)
            splits.append(split)
    return tuple(splits)
