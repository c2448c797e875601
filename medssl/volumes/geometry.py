"""The geometry of volumes, from the planes of their slices, and what is wrong with it."""

from typing import NamedTuple

import numpy as np
import polars as pl
from polars.datatypes import DataType, DataTypeClass

from medssl.manifest import of_one_patient
from medssl.volumes.assemble import IS_SLICE, OWNED, SAME_SPACING, SPACING
from medssl.volumes.planes import UNEVEN, Floats, along_normal, steps_between

_TILTED_DEGREES = 0.5  # between the normal and the way from slice to slice

PROBLEMS = ("gap", "uneven", "tilted", "no_geometry", "mixed_sizes", "shared_series")
_OF_SERIES = PROBLEMS[4:]  # beside others: they are known from other images than the slices

_COLUMNS: dict[str, DataType | DataTypeClass] = {
    "volume": pl.String,
    "kind": pl.String,
    "modality": pl.String,
    "patient": pl.String,
    "slices": pl.Int32,
    "rows": pl.Int32,
    "columns": pl.Int32,
    "spacing_mm": pl.List(pl.Float64),
    "missing": pl.Int32,
    "uneven_mm": pl.Float64,
    "tilt_degrees": pl.Float64,
    "problems": pl.List(pl.String),
}


class Geometry(NamedTuple):
    """How the slices of a volume lie.

    Attributes:
        affine: From slice, row and column to mm in LPS, `[4, 4]`; None without a geometry. Slices
            at uneven distances are taken to be at the mean of them.
        missing: Slices that gaps leave out.
        uneven_mm: The largest difference of a step from the usual one, gaps left out.
        tilt_degrees: Between the normal and the way from slice to slice, as of a CT gantry.
    """

    affine: Floats | None
    missing: int
    uneven_mm: float
    tilt_degrees: float
    has_pixel_mm: bool = True

    @property
    def spacing_mm(self) -> tuple[float, float, float] | None:
        """Between slices, rows, columns; None unless all are known."""
        if self.affine is None or not self.has_pixel_mm:
            return None
        first, second, third = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return first, second, third

    @property
    def problems(self) -> tuple[str, ...]:
        """Which of `PROBLEMS` the volume has by itself."""
        if self.affine is None:
            return ("no_geometry",)
        step = float(np.linalg.norm(self.affine[:3, 0]))
        found = {
            "gap": self.missing > 0,
            "uneven": self.uneven_mm > UNEVEN * step,
            "tilted": self.tilt_degrees > _TILTED_DEGREES,
        }
        return tuple(name for name, is_there in found.items() if is_there)


def geometry_of(planes: Floats | None, pixel_mm: tuple[float, float] | None) -> Geometry:
    """Return the geometry of slices that are parallel and in order.

    Args:
        planes: `[slices, 9]` as in the manifest, at least two; None where the file gives none.
        pixel_mm: Between rows, between columns; 1 mm where unknown.
    """
    if planes is None:
        return Geometry(None, 0, 0.0, 0.0)
    distances = along_normal(planes)
    steps = steps_between(distances)
    way = planes[-1, :3] - planes[0, :3]
    along = float(distances[-1] - distances[0])
    across = float(np.sqrt(max(float(way @ way) - along**2, 0.0)))
    per_row, per_column = pixel_mm or (1.0, 1.0)
    affine = np.eye(4)
    affine[:3, 0] = way / (len(planes) - 1)
    affine[:3, 1] = planes[0, 6:9] * per_row
    affine[:3, 2] = planes[0, 3:6] * per_column
    affine[:3, 3] = planes[0, :3]
    return Geometry(
        affine,
        steps.missing,
        steps.uneven_mm,
        float(np.degrees(np.arctan2(across, along))),
        pixel_mm is not None,
    )


_DESCRIBED = (
    *("volume", "kind", "modality", "patient", "slice", "rows", "columns"),
    *("plane", "spacing_row_mm", "spacing_column_mm"),
    *("study", "series", "stack", "channels"),
)


def describe_volumes(rows: pl.DataFrame) -> pl.DataFrame:
    """Return a row for each volume of a manifest, in the order of the manifest.

    Args:
        rows: Of a manifest.

    Returns:
        `volume`, `kind`, `modality`, `patient`, `slices`, `rows`, `columns`, `spacing_mm`
        (between slices, rows, columns; null if unknown), `missing`, `uneven_mm`, `tilt_degrees`
        and `problems`, of `PROBLEMS`.
    """
    known = _with_mixtures(rows.select(_DESCRIBED).filter(IS_SLICE))
    found = [_describe(slices) for slices in volumes_of(known)]
    return pl.DataFrame(found, schema=_COLUMNS, orient="row")


def _with_mixtures(slices: pl.DataFrame) -> pl.DataFrame:
    """Say of each slice whether others of its stack have other sizes, and whose its series is."""
    sides = (pl.col(name).n_unique() > 1 for name in ("rows", "columns"))
    spacings = (
        (pl.col(name).max() > SAME_SPACING * pl.col(name).min()).fill_null(value=False)
        | pl.col(name).null_count().is_between(1, pl.len() - 1)
        for name in SPACING
    )
    return slices.with_columns(
        mixed_sizes=pl.any_horizontal(*sides, *spacings).over(OWNED),
        shared_series=pl.col("series").is_not_null() & ~of_one_patient("series"),
    )


def volumes_of(rows: pl.DataFrame) -> list[pl.DataFrame]:
    """Return the rows of each volume, in the order in space."""
    held = rows.filter(pl.col("volume").is_not_null())
    return [part.sort("slice") for part in held.partition_by("volume", maintain_order=True)]


def geometry_of_rows(slices: pl.DataFrame) -> Geometry:
    """Return the geometry of the rows of one volume, in order."""
    first = slices.row(0, named=True)
    has_pixels = first["spacing_row_mm"] is not None and first["spacing_column_mm"] is not None
    pixel_mm = (first["spacing_row_mm"], first["spacing_column_mm"]) if has_pixels else None
    is_placed = first["plane"] is not None
    return geometry_of(slices["plane"].to_numpy() if is_placed else None, pixel_mm)


def _describe(slices: pl.DataFrame) -> tuple[object, ...]:
    geometry = geometry_of_rows(slices)
    spacing = geometry.spacing_mm
    return (
        *(slices[name][0] for name in ("volume", "kind", "modality", "patient")),
        len(slices),
        slices["rows"][0],
        slices["columns"][0],
        None if spacing is None else list(spacing),
        geometry.missing,
        geometry.uneven_mm,
        geometry.tilt_degrees,
        [*geometry.problems, *(name for name in _OF_SERIES if slices[name][0])],
    )
