"""Outline the structures of new images, with a network that `medssl segment` left.

OUT/
    outlines.parquet     a row per case: what is known of it, its file, and pixels of each class
    CASE.png             of an image: number of the class of each pixel, in the pixels of the image
    CASE.nii.gz          of a volume: likewise, in its place in the patient
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import polars as pl
import torch
from PIL import Image

from medssl.config import EmbedConfig
from medssl.fewlabels.groups import IntArray
from medssl.manifest import Manifest
from medssl.masks.read import Codes
from medssl.run_data import open_data
from medssl.segmentation.kept import load_segmenter
from medssl.segmentation.network import Segmenter
from medssl.segmentation.seen_images import SeenImages
from medssl.sources.volume import LPS
from medssl.volumes.geometry import Geometry, geometry_of_rows, volumes_of
from medssl.volumes.samples import as_samples
from sslcore.console import Progress
from sslcore.device import choose_device
from sslcore.files import require_new_folder, whole_folder
from sslcore.tables import write_parquet

TABLE = "outlines.parquet"
_SCHEMA = pl.Schema(
    {
        "case": pl.String(),  # sample, or volume
        "patient": pl.String(),  # keyed hash, or null
        "file": pl.String(),
        "class": pl.String(),
        "pixels": pl.Int64(),
        "ml": pl.Float64(),  # millilitres, of whole volumes whose spacing is known
    }
)


class _Case(NamedTuple):
    name: str
    patient: str | None
    rows: IntArray  # of the manifest; slices in order
    geometry: Geometry | None  # None of an image that is no volume


_CACHE_GB = 0.5  # what was looked at once is at hand a moment later


@dataclass(frozen=True, slots=True)
class OutlineResult:
    """What was written.

    Attributes:
        cases: Images and volumes.
        failures: Images that could not be read any more; in a volume they are empty slices.
    """

    cases: int
    failures: int


def predict(results: Path, data: Path, out: Path, config: EmbedConfig) -> OutlineResult:
    """Outline every image and volume of `data`.

    Args:
        results: Folder that `medssl segment` made.
        data: Folder, or manifest.parquet.
        out: New folder; appears whole or not at all. The manifest of a folder is kept beside it,
            as `OUT.manifest.parquet`: it joins cases to paths.
        config: Settings.

    Raises:
        OutputError: `out` exists, or cannot be written.
        SSLError: There is no network, or the data cannot be used.
    """
    require_new_folder(out, way_out="give another name with --out")
    device = torch.device(choose_device(config.device))
    kept = load_segmenter(results, device=device)
    found = open_data(data, scanned_to=out.with_name(f"{out.name}.manifest.parquet"))
    manifest = as_samples(found, kept.spec.dims, kept.spec.slab)
    images = SeenImages(manifest, kept.spec, device=device, cache_gb=_CACHE_GB)
    cases = list(_cases(manifest))
    failures, told = 0, []
    with whole_folder(out) as draft, Progress("outline") as progress:
        progress.expect(len(cases), unit="cases")
        for some in _batches(cases, config.batch_size):
            outlines = _outlines(some, images, kept.network)
            for case in some:
                own = {row: outlines[row] for row in case.rows.tolist() if row in outlines}
                failures += len(case.rows) - len(own)
                if own:
                    told += _describe(case, own, _write(draft, case, own), kept.classes)
            progress.advance(len(some))
        if failures:
            progress.note(f"{failures} images could not be read and are left out")
        write_parquet(pl.DataFrame(told, schema=_SCHEMA, orient="row"), draft / TABLE)
    return OutlineResult(len(cases), failures)


def _cases(manifest: Manifest) -> Iterator[_Case]:
    rows = manifest.rows.with_row_index("row")
    if manifest.holds_volumes:
        slices = {part["volume"][0]: part for part in volumes_of(_slices(manifest))}
        for row, name, patient in rows.select("row", "volume", "patient").iter_rows():
            yield _Case(name, patient, np.array([row]), geometry_of_rows(slices[name]))
        return
    for part in volumes_of(rows):
        name, patient = part["volume"][0], part["patient"][0]
        yield _Case(name, patient, np.array(part["row"], np.int64), geometry_of_rows(part))
    loose = rows.filter(pl.col("volume").is_null())
    for row, name, patient in loose.select("row", "sample", "patient").iter_rows():
        yield _Case(name, patient, np.array([row]), None)


def _slices(manifest: Manifest) -> pl.DataFrame:
    if manifest.slices is None:
        raise TypeError("expected a manifest of volumes")
    return manifest.slices


def _batches(cases: Sequence[_Case], size: int) -> Iterator[list[_Case]]:
    """Give cases together as long as they have no more than `size` rows, or are one."""
    some: list[_Case] = []
    for case in cases:
        if some and sum(len(each.rows) for each in some) + len(case.rows) > size:
            yield some
            some = []
        some.append(case)
    if some:
        yield some


def _outlines(cases: Sequence[_Case], images: SeenImages, network: Segmenter) -> dict[int, Codes]:
    """Return the outline of each row that can be read, with the axes of the file."""
    rows = np.concatenate([case.rows for case in cases])
    found = images.outline(network, rows, complete=False)
    return {each.row: images.in_file(each.row, each.codes) for each in found}


def _write(folder: Path, case: _Case, outlines: dict[int, Codes]) -> str:
    """Write an image as PNG, a volume as NIfTI, and return the name of the file."""
    first = next(iter(outlines.values()))
    if case.geometry is None:
        name = f"{case.name}.png"
        Image.fromarray(first).save(folder / name)
        return name
    whole = first
    if first.ndim == 2:
        empty = np.zeros_like(first)
        whole = np.stack([outlines.get(row, empty) for row in case.rows.tolist()])
    affine = np.eye(4)
    if case.geometry.affine is not None:
        affine = LPS @ case.geometry.affine[:, (2, 1, 0, 3)]
    name = f"{case.name}.nii.gz"
    nib.save(nib.Nifti1Image(whole.T, affine), folder / name)
    return name


def _describe(
    case: _Case, outlines: dict[int, Codes], name: str, classes: tuple[str, ...]
) -> list[tuple[object, ...]]:
    size = len(classes) + 1
    pixels = sum(np.bincount(codes.ravel(), minlength=size) for codes in outlines.values())
    is_whole = len(outlines) == len(case.rows)
    spacing = case.geometry.spacing_mm if case.geometry and is_whole else None
    each_ml = np.prod(spacing) / 1000 if spacing else None
    return [
        (case.name, case.patient, name, kind, int(count), each_ml and float(count * each_ml))
        for kind, count in zip(classes, np.asarray(pixels)[1:], strict=True)
    ]
