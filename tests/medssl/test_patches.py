"""Patches of volumes as samples: the grid, what is cut out, and a whole run."""

import json
import pickle
import re
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from medssl.cli import app
from medssl.encoder import load_encoder
from medssl.encoder_spec import parse_spec
from medssl.errors import DataError, IngestError, TooLargeError, UnsupportedImageError
from medssl.intensity import Window
from medssl.loading.dataset import CanvasDataset
from medssl.loading.loader import build_loader
from medssl.loading.patch_canvas import PatchReader
from medssl.loading.sampler import StepSampler
from medssl.loading.store import StorePlan
from medssl.loading.volume_canvas import read_shown
from medssl.manifest import Manifest, read_manifest, write_manifest
from medssl.report.sheets import open_images
from medssl.transforms.resizing import resize
from medssl.volumes.geometry import Geometry
from medssl.volumes.patch import Patch
from medssl.volumes.patches import MOST_PATCHES, grid_of, in_axis
from medssl.volumes.read import Slices
from medssl.volumes.samples import as_samples, as_slices
from medssl.volumes.turning import turned
from sslcore.errors import CheckpointError
from tests.medssl.test_volume_samples import run, scanned

SIDES = (37, 30, 11)  # to the right, to the front, to the head
STEPS = (0.8, 1.1, 3.0)  # mm
AXES = ("RAS", "LPS", "SAR", "PIR")
PATCH = Patch(16, 1.0)  # 30 x 33 x 33 mm become 2 x 3 x 3 patches


@pytest.fixture(autouse=True)
def site_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDSSL_KEY_FILE", str(tmp_path / "site.key"))


def write_volume(path: Path, seed: int, *, axcodes: str = "RAS") -> None:
    values = np.random.default_rng(seed).integers(0, 900, SIDES).astype(np.int16)
    values[: 4 + 8 * (seed % 2)] += 2000
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axcodes)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.diag([*STEPS, 1.0])).as_reoriented(turn), path)


def volumes(folder: Path, count: int = 2) -> Manifest:
    """Write and scan volumes that lie in different orientations."""
    for number in range(count):
        write_volume(folder / f"{number}.nii", number, axcodes=AXES[number % len(AXES)])
    return scanned(folder)


def decoded(dataset: CanvasDataset) -> int:
    assert isinstance(dataset._reader, PatchReader)
    return dataset._reader.decoded


def put_together(patches: Manifest, dataset: CanvasDataset) -> np.ndarray:
    """Return the only volume of `patches` in float; where patches overlap, they agree."""
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
    return whole / 65535


@pytest.mark.parametrize("axcodes", AXES)
def test_patches_put_together_are_the_volume_at_their_spacing(tmp_path: Path, axcodes: str) -> None:
    write_volume(tmp_path / "d" / "v.nii", 1, axcodes=axcodes)
    manifest = scanned(tmp_path / "d")
    slices = Slices.of(manifest.rows.sort("slice"))
    shown = read_shown(slices, manifest.root, Window.AUTO)
    placed, steps = turned(tmp_path, shown, slices.geometry)
    assert steps == pytest.approx(STEPS[::-1])
    for side, spacing_mm in ((16, 1.0), (10, 0.7), (8, 1.9)):
        patches = as_samples(manifest, 3, 1, Patch(side, spacing_mm))
        found = put_together(patches, CanvasDataset(patches, canvas=side, channels=1))
        lengths = [round(n * step / spacing_mm) for n, step in zip(SIDES, STEPS, strict=True)]
        assert found.shape == tuple(reversed(lengths))
        whole = resize(torch.from_numpy(placed.copy())[None, None], found.shape)[0, 0]
        np.testing.assert_allclose(found, whole.numpy(), atol=3e-5)
        large = max(lengths) + 2
        known = {"channels": 1, "spacing_mm": spacing_mm}
        cube = CanvasDataset(as_samples(manifest, 3), canvas=large, **known)[0][0]  # type: ignore[arg-type]
        before = [(large - length) // 2 for length in found.shape]
        inside = tuple(slice(a, a + n) for a, n in zip(before, found.shape, strict=True))
        np.testing.assert_allclose(found, cube.numpy()[inside] / 65535, atol=3e-5)


def test_a_volume_smaller_than_a_patch_is_padded_as_a_cube_is(tmp_path: Path) -> None:
    manifest = volumes(tmp_path / "d", 1)
    patches = as_samples(manifest, 3, 1, Patch(40, 1.0))
    assert patches.rows["corner"].to_list() == [[0, 0, 0]]
    patch = CanvasDataset(patches, canvas=40, channels=3)[0].numpy() / 65535
    whole = as_samples(manifest, 3)
    cube = CanvasDataset(whole, canvas=40, channels=3, spacing_mm=1.0)[0].numpy() / 65535
    assert patch.shape == (3, 40, 40, 40)
    np.testing.assert_allclose(patch, cube, atol=3e-5)


@given(st.integers(1, 40), st.integers(1, 90), st.data())
def test_a_part_of_an_axis_is_made_as_the_whole_is(
    count: int, side: int, data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, side - 1))
    last = data.draw(st.integers(first + 1, side))
    values = torch.sin(torch.arange(count) * 1.7)
    whole = resize(values[None, None, :, None, None], (side, 1, 1)).flatten()
    voxels, shares = in_axis(count, side, first, last)
    found = shares @ values[voxels].numpy()
    np.testing.assert_allclose(found, whole[first:last], atol=2e-5)
    assert shares.sum(1) == pytest.approx(1)
    assert voxels.stop - voxels.start <= (last - first) * max(1, count / side) + 2


def test_the_grid_needs_no_pixels_and_its_rows_tell_place_and_volume(tmp_path: Path) -> None:
    manifest = volumes(tmp_path / "d")
    for file in (tmp_path / "d").iterdir():
        file.unlink()
    said = manifest.rows.with_columns(label=pl.lit("a"), patient=pl.col("path"))
    patches = as_samples(replace(manifest, rows=said), 3, 1, PATCH)
    rows = patches.rows
    assert len(rows) == 2 * 18
    assert rows["sample"].n_unique() == rows["content"].n_unique() == 36
    names = zip(rows["volume"], rows["corner"], rows["sample"], strict=True)
    assert all(name == ".".join(map(str, (of, *corner))) for of, corner, name in names)
    assert rows["corner"].to_list()[:4] == [[0, 0, 0], [0, 0, 14], [0, 16, 0], [0, 16, 14]]
    assert rows.select("label", "patient").unique().height == 2
    assert patches.holds_volumes
    assert as_samples(patches, 3, 1, PATCH) is patches
    shown = rows.select("sample", "path", "frame").join(
        manifest.rows.select("path", "frame", pl.col("sample").alias("of")), on=("path", "frame")
    )
    assert len(shown) == 36  # every patch has a slice to be shown by
    top, bottom, left, right = rows["box"].to_numpy().T
    assert ((top >= 0) & (top < bottom) & (bottom <= rows["rows"].to_numpy())).all()
    assert ((left >= 0) & (left < right) & (right <= rows["columns"].to_numpy())).all()
    blank = manifest.rows.with_columns(content=pl.lit(None, pl.String))
    assert as_samples(replace(manifest, rows=blank), 3, 1, PATCH).rows["content"].null_count() == 36


@pytest.mark.parametrize("axcodes", AXES)
def test_the_box_of_a_patch_is_what_the_patch_shows(axcodes: str) -> None:
    codes = nib.orientations.axcodes2ornt(axcodes)
    turn = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), codes)
    affine = nib.orientations.inv_ornt_aff(turn, (40, 36, 20))  # to mm in RAS
    geometry = Geometry(np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine, 0, 0.0, 0.0)
    slices = np.random.default_rng(0).random((40, 36, 20)).astype(np.float32)
    grid = grid_of(Path("x"), slices.shape, geometry, Patch(20, 1.0))
    assert len(grid.corners) == 4
    placed, _ = turned(Path("x"), slices, geometry)
    assert placed.shape == grid.sides
    for corner, box in zip(grid.corners, grid.boxes, strict=True):
        part = placed[tuple(slice(first, first + 20) for first in corner)]
        own = slices[tuple(slice(*span) for span in box)]
        assert np.array_equal(np.sort(part, axis=None), np.sort(own, axis=None))


def test_a_picture_of_a_patch_is_its_part_of_the_slice_through_its_middle(tmp_path: Path) -> None:
    patches = as_samples(volumes(tmp_path / "d", 1), 3, 1, PATCH)
    rows, columns = patches.rows.select("rows", "columns").row(0)
    images = open_images(patches, Window.AUTO, patches.rows["sample"].to_list())
    for sample, box in patches.rows.select("sample", "box").iter_rows():
        pixels = images.pixels(sample)
        assert pixels is not None
        assert pixels.shape == (box[1] - box[0], box[3] - box[2])
        assert pixels.size < rows * columns


def test_copies_of_a_volume_have_patches_of_the_same_content(tmp_path: Path) -> None:
    write_volume(tmp_path / "d" / "a.nii", 0)
    write_volume(tmp_path / "d" / "b.nii", 0)
    rows = as_samples(scanned(tmp_path / "d"), 3, 1, PATCH).rows
    assert rows["sample"].n_unique() == 36
    assert rows["content"].n_unique() == 18


def test_a_volume_that_cannot_be_cut_says_why_when_it_is_read(tmp_path: Path) -> None:
    manifest = volumes(tmp_path / "d")
    is_first = pl.col("path") == "0.nii"
    step = pl.col("spacing_row_mm")
    for value, error in ((None, UnsupportedImageError), (1e6, TooLargeError)):
        rows = manifest.rows.with_columns(
            spacing_row_mm=pl.when(is_first).then(pl.lit(value, pl.Float64)).otherwise(step)
        )
        patches = as_samples(replace(manifest, rows=rows), 3, 1, PATCH)
        assert len(patches) == 19
        dataset = CanvasDataset(patches, canvas=16, channels=1)
        with pytest.raises(error):
            dataset[patches.rows["path"].to_list().index("0.nii")]
        assert dataset.read_batch(torch.arange(19)).index.tolist() == list(range(1, 19))
    with pytest.raises(DataError, match=r"none of the 2 volumes can be cut .* raise data.spacing"):
        as_samples(manifest, 3, 1, Patch(8, 1e-3))
    assert MOST_PATCHES < 1e5


def test_in_order_a_volume_is_decoded_once_also_by_several_threads(tmp_path: Path) -> None:
    patches = as_samples(volumes(tmp_path / "d", 3), 3, 1, PATCH)

    def dataset() -> CanvasDataset:
        return CanvasDataset(patches, canvas=16, channels=1, cache_gb=0)

    one, own, shared = dataset(), dataset(), dataset()
    cubes = [one[row] for row in range(54)]
    assert decoded(one) == 3
    with ThreadPoolExecutor(3) as pool:
        parts = [range(first, first + 18) for first in (0, 18, 36)]
        found = list(pool.map(lambda part: [own[row] for row in part], parts))
        same = list(pool.map(lambda part: [shared[row] for row in part], [range(18)] * 3))
    assert (decoded(own), decoded(shared)) == (3, 1)
    for cube, other in zip(cubes, [each for part in found for each in part], strict=True):
        assert torch.equal(cube, other)
    assert all(torch.equal(cubes[row], part[row]) for part in same for row in range(18))
    again = pickle.loads(pickle.dumps(one))  # as a spawned process gets it
    assert torch.equal(again[20], cubes[20])


def test_training_decodes_a_volume_once_if_its_patches_can_be_kept(tmp_path: Path) -> None:
    patches = as_samples(volumes(tmp_path / "d", 3), 3, 1, PATCH)
    known = {"canvas": 16, "channels": 1}
    plan = StorePlan(tmp_path / "store", 1.0)
    kept = CanvasDataset(patches, **known)  # type: ignore[arg-type]
    stored = CanvasDataset(patches, **known, cache_gb=0, store=plan)  # type: ignore[arg-type]
    nowhere = CanvasDataset(patches, **known, cache_gb=0)  # type: ignore[arg-type]
    for dataset in (kept, stored, nowhere):
        for batch in build_loader(dataset, StepSampler(54, 9, seed=0, last_step=6), workers=0):
            assert len(batch.index) == 9
    assert decoded(kept) == decoded(stored) == 3
    assert decoded(nowhere) > 20
    later = CanvasDataset(patches, **known, cache_gb=0, store=plan)  # type: ignore[arg-type]
    assert all(torch.equal(later[row], nowhere[row]) for row in range(54))
    assert decoded(later) == 0


def test_patches_of_air_are_rows_but_others_are_learnt_from(tmp_path: Path) -> None:
    for number in range(2):
        values = np.random.default_rng(number).integers(900, 1200, (32, 32, 32)).astype(np.int16)
        values[16:] = 0
        values[:16, :16] = 0
        (tmp_path / "d").mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "d" / f"{number}.nii")
    patches = as_samples(scanned(tmp_path / "d"), 3, 1, PATCH)
    known = {"canvas": 16, "channels": 1}
    plain = CanvasDataset(patches, **known)  # type: ignore[arg-type]
    every = plain.read_batch(torch.arange(16))
    blank = {row for row in range(16) if len(every.pixels[row].view(torch.int16).unique()) == 1}
    assert every.index.tolist() == list(range(16))
    assert len(blank) == plain.num_blank == 12
    seen = []
    for cache_gb in (1.0, 0.0):
        dataset = CanvasDataset(patches, **known, cache_gb=cache_gb)  # type: ignore[arg-type]
        order = StepSampler(16, 8, seed=1, last_step=6)
        batches = list(build_loader(dataset, order, workers=0))
        seen.append([batch.index.tolist() for batch in batches])
        assert dataset.num_blank == 12
        for batch, step in zip(batches, order, strict=True):
            assert not blank.intersection(batch.index.tolist())
            pairs = zip(batch.index.tolist(), step.rows, strict=True)
            assert all(row == own or (own in blank and row // 8 == own // 8) for row, own in pairs)
            for row, pixels in zip(batch.index.tolist(), batch.pixels, strict=True):
                assert torch.equal(pixels, every.pixels[row])
        assert decoded(dataset) == 2 or not cache_gb
    assert seen[0] == seen[1]
    assert len({row for rows in seen[0] for row in rows}) == 4


def test_a_volume_of_air_stays(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    nib.save(nib.Nifti1Image(np.zeros((32, 20, 20), np.int16), np.eye(4)), tmp_path / "d" / "0.nii")
    patches = as_samples(scanned(tmp_path / "d"), 3, 1, PATCH)
    dataset = CanvasDataset(patches, canvas=16, channels=1)
    assert dataset.read_batch(torch.arange(8), learns=True).index.tolist() == list(range(8))


def test_a_stored_patch_has_its_place_its_volume_and_its_setting(tmp_path: Path) -> None:
    manifest = volumes(tmp_path / "d")
    plan = StorePlan(tmp_path / "store", 1.0)

    def missing(patches: Manifest, **other: object) -> int:
        known = {"canvas": 16, "channels": 1, "spacing_mm": 1.0, "store": plan, **other}
        dataset = CanvasDataset(patches, **known)  # type: ignore[arg-type]
        assert dataset.store is not None
        return len(patches) - dataset.store.count()

    patches = as_samples(manifest, 3, 1, PATCH)
    assert missing(patches) == 36
    dataset = CanvasDataset(patches, canvas=16, channels=1, spacing_mm=1.0, store=plan)
    assert len({dataset[row].numpy().tobytes() for row in range(36)}) == 36
    assert missing(patches) == 0
    assert missing(patches, window=Window.FULL) == 36
    other = as_samples(manifest, 3, 1, Patch(16, 1.1))
    assert missing(other, spacing_mm=1.1) == len(other)
    assert missing(as_samples(manifest, 3)) == 2
    changed = manifest.rows.with_columns(
        content=pl.when(pl.col("frame") + (pl.col("path") == "1.nii") == 0)
        .then(pl.lit("new"))
        .otherwise("content")
    )
    assert missing(as_samples(replace(manifest, rows=changed), 3, 1, PATCH)) == 18


def test_an_unreadable_volume_is_tried_once_and_costs_its_patches_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    patches = as_samples(volumes(tmp_path / "d", 3), 3, 1, PATCH)
    (tmp_path / "d" / "1.nii").unlink()
    dataset = CanvasDataset(patches, canvas=16, channels=1)
    batch = dataset.read_batch(torch.arange(54))
    paths = patches.rows["path"].to_list()
    assert batch.index.tolist() == [row for row in range(54) if paths[row] != "1.nii"]
    assert len(dataset.unreadable) == 18
    assert decoded(dataset) == 2
    (said,) = [record.getMessage() for record in caplog.records]
    assert "and 17 more of its volume left out: vanished, no such file" in said
    gone = [row for row in range(54) if paths[row] == "1.nii"]
    assert dataset.read_batch(torch.tensor(gone)).index.tolist() == []  # one volume, not 18 images
    with pytest.raises(DataError, match="1 of the 1 volumes"):
        dataset.read_batch(torch.tensor(gone), complete=True)
    for row in gone:
        with pytest.raises(IngestError) as error:
            dataset[row]
        depth = len(list(traceback.walk_tb(error.value.__traceback__)))
        assert depth < 9  # else a broken volume holds what was read of it, and more with each try
        assert error.value.__context__ is None


def test_a_store_with_too_little_room_does_not_hold_the_patches(tmp_path: Path) -> None:
    patches = as_samples(volumes(tmp_path / "d", 3), 3, 1, PATCH)
    known = {"canvas": 16, "channels": 1, "cache_gb": 0}
    for gigabytes, decodes_again in ((1.0, False), (1e-4, True)):
        plan = StorePlan(tmp_path / f"store {gigabytes}", gigabytes)
        dataset = CanvasDataset(patches, **known, store=plan)  # type: ignore[arg-type]
        assert dataset.decodes_again is decodes_again


def test_patches_become_slices_again_with_what_was_said_of_their_volumes(tmp_path: Path) -> None:
    patches = as_samples(volumes(tmp_path / "d", 3), 3, 1, PATCH).where(pl.col("path") != "1.nii")
    part = pl.when(pl.int_range(36) < 17).then(pl.lit("train")).when(pl.int_range(36) > 20)
    said = patches.rows.with_columns(label="path", split=part.then(pl.lit("val")))
    write_manifest(as_slices(replace(patches, rows=said)), tmp_path / "again.parquet")
    again = read_manifest(tmp_path / "again.parquet")
    assert len(again) == 2 * 11
    rows = as_samples(again, 3, 1, PATCH).rows
    assert rows.drop("label", "split").equals(patches.rows.drop("label", "split"))
    assert rows["label"].equals(said["path"])
    assert rows["split"].to_list() == ["train"] * 18 + ["val"] * 18


def test_patches_go_through_the_whole_line(tmp_path: Path) -> None:
    for number in range(10):
        write_volume(tmp_path / "d" / ("few", "many")[number % 2] / f"{number}.nii.gz", number)
    manifest, out, few = tmp_path / "m.parquet", tmp_path / "run", tmp_path / "few"
    pattern = ("--class-folders", "--patient-pattern", r"(\d+)\.nii")
    run("scan", tmp_path / "d", "--out", manifest, *pattern)
    settings = ("data.dims=3", "data.spacing_mm=1", "data.patches=true", "image_size=16")
    cut = [word for setting in settings for word in ("--set", setting)]
    assert "180 of 180" in run("cache", manifest, "--out", tmp_path / "store", *cut)
    small = ("--backbone", "resnet10", "--set", "backbone.width=8", "--set", "run.steps=2")
    stored = ("--set", f"data.store={tmp_path / 'store'}", "--set", "data.workers=0")
    words = ("pretrain", manifest, "--out", out, *cut, *small, *stored, "--batch-size", 8)
    run(*words)
    run(*words, "--resume")
    spec = load_encoder(out).spec
    assert (spec.patches, spec.canvas, spec.spacing_mm) == (True, 16, 1.0)
    run("embed", out, manifest, "--out", tmp_path / "e.parquet")
    table = pl.read_parquet(tmp_path / "e.parquet")
    assert table["sample"].n_unique() == 180
    assert table["label"].to_list().count("few") == 90
    trial = ("--set", "shots=[4]", "--set", "fractions=[]", "--set", "repeats=1")
    run("finetune", out, "--out", few, *trial)
    metrics = json.loads((few / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["leakage"]["patients_across_splits"] == 0
    parts = metrics["data"].values()
    assert [sum(part[unit] for part in parts) for unit in ("images", "patients")] == [180, 10]
    run("predict", few, manifest, "--out", tmp_path / "p.parquet")
    learnt = pl.read_parquet(tmp_path / "p.parquet")["part"].drop_nulls()
    assert len(learnt) == 4 * 2 + 2 * 2  # to learn and to choose
    student = ("--set", "width=8", "--set", "scratch_steps=2", "--steps", 2, "--batch-size", 4)
    run("distill", few, "--data", manifest, "--out", tmp_path / "student", *student)
    run("report", few)
    text = (few / "report.html").read_text(encoding="utf-8")
    assert "patches of volumes" in text
    assert re.search(r"[0-9a-f]{6}\.\d+\.\d+\.\d+", text)
    result = CliRunner().invoke(app, ["segment", str(out), "--out", str(tmp_path / "x")])
    assert (result.exit_code, "--set backbone.weights=" in result.output) == (2, True)


@pytest.mark.parametrize("words", [("--dims", "3"), ("--set", "data.spacing_mm=1")])
def test_patches_need_volumes_and_a_spacing(tmp_path: Path, words: tuple[str, ...]) -> None:
    arguments = ["pretrain", str(tmp_path), "--set", "data.patches=true", *words]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "data.patches needs data.dims=3 and data.spacing_mm" in result.output


def test_an_encoder_of_patches_without_their_spacing_is_damaged() -> None:
    known = {"backbone": "resnet10", "stem": "small", "width": 8, "channels": 1, "image_size": 16}
    more = {"canvas": 16, "window": "auto", "preset": "ct", "mean": [0], "std": [1]}
    told = {**known, **more, "feature_dim": 64, "dims": 3, "patches": True}
    assert parse_spec({**told, "spacing_mm": 1.0}, Path("e.safetensors")).patches
    with pytest.raises(CheckpointError, match=r"e\.json: not an encoder"):
        parse_spec(told, Path("e.safetensors"))
