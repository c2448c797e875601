"""Which images must stay on one side of a split: numbers that are equal for those that must."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medssl.errors import DataError

IntArray = NDArray[np.int64]
Unit = Literal["patient", "study", "image"]

PATIENT_WAY_OUT = (
    "scan again with --patient-pattern, which takes the patient from the path,"
    " keep studies whole, where they are known, with --split study, or accept images of one"
    " patient on both sides with --split image"
)


def joined_groups(*keys: Sequence[str | None]) -> IntArray:
    """Number the rows so that two rows that share a key, directly or through others, are equal.

    Args:
        keys: Columns of equal length; a null joins nothing.
    """
    parent = list(range(len(keys[0])))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for column in keys:
        first: dict[str, int] = {}
        for row, key in enumerate(column):
            if key is not None:
                parent[root(row)] = root(first.setdefault(key, row))
    _, numbers = np.unique([root(row) for row in range(len(parent))], return_inverse=True)
    return numbers.astype(np.int64)


def subject_groups(rows: pl.DataFrame) -> IntArray:
    """Number whom images are of: patients where known, else studies, volumes, or each its own."""
    study = rows.select(pl.when(pl.col("patient").is_null()).then("study"))["study"]
    return joined_groups(rows["patient"].to_list(), study.to_list(), rows["volume"].to_list())


def finest_unit(rows: pl.DataFrame) -> Unit:
    """Return the unit by which rows can be divided so that as little as possible is torn apart."""
    if not rows["patient"].has_nulls():
        return "patient"
    return "image" if _unknown_studies(rows) else "study"


def plural(unit: str) -> str:
    """Return the word for several of a unit."""
    return f"{unit.removesuffix('y')}ies" if unit.endswith("y") else f"{unit}s"


def unit_of(how: str) -> Unit:
    """Return what stays together in a split of this kind; `SplitBy` names them."""
    units: dict[str, Unit] = {"image": "image", "study": "study"}
    return units.get(how, "patient")


def patient_groups(rows: pl.DataFrame) -> IntArray:
    """Number what must stay together: patients, and those who share an image."""
    unknown = rows["patient"].null_count()
    if unknown:
        raise DataError(
            f"{unknown} of {len(rows)} labelled images have no patient, so images of one patient"
            f" could stand on both sides; {PATIENT_WAY_OUT}"
        )
    return joined_groups(rows["patient"].to_list(), rows["content"].to_list())


def groups_by(rows: pl.DataFrame, unit: Unit) -> IntArray:
    """Number what must stay together: patients, studies, or exact copies and slices of a volume.

    Raises:
        DataError: Images of an unknown patient, or study.
    """
    copies = (rows["content"].to_list(), rows["volume"].to_list())
    match unit:
        case "image":
            return joined_groups(*copies)
        case "study":
            if unknown := _unknown_studies(rows):
                raise DataError(
                    f"{unknown} of {len(rows)} labelled images have neither patient nor study;"
                    f" {PATIENT_WAY_OUT}"
                )
            return joined_groups(rows["patient"].to_list(), rows["study"].to_list(), *copies)
        case "patient":
            return patient_groups(rows)


def _unknown_studies(rows: pl.DataFrame) -> int:
    return int((rows["patient"].is_null() & rows["study"].is_null()).sum())


def place_groups(rows: pl.DataFrame, place: Literal["site", "scanner"]) -> IntArray:
    """Number what must stay together if whole sites or scanners do: and patients seen at several.

    Raises:
        DataError: Images without a place, or without a patient.
    """
    unknown = rows[place].null_count()
    if unknown:
        way_out = ", or scan again with --site-pattern" if place == "site" else ""
        raise DataError(
            f"{unknown} of {len(rows)} labelled images have no {place}; use --split patient"
            + way_out
        )
    return joined_groups(rows[place].to_list(), patient_groups(rows).astype(str).tolist())
