"""Which images are the slices of one volume, and in which order.

Images of one stack (series, frame of reference, echo, kind of image: see `medssl.sources.place`)
belong together if they agree in patient, study, size and pixel spacing, and are parallel. Archives
that were made anonymous badly have several patients in one series. Slices are put in order along
the normal of their planes, never by their numbers: those follow the scanner's order, which may be
interleaved or reversed. Where several images lie at one place, as those of several moments do, each
volume gets one of them.
"""

from collections.abc import Iterator

import numpy as np
import polars as pl

from medssl.sources.place import UNKNOWN
from medssl.volumes.moments import label_volumes
from medssl.volumes.planes import Floats, Ints, along_normal

OWNED = ("patient", "study", "stack")  # by one scan of one patient
IS_SLICE = pl.col("stack").is_not_null() & (pl.col("channels") == 1)
SPACING = ("spacing_row_mm", "spacing_column_mm")
_SAME_DIRECTION = 0.9995  # cosine, 1.8 degrees
SAME_SPACING = 1.002  # times the next smaller; slices of a series may be printed to other digits


def assemble(rows: pl.DataFrame) -> pl.DataFrame:
    """Fill in the columns `volume`, `slice` and `slices`.

    A copy, with the pixels and the place of another image of its stack, is in no volume. Neither is
    a localiser, an image in colour, or what has no second image beside it.

    Args:
        rows: Of a manifest.

    Returns:
        The rows in their order.
    """
    found: dict[str, list[object]] = {"row": [], "volume": [], "slice": [], "slices": []}
    samples = rows["sample"]
    for numbers in _volumes(rows):
        found["row"] += numbers.tolist()
        found["volume"] += [samples[int(numbers[0])]] * len(numbers)
        found["slice"] += range(len(numbers))
        found["slices"] += [len(numbers)] * len(numbers)
    schema = {"row": pl.UInt32, "volume": pl.String, "slice": pl.Int32, "slices": pl.Int32}
    names = rows.columns
    return (
        rows.drop("volume", "slice", "slices")
        .with_row_index("row")
        .join(pl.DataFrame(found, schema=schema), on="row", how="left", maintain_order="left")
        .select(names)
    )


def _volumes(rows: pl.DataFrame) -> Iterator[Ints]:
    """Yield the row numbers of each volume, in the order in space."""
    grid = ("rows", "columns", *SPACING)
    wanted = ["row", *OWNED, *grid, "plane", "moment", "content"]
    placed = rows.with_row_index("row").filter(IS_SLICE).select(wanted)
    for stack in placed.partition_by(OWNED, maintain_order=True):
        for alike in _same_spacing(stack).partition_by(grid, maintain_order=True):
            known = alike.filter(pl.col("plane").is_not_null())
            yield from _in_space(known.filter(is_first()))
            yield from _in_order(alike.filter(pl.col("plane").is_null()))


def _same_spacing(stack: pl.DataFrame) -> pl.DataFrame:
    """Number the spacings of pixels from 0, instead of them, so that almost equal ones are equal.

    An unknown spacing is equal to unknown ones only.
    """
    return stack.with_columns(pl.Series(name, _numbered(stack[name])) for name in SPACING)


def _numbered(spacings: pl.Series) -> Ints:
    values = spacings.fill_null(0).to_numpy()
    order = np.argsort(values, kind="stable")
    ranks = np.empty(len(values), np.int64)
    ranks[order] = np.cumsum(values[order] > SAME_SPACING * np.roll(values[order], 1))
    return ranks


def is_first(*among: str) -> pl.Expr:
    """Tell the first of images with equal pixels and planes; of blank ones, with equal numbers.

    Args:
        among: Columns that are equal among those that are compared.
    """
    is_numbered = pl.col("moment").arr.get(2) != UNKNOWN
    is_new = pl.struct("content", "plane", *among).is_first_distinct()
    is_new_blank = pl.struct("plane", "moment", *among).is_first_distinct() | ~is_numbered
    return pl.when(pl.col("content").is_null()).then(is_new_blank).otherwise(is_new)


def _in_space(stack: pl.DataFrame) -> Iterator[Ints]:
    if stack.is_empty():
        return
    planes, moments = stack["plane"].to_numpy(), stack["moment"].to_numpy()
    rows = stack["row"].to_numpy().astype(np.int64)
    for members in _parallel(planes):
        distances = along_normal(planes[members])
        labels = label_volumes(distances, moments[members])
        for label in range(labels.max() + 1):
            own = np.flatnonzero(labels == label)
            if len(own) > 1:
                yield rows[members[own[np.argsort(distances[own], kind="stable")]]]


def _in_order(stack: pl.DataFrame) -> Iterator[Ints]:
    """Yield volumes without a geometry, by their moments alone."""
    time, number = (pl.col("moment").arr.get(place).alias(str(place)) for place in (0, 2))
    timed = stack.with_columns(time, number).sort("0", "2")
    for part in timed.partition_by("0", maintain_order=True):
        if len(part) > 1:
            yield part["row"].to_numpy().astype(np.int64)


def _parallel(planes: Floats) -> Iterator[Ints]:
    """Yield the members of each direction, in the order of the first of each."""
    left = np.arange(len(planes))
    while len(left):
        sides = planes[left, 3:].reshape(-1, 2, 3)
        cosines = np.einsum("nij,ij->ni", sides, sides[0])
        same = cosines.min(axis=1) > _SAME_DIRECTION
        yield left[same]
        left = left[~same]
