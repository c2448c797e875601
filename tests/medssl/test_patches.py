"""Patches of volumes as samples: the grid, what is cut out, and a whole run."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from medssl.cli import app
from medssl.config import DataConfig
from medssl.encoder import load_encoder
from medssl.errors import DataError, IngestError, UnsupportedImageError
from medssl.intensity import Window
from medssl.loading import patch_canvas
from medssl.loading.dataset import CanvasDataset
from medssl.loading.fitting import Fitting
from medssl.loading.store import StorePlan
from medssl.loading.volume_canvas import read_shown
from medssl.manifest import Manifest, read_manifest, write_manifest
from medssl.transforms.resizing import resize
from medssl.volumes.patches import MOST_PATCHES, Patch, grid_of, in_axis
from medssl.volumes.read import Slices
from medssl.volumes.samples import as_samples, as_slices
from medssl.volumes.turning import turned
from tests.medssl.test_volume_samples import run, scanned

SIDES = (37, 30, 11)  # to the right, to the front, to the head
STEPS = (0.8, 1.1, 3.0)  # mm


@pytest.fixture(autouse=True)
def site_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDSSL_KEY_FILE", str(tmp_path / "site.key"))


def write_volume(
    path: Path, seed: int, *, axcodes: str = "RAS", sides: tuple[int, ...] = SIDES
) -> None:
    values = np.random.default_rng(seed).integers(0, 900, sides).astype(np.int16)
    values[: 4 + 8 * (seed % 2)] += 2000
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axcodes)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.diag([*STEPS, 1.0])).as_reoriented(turn), path)


def put_together(patches: Manifest, dataset: CanvasDataset) -> np.ndarray:
    """Return the only volume of `patches`, made of them, in float; each agrees where they overlap."""
    corners = patches.rows["corner"].to_list()
    side = dataset[0].shape[-1]
    whole = np.full(np.max(corners, axis=0) + side, np.nan)
    for row, corner in enumerate(corners):
        part = whole[tuple(slice(first, first + side) for first in corner)]
        cube = dataset[row][0].numpy().astype(float)
        seen = ~np.isnan(part)
        assert np.array_equal(part[seen], cube[seen])
        part[:] = cube
    assert not np.isnan(whole).any()
    return whole


@pytest.mark.parametrize("axcodes", ["RAS", "LPS", "SAR", "PIR"])
@pytest.mark.parametrize(("spacing_mm", "side"), [(1.0, 16), (0.7, 10), (1.9, 8)])
def test_patches_put_together_are_the_volume_at_their_spacing(
    tmp_path: Path, axcodes: str, spacing_mm: float, side: int
) -> None:
    write_volume(tmp_path / "d" / "v.nii", 1, axcodes=axcodes)
    manifest = scanned(tmp_path / "d")
    patches = as_samples(manifest, 3, 1, Patch(side, spacing_mm))
    found = put_together(patches, CanvasDataset(patches, canvas=side, channels=1))
    lengths = [round(count * step / spacing_mm) for count, step in zip(SIDES, STEPS, strict=True)]
    assert found.shape == tuple(reversed(lengths))
    shown = read_shown(Slices.of(manifest.rows), manifest.root, Window.AUTO)
    placed, steps = turned(tmp_path, shown, Slices.of(manifest.rows).geometry)
    assert steps == pytest.approx(STEPS[::-1])
    whole = resize(torch.from_numpy(placed.copy())[None, None], found.shape)[0, 0].numpy()
    np.testing.assert_allclose(found / 65535, whole, atol=3e-5)
    canvas = max(lengths) + 2
    cube = CanvasDataset(as_samples(manifest, 3), canvas=canvas, channels=1, spacing_mm=spacing_mm)
    inside = tuple(
        slice((canvas - length) // 2, (canvas - length) // 2 + length) for length in found.shape
    )
    np.testing.assert_allclose(found / 65535, cube[0][0].numpy()[inside] / 65535, atol=3e-5)
