"""Which images must stay on one side of a split: numbers that are equal for those that must."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medssl.errors import DataError

IntArray = NDArray[np.int64]
Unit = Literal["patient", "image"]

PATIENT_WAY_OUT = (
    "scan again with --patient-pattern, which takes the patient from the path,"
    " or accept images of one patient on both sides with --split image"
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
    """Number whom images are of: patients where they are known, else volumes, else each its own."""
    return joined_groups(rows["patient"].to_list(), rows["volume"].to_list())


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
    """Number what must stay together: patients, or else exact copies and slices of one volume."""
    if unit == "image":
        return joined_groups(rows["content"].to_list(), rows["volume"].to_list())
    return patient_groups(rows)


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
