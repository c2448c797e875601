"""Which file holds the mask of an image: beside it by a template, or a DICOM object of its series.

A mask is no image to learn from. Its path stands in the column `masks` of the images it belongs to,
and it is opened by whoever learns from masks: see `medssl.masks`.
"""

import posixpath
from collections.abc import Iterable
from string import Formatter

import polars as pl

from medssl.errors import DataError, Reason
from medssl.manifest import of_one_patient
from medssl.manifest_paths import path_shape
from sslcore.errors import ConfigError

FIELDS = ("folder", "name", "stem")
_USAGE = "such as '{folder}/{stem}_mask.png' or 'labels/{name}'"


def beside(template: str | None, paths: Iterable[str]) -> dict[str, str]:
    """Return the path of the mask of each image that has one.

    Args:
        template: Path of a mask below the root, with the fields of `FIELDS`: the folder of the
            image, its name, and its name without the end (`.png`, `.nii.gz`). None finds nothing.
        paths: Of all files, as the manifest writes them.

    Raises:
        ConfigError: No such template.
        DataError: It fits no file.
    """
    if template is None:
        return {}
    _require_template(template)
    known = list(paths)
    there = set(known)
    found = {path: mask_path(template, path) for path in known}
    masks = {path: mask for path, mask in found.items() if mask != path and mask in there}
    if not masks:
        asked = path_shape(next(iter(found.values()), ""))
        raise DataError(
            f"--masks {template}: none of {len(known)} files has a mask there; of the first it"
            f" would be like {asked}"
        )
    shared = len(masks) - len(set(masks.values()))
    if shared:
        raise DataError(
            f"--masks {template}: {shared} images would share the mask of another; tell their"
            " folders apart with {folder}"
        )
    return masks


def mask_path(template: str, path: str) -> str:
    """Return where the mask of an image is, by a template; both below the same root."""
    folder, _, name = path.rpartition("/")
    stem = name.removesuffix(".gz").rpartition(".")[0] or name
    fields = {"folder": folder or ".", "name": name, "stem": stem}
    return posixpath.normpath(template.format_map(fields))


def with_masks(rows: pl.DataFrame, rejected: pl.DataFrame, masks: dict[str, str]) -> pl.DataFrame:
    """Fill the column `masks` of a manifest.

    Images of several patients or studies that share one series get none of its objects: which of
    them is outlined would be a guess.

    Args:
        rows: Of the manifest.
        rejected: Files set aside, among them the DICOM objects that segment images.
        masks: See `beside`.
    """
    own = pl.DataFrame(
        {"path": list(masks), "beside": [[mask] for mask in masks.values()]},
        schema={"path": pl.String, "beside": pl.List(pl.String)},
    )
    objects = (
        rejected.filter(pl.col("reason") == Reason.SEGMENTATION)
        .select("series", pl.col("path").alias("objects"))
        .explode("series")
        .drop_nulls("series")
        .group_by("series", maintain_order=True)
        .agg("objects")
        .join(rows.filter(of_one_patient("series")), on="series", how="semi", maintain_order="left")
    )
    joined = rows.join(own, on="path", how="left", maintain_order="left").join(
        objects, on="series", how="left", maintain_order="left"
    )
    return joined.with_columns(pl.coalesce("beside", "objects").alias("masks")).select(rows.columns)


def _require_template(template: str) -> None:
    try:
        parts = [part for part in Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        raise ConfigError(f"--masks {template}: {error}; expected a path {_USAGE}") from error
    if any(form or change for _, _, form, change in parts):
        raise ConfigError(f"--masks {template}: fields take no format; expected a path {_USAGE}")
    fields = {str(name) for _, name, _, _ in parts}
    unknown = sorted(fields - set(FIELDS))
    if unknown or not fields & {"name", "stem"}:
        what = f"unknown field {unknown[0]!r}" if unknown else "needs {name} or {stem}"
        raise ConfigError(f"--masks {template}: {what}; expected a path {_USAGE}")
