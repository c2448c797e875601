"""What one sample is: an image, a slice with its neighbours, a whole volume, or a patch of one."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import polars as pl
from polars.datatypes import DataType, DataTypeClass

from medssl.config import Dims, Slab
from medssl.errors import DataError, IngestError
from medssl.manifest import Manifest
from medssl.volumes.geometry import geometry_of_rows, volumes_of
from medssl.volumes.patch import Patch, Reading, patch_of
from medssl.volumes.patches import Grid, grid_of

_OF_A_SLICE = ("slice", "path", "member", "frame", "frames", "plane", "moment", "stamp")
_PLACES: dict[str, DataType | DataTypeClass] = {
    "volume": pl.String,
    "slice": pl.Int32,
    "corner": pl.Array(pl.Int32, 3),  # where it begins in the volume at its spacing
    "box": pl.Array(pl.Int32, 4),  # rows and columns of the slice: first, last, first, last
    "sample": pl.String,
    "content": pl.String,
}
_AGREED = ("label", "split", "patient", "study", "series", "site", "scanner", "modality")


class Sampling(Reading, Protocol):
    """Settings that say what a sample is: those of a run, or of an encoder."""

    @property
    def dims(self) -> Dims:
        """3 for volumes."""

    @property
    def slab(self) -> Slab:
        """3 for slices with those before and after them."""


def samples_of(manifest: Manifest, settings: Sampling) -> Manifest:
    """Return the samples that a run or an encoder takes; see `as_samples`."""
    return as_samples(manifest, settings.dims, settings.slab, patch_of(settings))


def as_samples(
    manifest: Manifest, dims: Dims, slab: Slab = 1, patch: Patch | None = None
) -> Manifest:
    """Return the manifest as it is, with the slices of volumes only, or with a row per volume.

    The row of a volume is that of its middle slice, which stands for it in pictures, under the name
    of the volume. The label of one slice is that of the volume; where slices contradict each other,
    it is null, and so is whatever else they should agree on. Text is suspected if it is in one of
    them. Images of no volume are left out.

    With patches a volume has a row for each, that of the slice through its middle, with what is
    known of the volume. Its name is that of the volume with the place where it begins, such as
    `VOLUME.64.0.128`: voxels of the patch from the feet, front and right. No pixel is read for it.
    A volume that cannot be cut has one, so that reading it tells why.

    Args:
        manifest: As it was read; one of volumes is returned as it is.
        dims: 3 for volumes.
        slab: 3 for slices with those before and after them.
        patch: Of volumes, if they are to be cut.

    Raises:
        DataError: There are no volumes, none can be cut, or slices of one are missing.
    """
    if (dims == 2 and slab == 1) or manifest.slices is not None:
        return manifest
    held = manifest.rows.filter(pl.col("volume").is_not_null())
    if held.is_empty():
        raise DataError(
            f"none of the {len(manifest)} images is a slice of a volume, so {_wish(dims)} has"
            f" nothing to learn from; leave it out"
        )
    _require_complete(held)
    if dims == 2:
        return replace(manifest, rows=held, slices=held, slab=slab)
    rows = _of_volumes(held).select(manifest.rows.columns)
    volumes = replace(manifest, rows=rows, slices=held)
    return volumes if patch is None else _cut(volumes, held, patch)


def as_slices(manifest: Manifest) -> Manifest:
    """Return a manifest of images again, with the labels and the splits of the volumes.

    Args:
        manifest: As `as_samples` returns it; one of images is returned as it is.
    """
    if manifest.slices is None:
        return manifest
    unit = "volume" if manifest.holds_volumes else "sample"
    given = manifest.rows.group_by(unit).agg(_agreed("label"), _agreed("split"))
    used = manifest.slices.join(manifest.rows, on="volume", how="semi", maintain_order="left")
    rows = used.drop("label", "split").join(given, on=unit, how="left", maintain_order="left")
    rows = rows.select(manifest.slices.columns)
    return replace(manifest, rows=rows, slices=None, slab=1, patch=None)


def parts_of(manifest: Manifest, names: Sequence[str]) -> list[list[tuple[object, ...]]]:
    """Return the values of some columns for each slice that makes a sample, in order, per row.

    Args:
        manifest: As `as_samples` returns it; an image is its only slice.
        names: Columns.
    """
    if manifest.slices is None:
        return [[row] for row in manifest.rows.select(names).iter_rows()]
    placed = manifest.slices.sort("volume", "slice")
    volumes: dict[str, list[tuple[object, ...]]] = {}
    for volume, row in zip(placed["volume"], placed.select(names).iter_rows(), strict=True):
        volumes.setdefault(volume, []).append(row)
    if manifest.slab == 1:
        return [volumes[volume] for volume in manifest.rows["volume"]]
    return [
        [volumes[volume][place] for place in beside(place, len(volumes[volume]))]
        for volume, place in manifest.rows.select("volume", "slice").iter_rows()
    ]


def any_part(manifest: Manifest, condition: pl.Expr) -> pl.Series:
    """Tell for each row whether any of the slices that a slab is made of fulfils `condition`.

    Args:
        manifest: As `as_samples` returns it; other samples than slabs speak for themselves.
        condition: True or false for every slice.
    """
    if manifest.slices is None or manifest.slab == 1:
        return manifest.rows.select(condition).to_series()
    marked = replace(manifest, slices=manifest.slices.with_columns(marked=condition))
    found = [any(flag for (flag,) in parts) for parts in parts_of(marked, ("marked",))]
    return pl.Series(found, dtype=pl.Boolean)


def beside(place: int, count: int) -> tuple[int, int, int]:
    """Return the places before, at and after a slice of a volume; its ends are their own."""
    return max(place - 1, 0), place, min(place + 1, count - 1)


def _of_volumes(held: pl.DataFrame) -> pl.DataFrame:
    """Return a row for each volume: its middle slice, and what is known of all of its slices."""
    about = held.group_by("volume", maintain_order=True).agg(
        *(_agreed(name) for name in _AGREED),
        pl.col("burned_in").drop_nulls().first(),
        pl.col("channels").max(),
        pl.col("content").sort_by("slice"),
    )
    about = about.with_columns(pl.col("content").map_elements(_content, return_dtype=pl.String))
    middle = held.filter(pl.col("slice") == pl.col("slices") // 2).drop(
        *_AGREED, "burned_in", "channels", "content"
    )
    return middle.join(about, on="volume", how="left", maintain_order="left").with_columns(
        sample="volume"
    )


def _cut(volumes: Manifest, held: pl.DataFrame, patch: Patch) -> Manifest:
    """Return a row for each patch of the volumes."""
    places: list[tuple[object, ...]] = []
    content = dict(volumes.rows.select("volume", "content").iter_rows())
    uncut: list[IngestError] = []
    for slices in volumes_of(held):
        first = slices.row(0, named=True)
        name, shape = first["volume"], (len(slices), first["rows"], first["columns"])
        try:
            grid = grid_of(volumes.file(first["path"]), shape, geometry_of_rows(slices), patch)
        except IngestError as error:
            uncut.append(error)
            grid = Grid(shape, ((0, 0, 0),), (((0, shape[0]), (0, shape[1]), (0, shape[2])),))
        for corner, (along, *plane) in zip(grid.corners, grid.boxes, strict=True):
            place = ".".join(map(str, corner))
            pixels = content[name] and _hash(content[name], place)
            box = [end for span in plane for end in span]
            places.append((name, sum(along) // 2, corner, box, f"{name}.{place}", pixels))
    if len(uncut) == len(volumes):
        raise DataError(
            f"none of the {len(uncut)} volumes can be cut to patches of {patch.side} px at"
            f" {patch.spacing_mm:g} mm: {uncut[0].detail}"
        )
    columns = dict(zip(_PLACES, zip(*places, strict=True), strict=True))
    triples = {name: np.array(columns[name], np.int32) for name in ("corner", "box")}
    parts = pl.DataFrame({**columns, **triples}, schema=_PLACES)
    shown = held.select("volume", *_OF_A_SLICE)
    rows = (
        volumes.rows.drop("sample", "content", *_OF_A_SLICE)
        .join(parts, on="volume", how="left", maintain_order="left")
        .join(shown, on=("volume", "slice"), how="left", maintain_order="left")
    )
    return replace(volumes, rows=rows.select(*volumes.rows.columns, "corner", "box"), patch=patch)


def _wish(dims: Dims) -> str:
    return "--dims 3" if dims == 3 else "data.slab"


def _require_complete(held: pl.DataFrame) -> None:
    counted = held.group_by("volume").agg(pl.len(), pl.col("slices").first())
    torn = counted.filter(pl.col("len") != pl.col("slices"))
    if len(torn):
        raise DataError(
            f"slices are missing of {len(torn)} of {len(counted)} volumes: the manifest is a part"
            " of another; give the whole one, of medssl scan"
        )


def _agreed(name: str) -> pl.Expr:
    values = pl.col(name).drop_nulls().unique()
    return pl.when(values.len() == 1).then(values.first()).alias(name)


def _content(hashes: pl.Series) -> str | None:
    """Return a hash of the pixels of all slices; None if all are blank."""
    known = hashes.to_list()
    if not any(known):
        return None
    return _hash(*map(str, known))


def _hash(*parts: str) -> str:
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()
