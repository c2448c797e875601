"""2.5-D: slices with those before and after them as channels."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from typer.testing import CliRunner

from medssl.cli import app
from medssl.config import DataConfig, Window
from medssl.encoder import load_encoder
from medssl.errors import DataError
from medssl.fewlabels.groups import groups_by
from medssl.loading.canvas import to_canvas
from medssl.loading.dataset import CanvasDataset
from medssl.loading.store import StorePlan
from medssl.loading.volume_canvas import read_shown
from medssl.manifest import Manifest, read_manifest
from medssl.run_data import tell_burned_in, training_rows
from medssl.scanning.scan import scan
from medssl.scanning.settings import ScanConfig
from medssl.volumes.geometry import volumes_of
from medssl.volumes.read import Slices
from medssl.volumes.samples import as_samples, as_slices
from tests.medssl.make import hospital
from tests.medssl.test_volume_samples import write_volume


@pytest.fixture(autouse=True)
def site_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDSSL_KEY_FILE", str(tmp_path / "site.key"))


def scanned(folder: Path, count: int = 2) -> Manifest:
    for number in range(count):
        write_volume(folder / f"{number}.nii", number)
    out = folder.with_name("manifest.parquet")
    scan(folder, out, ScanConfig(workers=1))
    return read_manifest(out)


def test_channels_are_the_slices_before_at_and_after_shown_as_one_volume(tmp_path: Path) -> None:
    manifest = scanned(tmp_path / "d")
    slabs = as_samples(manifest, 2, 3)
    dataset = CanvasDataset(slabs, canvas=16, channels=3)
    for rows in volumes_of(slabs.rows):
        count = len(rows)
        slices = Slices.of(rows)
        for place, sample in enumerate(rows["sample"]):
            near = [max(place - 1, 0), place, min(place + 1, count - 1)]
            three = slices._replace(images=tuple(slices.images[each] for each in near))
            expected = to_canvas(read_shown(three, manifest.root, Window.AUTO), 16, 3)
            index = slabs.rows["sample"].to_list().index(sample)
            assert torch.equal(dataset[index], expected)
            if 0 < place < count - 1:
                assert not torch.equal(expected[0], expected[1])


def test_neighbours_are_there_even_if_their_rows_are_not_learnt_from(tmp_path: Path) -> None:
    slabs = as_samples(scanned(tmp_path / "d"), 2, 3)
    chosen = slabs.where(pl.col("slice") == 2)
    every = CanvasDataset(slabs, canvas=16, channels=3)
    few = CanvasDataset(chosen, canvas=16, channels=3)
    for number, sample in enumerate(chosen.rows["sample"]):
        assert torch.equal(few[number], every[slabs.rows["sample"].to_list().index(sample)])


def test_slices_with_text_or_of_the_test_part_are_in_no_slab_to_learn_from(tmp_path: Path) -> None:
    rows = scanned(tmp_path / "d", 1).rows
    at = pl.col("slice")
    marked = Manifest(
        rows.with_columns(
            burned_in=pl.when(at == 3).then(pl.lit("pixels")),
            split=pl.when(at == 0).then(pl.lit("test")),
        ),
        tmp_path / "d",
    )
    data = DataConfig(path=tmp_path / "d", slab=3)
    learnt = training_rows(marked, data).rows["slice"].to_list()
    assert learnt == [place for place in rows["slice"] if place not in (0, 1, 2, 3, 4)]
    assert (tell_burned_in(marked, data) or "").startswith("3 images")
    allowed = training_rows(marked, data.model_copy(update={"allow_burned_in": True}))
    assert allowed.rows["slice"].to_list() == [place for place in rows["slice"] if place > 1]
    groups = groups_by(rows, "image")
    assert len(set(groups.tolist())) == 1


def test_images_of_no_volume_are_left_out_and_are_not_enough(tmp_path: Path) -> None:
    hospital(tmp_path / "d" / "flat")
    manifest = scanned(tmp_path / "d")
    assert len(as_samples(manifest, 2, 3)) < len(manifest)
    with pytest.raises(DataError, match=r"none of the \d+ images is a slice of a volume"):
        as_samples(manifest.where(pl.col("volume").is_null()), 2, 3)


def test_a_stored_slab_is_not_used_when_a_neighbour_has_changed(tmp_path: Path) -> None:
    manifest = scanned(tmp_path / "d", 1)
    slabs = as_samples(manifest, 2, 3)
    plan = StorePlan(tmp_path / "store", 1.0)
    dataset = CanvasDataset(slabs, canvas=16, channels=3, store=plan)
    for row in range(len(slabs)):
        dataset[row]
    changed = manifest.rows.with_columns(
        content=pl.when(pl.col("slice") == 3).then(pl.lit("new")).otherwise("content")
    )
    again = as_samples(Manifest(changed, manifest.root), 2, 3)
    store = CanvasDataset(again, canvas=16, channels=3, store=plan).store
    assert store is not None
    held = [store.get(row) is not None for row in range(len(again))]
    assert held == [abs(place - 3) > 1 for place in again.rows["slice"]]


def test_labels_stay_with_their_slices_on_the_way_back(tmp_path: Path) -> None:
    slabs = as_samples(scanned(tmp_path / "d"), 2, 3)
    chosen = slabs.where(pl.col("slice") == 1)
    named = pl.when(pl.col("slice") == 1).then(pl.lit("x"))
    back = as_slices(replace(chosen, rows=chosen.rows.with_columns(label=named)))
    assert back.slices is None
    assert len(back) == len(slabs)
    assert back.rows["label"].count() == 2
    assert set(back.rows.filter(pl.col("label").is_not_null())["slice"]) == {1}


def run(*words: object) -> None:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output


@pytest.mark.slow
def test_the_whole_line_takes_slabs(tmp_path: Path) -> None:
    manifest = scanned(tmp_path / "d", 6)
    number = pl.col("path").str.slice(0, 1).cast(pl.Int32)
    labels = manifest.rows.select("path", (number % 2).alias("label"))
    names = dict(labels.unique().iter_rows())
    table = "\n".join(["path,label", *(f"{path},{'ab'[label]}" for path, label in names.items())])
    (tmp_path / "labels.csv").write_text(table)
    few = ("--set", "run.steps=2", "--batch-size", 4, "--image-size", 16, "--set", "data.slab=3")
    small = ("--backbone", "resnet10", "--set", "backbone.width=8", "--set", "run.device=cpu")
    out = tmp_path / "run"
    run("pretrain", tmp_path / "manifest.parquet", "--out", out, *few, *small)
    encoder = load_encoder(out)
    assert (encoder.spec.slab, encoder.spec.channels) == (3, 3)
    run("embed", out, tmp_path / "manifest.parquet", "--out", tmp_path / "e.parquet")
    assert len(pl.read_parquet(tmp_path / "e.parquet")) == len(manifest)
    results = tmp_path / "results"
    chosen = ("--labels", tmp_path / "labels.csv", "--fraction", 1, "--split", "image")
    quick = ("--set", "steps=2", "--set", "repeats=1", "--set", "bootstrap=20")
    run("finetune", out, "--out", results, *chosen, *quick)
    assert json.loads((results / "metrics.json").read_text())["results"]
    run("predict", results, tmp_path / "manifest.parquet", "--out", tmp_path / "p.parquet")
    assert len(pl.read_parquet(tmp_path / "p.parquet")) == len(manifest)
    student = ("--set", "width=8", "--set", "scratch_steps=2", "--steps", 2, "--batch-size", 4)
    run("distill", results, "--out", tmp_path / "student", *student)
    run("report", results)
    assert "those before and after it" in (results / "report.html").read_text()


@pytest.mark.parametrize(
    "words",
    [
        ("--dims", "3"),
        ("--set", "data.channels=1"),
        ("--set", "data.stain=reinhard", "--set", "data.channels=3"),
    ],
)
def test_slabs_that_cannot_be_are_refused(tmp_path: Path, words: tuple[str, ...]) -> None:
    scanned(tmp_path / "d")
    where = ("--out", str(tmp_path / "run"), "--set", "data.slab=3", "--batch-size", "2")
    arguments = ["pretrain", str(tmp_path / "manifest.parquet"), *where, *words]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "data.slab 3 is for dims 2, 3 channels and no stain" in result.output


def test_slices_of_arrays_are_slabs_too(tmp_path: Path) -> None:
    cubes = np.random.default_rng(0).integers(0, 255, (2, 8, 8, 8)).astype(np.uint8)
    np.savez(tmp_path / "x.npz", train_images=cubes)
    scan(tmp_path / "x.npz", tmp_path / "x.parquet", ScanConfig(workers=1))
    slabs = as_samples(read_manifest(tmp_path / "x.parquet"), 2, 3)
    assert len(slabs) == 16
    pixels = CanvasDataset(slabs, canvas=8, channels=3)[1].float() / 65535
    np.testing.assert_allclose(pixels, cubes[0, :3] / 255, atol=1e-4)
