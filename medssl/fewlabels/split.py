"""Which images train, choose and test: by patient, never by image unless asked."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medssl.config import SplitBy
from medssl.errors import DataError
from medssl.fewlabels.groups import (
    PATIENT_WAY_OUT,
    IntArray,
    Unit,
    finest_unit,
    groups_by,
    place_groups,
    plural,
    unit_of,
)

PARTS = ("train", "val", "test")
FloatArray = NDArray[np.float64]

_ASSIGNMENTS = 20_000  # group placements tried in all, spread over restarts


@dataclass(frozen=True, slots=True)
class Split:
    """Row numbers of the three parts, ascending.

    Attributes:
        train: Rows whose labels may be learnt from.
        val: Rows that choose settings and the moment to stop.
        test: Rows that are only measured on.
        how: What kept the parts apart.
        notes: What a reader of the numbers has to know.
    """

    train: IntArray
    val: IntArray
    test: IntArray
    how: Literal["given", "patient", "study", "image", "site", "scanner"]
    notes: tuple[str, ...] = ()

    def parts(self) -> dict[str, IntArray]:
        """Return the rows by name of the part."""
        return {"train": self.train, "val": self.val, "test": self.test}


def split_rows(
    rows: pl.DataFrame,
    *,
    how: SplitBy,
    test_share: float,
    val_share: float,
    seed: int,
) -> Split:
    """Divide labelled images into train, val and test, every class in each; see `split_samples`.

    Raises:
        DataError: One class only, a class that is missing in a part, or as `split_samples`.
    """
    classes = rows["label"].unique().sort().to_list()
    if len(classes) < 2:
        raise DataError(
            f"all {len(rows)} labelled images are of one class, {classes}; two or more are needed"
        )
    shares = {"test_share": test_share, "val_share": val_share}
    split = split_samples(rows, how=how, **shares, seed=seed)
    require_every_class(rows, split, classes)
    return split


def split_samples(
    rows: pl.DataFrame,
    *,
    how: SplitBy,
    test_share: float,
    val_share: float,
    seed: int,
) -> Split:
    """Divide images into train, val and test.

    Exact copies of an image stay together, and so do all patients that share one. A given split
    without a val part gets one cut from train, by patient where patients are known, else by study.

    Args:
        rows: Columns patient, study, content, volume, label, split, site and scanner of a
            manifest; every label present.
        how: `auto` takes the given split where there is one, else splits by patient. `site` and
            `scanner` test on whole ones of these, and cut the val part from the others by patient.
            `study` is for patients that are not known.
        test_share: Of the patients (sites, scanners), and of the images of each class, as well as
            whole ones allow.
        val_share: Likewise, of the patients.
        seed: Equal seeds give equal splits.

    Raises:
        DataError: No patient keys, too few patients, or a given split that has a patient on two
            sides.
    """
    has_given = rows["split"].is_not_null().any()
    if how == "given" or (how == "auto" and has_given):
        split = _given_split(rows, val_share, seed)
    elif how in ("site", "scanner"):
        split = _split_by_place(rows, how, test_share, val_share, seed)
    else:
        by = unit_of(how)
        groups = groups_by(rows, by)
        shares = (1 - test_share - val_share, val_share, test_share)
        train, val, test = divide(rows, groups, shares, seed=seed, unit=by)
        split = Split(train, val, test, by)
    return split


def patients_on_two_sides(rows: pl.DataFrame, split: Split) -> list[str]:
    """List the patient keys that occur in more than one part."""
    where: dict[str, str] = {}
    twice = set()
    for part, members in split.parts().items():
        for patient in rows["patient"].gather(members).drop_nulls().unique().to_list():
            if where.setdefault(patient, part) != part:
                twice.add(patient)
    return sorted(twice)


def keep_rows(split: Split, readable: IntArray) -> Split:
    """Leave rows out of the split whose images could not be read."""
    train, val, test = (rows[np.isin(rows, readable)] for rows in split.parts().values())
    return replace(split, train=train, val=val, test=test)


def require_every_class(rows: pl.DataFrame, split: Split, classes: Sequence[str]) -> None:
    """Raise `DataError` if a part lacks a class."""
    for part, members in split.parts().items():
        present = set(rows["label"].gather(members).to_list())
        missing = [name for name in classes if name not in present]
        if missing:
            way_out = "use --split patient" if split.how == "given" else "try another --seed"
            raise DataError(f"no image of class {missing[0]!r} in the {part} part; {way_out}")


def assign_groups(counts: IntArray, shares: Sequence[float], *, seed: int) -> IntArray:
    """Give each group to a part so that groups and classes are shared out as asked.

    Several random orders are tried; in each, every part first gets a group of every class, rarest
    class first, then the other groups follow from large to small, each to the part that lacks most
    of what it brings. The most even result is taken.

    Args:
        counts: Images of each class in each group, `[groups, classes]`.
        shares: Of each part; they sum to one.
        seed: Of the random orders.

    Returns:
        The number of the part, `[groups]`.
    """
    rng = np.random.default_rng(seed)
    profile = np.hstack([counts / counts.sum(0), np.full((len(counts), 1), 1 / len(counts))])
    tries = [
        _assign_once(profile, np.asarray(shares), rng)
        for _ in range(int(np.clip(_ASSIGNMENTS // len(counts), 1, 64)))
    ]
    return min(tries, key=lambda parts: _unevenness(profile, parts, np.asarray(shares)))


def _assign_once(profile: FloatArray, shares: FloatArray, rng: np.random.Generator) -> IntArray:
    order = rng.permutation(len(profile))
    part = np.full(len(profile), -1, np.int64)
    held = np.zeros((len(shares), profile.shape[1]))

    def place(group: int, target: int) -> None:
        part[group] = target
        held[target] += profile[group]

    holders = (profile[:, :-1] > 0).sum(0)
    for kind in np.argsort(holders, kind="stable"):
        for target in rng.permutation(len(shares)):
            free = order[(part[order] < 0) & (profile[order, kind] > 0)]
            if held[target, kind] == 0 and len(free):
                place(int(free[0]), int(target))
    rest = order[part[order] < 0]
    for group in rest[np.argsort(-profile[rest].sum(1), kind="stable")]:
        growth = (held / shares[:, None] - 1) @ profile[group]
        growth += (profile[group] ** 2).sum() / shares / 2
        place(int(group), int(np.argmin(growth)))
    return part


def _unevenness(profile: FloatArray, parts: IntArray, shares: FloatArray) -> float:
    """Sum the squared differences from the shares, relative to them; `_assign_once` lowers it."""
    held = np.stack([profile[parts == part].sum(0) for part in range(len(shares))])
    uneven = ((held - shares[:, None]) ** 2 / shares[:, None]).sum()
    return float(uneven + 100 * (held == 0).sum())


def divide(
    rows: pl.DataFrame, groups: IntArray, shares: Sequence[float], *, seed: int, unit: str
) -> tuple[IntArray, ...]:
    """Return ascending row numbers of each part.

    Args:
        rows: Column label.
        groups: What stays together, `[rows]`, from 0.
        shares: Of each part.
        seed: See `assign_groups`.
        unit: What a group is, for messages.

    Raises:
        DataError: Too few groups, or too few with one of the classes.
    """
    classes, codes = np.unique(rows["label"].to_numpy(), return_inverse=True)
    counts = np.zeros((int(groups.max()) + 1, len(classes)), np.int64)
    np.add.at(counts, (groups, codes), 1)
    units = plural(unit)
    if len(counts) < len(shares):
        raise DataError(
            f"too few {units} for {len(shares)} parts: {len(counts)}, those who share an image"
            f" or a patient counted as one; more {units} are needed"
            + (f", or {PATIENT_WAY_OUT}" if unit == "patient" else "")
        )
    for name, holders in zip(classes, (counts > 0).sum(0), strict=True):
        if holders < len(shares):
            raise DataError(
                f"class {name!r} has images of too few {units}, {holders} for {len(shares)}"
                f" parts; leave the class out, or add {units}"
                + (f", or {PATIENT_WAY_OUT}" if unit == "patient" else "")
            )
    parts = assign_groups(counts, shares, seed=seed)
    return tuple(np.flatnonzero(parts[groups] == part) for part in range(len(shares)))


def _given_split(rows: pl.DataFrame, val_share: float, seed: int) -> Split:
    found = rows["split"].to_numpy()
    train, val, test = (np.flatnonzero(found == part) for part in PARTS)
    if not len(train) or not len(test):
        raise DataError(
            f"the data's own split has {len(train)} labelled train and {len(test)} labelled test"
            " images, and needs both; use --split patient"
        )
    notes = []
    if without := len(rows) - len(train) - len(val) - len(test):
        notes.append(f"{without} labelled images belong to no part of the given split: left out")
    shared = patients_on_two_sides(rows, Split(train, val, test, "given"))
    if shared:
        raise DataError(
            f"the data's own split has {len(shared)} patient(s) in more than one part;"
            " use --split patient"
        )
    if not len(val):
        by = finest_unit(rows[train.tolist()])
        train, val = _cut_val(rows, train, val_share, by=by, seed=seed)
        notes.append(f"the given split has no val part: {len(val)} images cut from train by {by}")
    return Split(train, val, test, "given", tuple(notes))


def _split_by_place(
    rows: pl.DataFrame,
    place: Literal["site", "scanner"],
    test_share: float,
    val_share: float,
    seed: int,
) -> Split:
    whole = place_groups(rows, place)
    learnt, test = divide(rows, whole, (1 - test_share, test_share), seed=seed, unit=place)
    train, val = _cut_val(rows, learnt, val_share / (1 - test_share), by="patient", seed=seed)
    parts = (rows[place].gather(part).n_unique() for part in (learnt, test))
    note = "trained on {} and tested on {} other " + f"{place}(s); val cut by patient"
    return Split(train, val, test, place, (note.format(*parts),))


def _cut_val(
    rows: pl.DataFrame, learnt: IntArray, share: float, *, by: Unit, seed: int
) -> tuple[IntArray, IntArray]:
    """Divide the rows `learnt` into train and val."""
    inner = rows[learnt.tolist()]
    kept, cut = divide(inner, groups_by(inner, by), (1 - share, share), seed=seed, unit=by)
    return learnt[kept], learnt[cut]
