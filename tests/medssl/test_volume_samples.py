"""Whole volumes as samples: what a row stands for, the cube it is read as, and a whole run."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import polars as pl
import pytest
import torch
from typer.testing import CliRunner

from medssl.cli import app
from medssl.config import DERIVED, DataConfig
from medssl.errors import DataError, UnsupportedImageError
from medssl.intensity import Window, show_volume
from medssl.loading.dataset import CanvasDataset
from medssl.loading.volume_canvas import to_cube
from medssl.manifest import Manifest, read_manifest, write_manifest
from medssl.run_data import training_rows
from medssl.scanning.scan import scan
from medssl.scanning.settings import ScanConfig
from medssl.volumes.samples import as_samples, as_slices
from tests.medssl.make import write_dicom

SIDES = (12, 10, 8)  # to the right, to the front, to the head


def write_volume(path: Path, seed: int, *, axcodes: str = "RAS", step: float = 1.0) -> np.ndarray:
    """Write noise around a bright block in the right, front, upper corner; return it in RAS."""
    values = np.random.default_rng(seed).integers(0, 900, SIDES).astype(np.int16)
    values[8:, 7:, 6:] += 3000 if seed % 2 else 1500
    image = nib.Nifti1Image(values, np.diag([step, step, step, 1.0]))
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axcodes)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image.as_reoriented(turn), path)
    return values


def scanned(folder: Path, **config: object) -> Manifest:
    out = folder.parent / "manifest.parquet"
    scan(folder, out, ScanConfig.model_validate({"workers": 1, **config}))
    return read_manifest(out)


def cubes(manifest: Manifest, side: int) -> torch.Tensor:
    volumes = as_samples(manifest, 3)
    dataset = CanvasDataset(volumes, canvas=side, channels=1, window=Window.FULL)
    return dataset.read_batch(torch.arange(len(volumes))).pixels


def test_a_row_stands_for_a_volume_and_shows_its_middle(tmp_path: Path) -> None:
    for number in range(3):
        write_volume(tmp_path / "d" / f"p{number}" / "v.nii", number)
    manifest = scanned(tmp_path / "d")
    volumes = as_samples(manifest, 3)
    assert len(manifest) == 24
    assert len(volumes) == 3
    assert volumes.rows["slice"].to_list() == [4, 4, 4]
    assert volumes.rows["sample"].to_list() == volumes.rows["volume"].to_list()
    assert volumes.rows["content"].n_unique() == 3
    assert as_samples(volumes, 3) is volumes
    assert as_samples(manifest, 2) is manifest


def test_what_slices_do_not_agree_on_is_unknown_and_text_in_one_is_text(tmp_path: Path) -> None:
    write_volume(tmp_path / "d" / "v.nii", 0)
    manifest = scanned(tmp_path / "d")
    rows = manifest.rows.with_columns(
        label=pl.Series(["a"] * 7 + ["b"]),
        patient=pl.lit("p"),
        burned_in=pl.Series([None] * 7 + ["declared"]),
    )
    volumes = as_samples(replace(manifest, rows=rows), 3)
    assert volumes.rows.select("label", "patient", "burned_in").rows() == [(None, "p", "declared")]
    with pytest.raises(DataError, match="none of 8 images"):
        training_rows(replace(manifest, rows=rows), DataConfig(path=tmp_path, dims=3))


def test_the_label_of_one_slice_is_that_of_its_volume(tmp_path: Path) -> None:
    for number in range(2):
        write_volume(tmp_path / "d" / f"{number}.nii", number)
    manifest = scanned(tmp_path / "d")
    labels = [None] * 16
    labels[5] = "a"  # type: ignore[call-overload]
    rows = manifest.rows.with_columns(label=pl.Series(labels, dtype=pl.String))
    volumes = as_samples(replace(manifest, rows=rows), 3)
    assert volumes.rows["label"].to_list() == ["a", None]


def test_volumes_become_slices_again_with_what_was_said_of_them(tmp_path: Path) -> None:
    for number in range(3):
        write_volume(tmp_path / "d" / f"{number}.nii", number)
    volumes = as_samples(scanned(tmp_path / "d"), 3).where(pl.col("path") != "1.nii")
    said = volumes.rows.with_columns(label=pl.Series(["a", "b"]), split=pl.Series(["train", None]))
    volumes = replace(volumes, rows=said)
    write_manifest(as_slices(volumes), tmp_path / "again.parquet")
    again = read_manifest(tmp_path / "again.parquet")
    assert len(again) == 16
    assert as_samples(again, 3).rows.equals(said)
    assert as_slices(again) is again


def test_a_part_of_the_slices_is_refused_and_so_are_no_volumes(tmp_path: Path) -> None:
    write_volume(tmp_path / "d" / "v.nii", 0)
    manifest = scanned(tmp_path / "d")
    with pytest.raises(DataError, match="slices are missing of 1 of 1 volumes"):
        as_samples(manifest.where(pl.col("slice") != 3), 3)
    with pytest.raises(DataError, match="none of the 8 images is a slice"):
        as_samples(replace(manifest, rows=manifest.rows.with_columns(volume=None)), 3)


@pytest.mark.parametrize("axcodes", ["RAS", "LPS", "SAR", "PIR"])
def test_a_cube_has_the_axes_of_the_patient_however_the_file_lies(
    tmp_path: Path, axcodes: str
) -> None:
    values = write_volume(tmp_path / "d" / "v.nii", 1, axcodes=axcodes)
    cube = cubes(scanned(tmp_path / "d"), 12)[0, 0].float().numpy() / 65535
    low, high = float(values.min()), float(values.max())
    expected = (values.T[:, ::-1, ::-1] - low) / (high - low)  # to the head, the back, the left
    np.testing.assert_allclose(cube[2:10, 1:11, :], expected, atol=2e-5)
    np.testing.assert_allclose(cube[0], cube[2])  # borders go on outwards
    np.testing.assert_allclose(cube[:, 11], cube[:, 10])


def test_the_longest_side_in_mm_fills_the_cube() -> None:
    shown = np.zeros((6, 10, 20), np.float32)
    shown[:, 5:] = 1
    cube = to_cube(shown, (5.0, 1.0, 1.0), 30)[0].float() / 65535  # 30, 10 and 20 mm
    assert cube.shape == (30, 30, 30)
    assert (cube[:, :13] == 0).all()
    assert (cube[:, 17:] == 1).all()


def test_a_wanted_spacing_holds_for_volumes_of_every_size() -> None:
    cubes = []
    for counts in ((6, 12, 20), (8, 16, 40)):  # slices of 5 mm, pixels of 1 mm
        shown = np.zeros(counts, np.float32)
        at = tuple(count // 2 for count in counts)
        shown[at[0] - 1 : at[0] + 1, at[1] - 3 : at[1] + 3, at[2] - 4 : at[2] + 4] = 1
        cube = to_cube(shown, (5.0, 1.0, 1.0), 12, 2.0)[0].float() / 65535
        assert cube.shape == (12, 12, 12)
        inside = [cube.amax(dim=others).sum().item() for others in ((1, 2), (0, 2), (0, 1))]
        assert inside == pytest.approx([5, 3, 4], abs=0.3)  # 10, 6 and 8 mm
        cubes.append(cube)
    torch.testing.assert_close(cubes[0], cubes[1])


def test_what_is_larger_than_a_wanted_cube_is_cut_off_on_both_sides() -> None:
    shown = np.arange(30, dtype=np.float32)[:, None, None] * np.ones((1, 4, 4), np.float32) / 30
    cube = to_cube(shown, (1.0, 1.0, 1.0), 10, 1.0)[0].float() / 65535
    np.testing.assert_allclose(cube[:, 5, 5], np.arange(10, 20) / 30, atol=2e-5)


def test_a_spacing_is_wanted_of_volumes_that_have_one(tmp_path: Path) -> None:
    for number in range(3):
        write_volume(tmp_path / "d" / f"{number}.nii", number, step=0.5 + number)
    volumes = as_samples(scanned(tmp_path / "d"), 3)
    plain = CanvasDataset(volumes, canvas=8, channels=1)
    wanted = CanvasDataset(volumes, canvas=8, channels=1, spacing_mm=1.0)
    assert not torch.equal(plain[0], wanted[0])
    assert torch.equal(plain[0], CanvasDataset(volumes, canvas=8, channels=1, cache_gb=0)[0])
    np.savez(tmp_path / "x.npz", train_images=np.zeros((2, 8, 8, 8), np.uint8))
    scan(tmp_path / "x.npz", tmp_path / "x.parquet", ScanConfig(workers=1))
    arrays = as_samples(read_manifest(tmp_path / "x.parquet"), 3)
    slices = volumes.slices
    assert slices is not None
    blind = replace(volumes, slices=slices.with_columns(spacing_row_mm=pl.lit(None, pl.Float64)))
    for without in (arrays, blind):
        with pytest.raises(UnsupportedImageError, match="a volume without a spacing"):
            CanvasDataset(without, canvas=8, channels=1, spacing_mm=1.0)[0]


def test_a_spacing_over_the_configuration_of_a_run_without_one_has_its_own_canvas() -> None:
    assert "data.canvas" in DERIVED["data.spacing_mm"]


def test_a_shrunk_volume_is_averaged() -> None:
    shown = np.random.default_rng(0).random((8, 8, 8)).astype(np.float32)
    cube = to_cube(shown, (1.0, 1.0, 1.0), 4)[0].float().numpy() / 65535
    expected = shown.reshape(4, 2, 4, 2, 4, 2).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(cube, expected, atol=2e-5)


def test_ct_has_a_fixed_window_and_other_volumes_their_own_range() -> None:
    values = np.linspace(-1000, 1000, 1001, dtype=np.float32)
    ct = show_volume(values, Window.AUTO, modality="CT", bits=16)
    assert ct[values <= -360].max() < 0.002
    assert ct[values >= 441].min() > 0.998
    mr = show_volume(values, Window.AUTO, modality="MR", bits=16)
    assert (mr == 0).sum() == pytest.approx(6, abs=1)
    assert (mr == 1).sum() == pytest.approx(6, abs=1)
    mask = np.array([0, 0, 255, 51], np.float32)
    np.testing.assert_allclose(
        show_volume(mask, Window.AUTO, modality=None, bits=8), [0, 0, 1, 0.2]
    )
    nothing = np.array([np.nan, np.inf], np.float32)
    assert (show_volume(nothing, Window.AUTO, modality=None, bits=32) == 0).all()


def test_an_unreadable_volume_is_left_out_of_its_batch(tmp_path: Path) -> None:
    for number in range(4):
        write_volume(tmp_path / "d" / f"{number}.nii", number)
    volumes = as_samples(scanned(tmp_path / "d"), 3)
    (tmp_path / "d" / "2.nii").unlink()
    dataset = CanvasDataset(volumes, canvas=8, channels=3, window=Window.AUTO)
    batch = dataset.read_batch(torch.arange(4))
    assert batch.index.tolist() == [0, 1, 3]
    assert batch.pixels.shape == (3, 3, 8, 8, 8)
    assert dataset.unreadable == (volumes.rows["sample"][2],)


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("method", ["simclr", "dino", "mae"])
def test_volumes_go_through_the_whole_line(tmp_path: Path, method: str) -> None:
    for number in range(24):
        label = ("dim", "bright")[number % 2]
        write_volume(tmp_path / "d" / label / f"{number}.nii.gz", number)
    manifest = tmp_path / "m.parquet"
    pattern = ("--class-folders", "--patient-pattern", r"(\d+)\.nii")
    run("scan", tmp_path / "d", "--out", manifest, *pattern)
    small = {
        "simclr": ("--backbone", "resnet10", "--set", "backbone.width=8"),
        "dino": ("--backbone", "resnet10", "--set", "backbone.width=8"),
        "mae": ("--set", "method.decoder_depth=1"),
    }[method]
    out = tmp_path / "run"
    run(
        *("pretrain", manifest, "--out", out, "--dims", 3, "--method", method, "--image-size", 16),
        *(*small, "--set", "run.steps=2", "--batch-size", 8, "--device", "cpu"),
    )
    run("embed", out, manifest, "--out", tmp_path / "e.parquet")
    table = pl.read_parquet(tmp_path / "e.parquet")
    assert len(table) == 24
    assert table["label"].to_list().count("dim") == 12
    few = ("--set", "shots=[2]", "--set", "fractions=[]", "--set", "repeats=1", "--set", "steps=4")
    run("finetune", out, "--out", tmp_path / "few", *few)
    run("predict", tmp_path / "few", manifest, "--out", tmp_path / "p.parquet")
    assert len(pl.read_parquet(tmp_path / "p.parquet")) == 24
    run("report", tmp_path / "few")
    assert "volumes" in (tmp_path / "few" / "report.html").read_text(encoding="utf-8")
    if method != "simclr":
        return
    run("finetune", out, "--data", tmp_path / "few/manifest.parquet", "--out", tmp_path / "b", *few)
    student = ("--set", "width=8", "--set", "scratch_steps=2", "--steps", 2, "--batch-size", 4)
    for data in ((), ("--data", manifest)):
        folder = tmp_path / f"student{len(data)}"
        run("distill", tmp_path / "few", *data, "--out", folder, *student)
        run("predict", folder, folder / "manifest.parquet", "--out", tmp_path / "p.parquet")
        assert len(pl.read_parquet(tmp_path / "p.parquet")) == 24


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--method", "rotation"), "rotation is for images"),
        (("--backbone", "hf_vit"), "is for images"),
        (("--backbone", "efficientnet_b0"), "for images only"),
    ],
)
def test_what_volumes_cannot_have_is_told(
    tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    write_volume(tmp_path / "d" / "v.nii", 0)
    write_volume(tmp_path / "d" / "w.nii", 1)
    arguments = ["pretrain", str(tmp_path / "d"), "--out", str(tmp_path / "run"), "--dims", "3"]
    result = CliRunner().invoke(app, [*arguments, *words])
    assert result.exit_code == 2
    assert message in result.output


def test_copies_of_a_volume_under_other_names_have_the_same_content(tmp_path: Path) -> None:
    planes = np.random.default_rng(0).integers(0, 900, (6, 8, 8)).astype(np.int16)
    for name, order in (("a", range(6)), ("b", [3, 1, 5, 0, 4, 2])):
        for place, number in enumerate(order):
            about = {"SeriesInstanceUID": "1.2.3" + name, "ImagePositionPatient": [0, 0, place]}
            path = tmp_path / "d" / name / f"{number}.dcm"
            sides = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
            write_dicom(path, planes[place], **about, **sides)  # type: ignore[arg-type]
    volumes = as_samples(scanned(tmp_path / "d"), 3).rows
    assert len(volumes) == 2
    assert volumes["content"].n_unique() == 1


def test_volumes_that_do_not_fit_the_cache_are_read_by_loader_processes(tmp_path: Path) -> None:
    """In a process of its own, which would not end if a forked reader waited for a lock."""
    for number in range(8):
        write_volume(tmp_path / "d" / f"{number}.nii", number)
    out = tmp_path / "run"
    words = [
        "pretrain",
        str(tmp_path / "d"),
        "--out",
        str(out),
        "--dims",
        "3",
        "--image-size",
        "16",
    ]
    small = ["backbone.name=resnet10", "backbone.width=8", "run.steps=3", "run.batch_size=4"]
    settings = [*small, "data.workers=1", "data.cache_gb=0", "run.device=cpu"]
    sets = [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, "-m", "medssl.cli", *words, *sets]
    subprocess.run(command, check=True, timeout=180, capture_output=True)
    assert (out / "encoder.safetensors").exists()
