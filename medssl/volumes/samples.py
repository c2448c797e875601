"""What one sample is: an image, a slice with its neighbours, or a whole volume."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from medssl.config import Dims, Slab
from medssl.errors import DataError
from medssl.manifest import Manifest

_AGREED = ("label", "split", "patient", "study", "series", "site", "scanner", "modality")


def as_samples(manifest: Manifest, dims: Dims, slab: Slab = 1) -> Manifest:
    """Return the manifest as it is, with the slices of volumes only, or with a row per volume.

    The row of a volume is that of its middle slice, which stands for it in pictures, under the name
    of the volume. The label of one slice is that of the volume; where slices contradict each other,
    it is null, and so is whatever else they should agree on. Text is suspected if it is in one of
    them. Images of no volume are left out.

    Args:
        manifest: As it was read; one of volumes is returned as it is.
        dims: 3 for volumes.
        slab: 3 for slices with those before and after them.

    Raises:
        DataError: There are no volumes, or slices of one are missing.
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
    about = held.group_by("volume", maintain_order=True).agg(
        *(_agreed(name) for name in _AGREED),
        pl.col("burned_in").drop_nulls().first(),
        pl.col("channels").max(),
        pl.col("content").sort_by("slice"),
    )
    about = about.with_columns(pl.col("content").map_elements(_content, return_dtype=pl.String))
    names = manifest.rows.columns
    middle = held.filter(pl.col("slice") == pl.col("slices") // 2).drop(
        *_AGREED, "burned_in", "channels", "content"
    )
    rows = middle.join(about, on="volume", how="left", maintain_order="left").with_columns(
        sample="volume"
    )
    return replace(manifest, rows=rows.select(names), slices=held)


def as_slices(manifest: Manifest) -> Manifest:
    """Return a manifest of images again, with the labels and the splits of the volumes.

    Args:
        manifest: As `as_samples` returns it; one of images is returned as it is.
    """
    if manifest.slices is None:
        return manifest
    unit = "volume" if manifest.holds_volumes else "sample"
    given = manifest.rows.select(unit, "label", "split")
    used = manifest.slices.join(manifest.rows, on="volume", how="semi", maintain_order="left")
    rows = used.drop("label", "split").join(given, on=unit, how="left", maintain_order="left")
    return replace(manifest, rows=rows.select(manifest.rows.columns), slices=None, slab=1)


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
    return hashlib.blake2b("\n".join(map(str, known)).encode(), digest_size=16).hexdigest()
