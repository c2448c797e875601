"""Under which keys a store keeps the canvases of a manifest."""

from collections.abc import Mapping
from dataclasses import replace

import polars as pl

from medssl.loading.store import canvas_key
from medssl.manifest import Manifest
from medssl.volumes.assemble import SPACING
from medssl.volumes.read import Slices
from medssl.volumes.samples import parts_of


def canvas_keys(
    manifest: Manifest, settings: str, volumes: Mapping[str, Slices], *, in_mm: bool = False
) -> list[bytes]:
    """Return the key of the canvas of each row: its pixels, and all that changes how it is read.

    Args:
        manifest: As `medssl.volumes.samples.as_samples` returns it.
        settings: See `canvas_key`.
        volumes: By name, if rows are volumes or parts of them.
        in_mm: Whether the size of an image in its canvas depends on its spacing.
    """
    names = ("sample", "stamp", "content", "modality", "bits", "photometric")
    unit = pl.concat_str("modality", "suv", ignore_nulls=True).alias("modality")
    told = pl.when(pl.col("suv").is_not_null()).then(unit).otherwise("modality")
    if manifest.slices is None:
        all_names = (*names, *(SPACING if in_mm else ()))
        rows = manifest.rows.with_columns(told).select(pl.col(all_names).cast(pl.String))
        return [canvas_key(settings, *row) for row in rows.iter_rows()]
    if manifest.patch is not None:  # a part of what its volume is made of
        first = manifest.rows.unique("volume", keep="first", maintain_order=True)
        whole = canvas_keys(replace(manifest, rows=first, patch=None), settings, volumes)
        of = dict(zip(first["volume"], whole, strict=True))
        places = manifest.rows.select("volume", "corner").iter_rows()
        settings = f"{settings} {tuple(manifest.patch)}"
        return [canvas_key(settings, of[name].hex(), repr(corner)) for name, corner in places]
    known = replace(manifest, slices=manifest.slices.with_columns(told))
    placed = ("volume", *names, "plane", *SPACING)
    shown = {
        name: repr((of.modality, of.bits, of.photometric, of.in_suv))
        for name, of in volumes.items()
    }
    return [
        canvas_key(settings, shown[volume], *map(repr, parts))
        for volume, parts in zip(manifest.rows["volume"], parts_of(known, placed), strict=True)
    ]
