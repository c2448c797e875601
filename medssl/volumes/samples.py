"""What one sample is: an image, or a whole volume."""

import hashlib
from dataclasses import replace

import polars as pl

from medssl.config import Dims
from medssl.errors import DataError
from medssl.manifest import Manifest

_AGREED = ("label", "split", "patient", "study", "series", "site", "scanner", "modality")


def as_samples(manifest: Manifest, dims: Dims) -> Manifest:
    """Return the manifest as it is, or with one row for each volume.

    The row of a volume is that of its middle slice, which stands for it in pictures, under the name
    of the volume. The label of one slice is that of the volume; where slices contradict each other,
    it is null, and so is whatever else they should agree on. Text is suspected if it is in one of
    them. Images of no volume are left out.

    Args:
        manifest: As it was read; one of volumes is returned as it is.
        dims: 3 for volumes.

    Raises:
        DataError: There are no volumes, or slices of one are missing.
    """
    if dims == 2 or manifest.slices is not None:
        return manifest
    held = manifest.rows.filter(pl.col("volume").is_not_null())
    if held.is_empty():
        raise DataError(
            f"none of the {len(manifest)} images is a slice of a volume, so dims 3 has nothing to"
            " learn from; leave out --dims 3"
        )
    _require_complete(held)
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
    given = manifest.rows.select("volume", "label", "split")
    rows = manifest.slices.drop("label", "split").join(given, on="volume", maintain_order="left")
    return replace(manifest, rows=rows.select(manifest.rows.columns), slices=None)


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
