"""From masks to a network that outlines, and to honest scores."""

import copy
import gzip
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import polars as pl
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from typer.testing import CliRunner

from medssl.backbones import build_backbone
from medssl.cli import app
from medssl.config import EmbedConfig, PretrainConfig, ReportConfig, SegmentConfig
from medssl.encoder import load_encoder
from medssl.errors import DataError
from medssl.fewlabels.label_budget import LabelBudget
from medssl.manifest import read_manifest
from medssl.masks.read import MaskReader
from medssl.pretrain import pretrain
from medssl.report.build import write_report
from medssl.scanning.scan import scan
from medssl.scanning.settings import ScanConfig
from medssl.segmentation.cases import CASES_SCHEMA, Counts, Outcome, TestCases
from medssl.segmentation.feature_maps import FeatureMaps, map_shapes
from medssl.segmentation.kept import load_segmenter
from medssl.segmentation.masked_images import MaskedImages
from medssl.segmentation.network import MaskedBatch, Segmenter
from medssl.segmentation.predict import predict
from medssl.segmentation.seen_images import decided
from medssl.segmentation.segment import SegmentResult, segment
from medssl.transforms.geometry import RandGeometry
from medssl.transforms.resampling import resample_labels
from medssl.volumes.samples import as_samples
from sslcore.config import resolve_config
from sslcore.console import Progress
from sslcore.errors import CheckpointError, OutputError
from sslcore.random import SampleRandom, derive_keys
from tests.medssl.make import nifti, nrrd_file
from tests.medssl.make_masks import SHAPE, write_oblique_series, write_segmentation
from tests.page_reader import Reader

CPU = torch.device("cpu")


# the network


@pytest.mark.parametrize(
    ("name", "dims", "side", "expected"),
    [
        ("resnet10", 2, 64, [4, 8, 16, 32]),
        ("resnet18", 2, 36, [5, 9, 18, 36]),
        ("resnet10", 3, 32, [4, 8, 16, 32]),
        ("densenet121", 2, 64, [8, 16, 32, 64]),
        ("efficientnet_b0", 2, 64, [4, 8, 16, 32, 64]),
        ("unet", 3, 32, [2, 4, 8, 16, 32]),
        ("swin_unetr", 2, 96, [3, 6, 12, 24, 48]),
        ("vit_tiny", 2, 64, [8]),
        ("vit_tiny", 3, 32, [8]),
    ],
)
def test_every_network_gives_its_maps_and_an_outline_of_the_views_size(
    name: str, dims: Any, side: int, expected: list[int]
) -> None:
    backbone = build_backbone(name, channels=1, image_size=side, dims=dims)
    shapes = map_shapes(FeatureMaps(backbone), 1, (side,) * dims)
    assert [found for _, found in shapes] == expected
    network = Segmenter(backbone, 2, channels=1, sides=(side,) * dims).double().eval()
    views = torch.randn(2, 1, *[side] * dims, dtype=torch.float64)
    logits = network.logits(views)
    assert logits.shape == (2, 3, *views.shape[2:])
    torch.testing.assert_close(network.logits(views[1:]), logits[1:])


@pytest.mark.parametrize("name", ["hf_convnext", "hf_swin", "hf_dinov2"])
def test_networks_of_the_hub_give_their_maps_too(name: str) -> None:
    pytest.importorskip("transformers")
    from medssl.config import BackboneConfig  # noqa: PLC0415
    from medssl.hub_backbones import build_hub_backbone  # noqa: PLC0415

    backbone = build_hub_backbone(name, BackboneConfig(), channels=1, image_size=64)
    network = Segmenter(backbone, 1, channels=1, sides=(64, 64))
    views, codes = torch.randn(2, 1, 64, 64), torch.zeros(2, 64, 64, dtype=torch.uint8)
    codes[:, :20] = 1
    network(MaskedBatch(views, codes)).loss.backward()
    assert network.logits(views).shape == (2, 2, 64, 64)
    grads = [each.grad for each in backbone.parameters() if each.grad is not None]
    assert any(grad.abs().sum() > 0 for grad in grads)


def test_the_maps_of_a_network_are_what_its_feature_is_the_mean_of() -> None:
    backbone = build_backbone("resnet10", channels=1, image_size=32).eval()
    view = torch.randn(3, 1, 32, 32)
    coarsest = FeatureMaps(backbone).eval()(view)[0]
    torch.testing.assert_close(coarsest.mean((2, 3)), backbone(view))


def test_a_frozen_backbone_stays_and_only_the_decoder_learns() -> None:
    backbone = build_backbone("resnet10", channels=1, image_size=16, width=8)
    before = copy.deepcopy(backbone.state_dict())
    network = Segmenter(backbone, 1, channels=1, sides=(16, 16), frozen=True).train()
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    decoder = copy.deepcopy(network.decoder.state_dict())
    batch = MaskedBatch(torch.randn(4, 1, 16, 16), torch.ones(4, 16, 16, dtype=torch.uint8))
    network(batch).loss.backward()
    optimizer.step()
    assert all(torch.equal(before[name], value) for name, value in backbone.state_dict().items())
    assert any(not torch.equal(decoder[n], v) for n, v in network.decoder.state_dict().items())


def test_the_loss_is_dice_and_cross_entropy_written_out() -> None:
    network = Segmenter(
        build_backbone("resnet10", channels=1, image_size=16, width=8),
        2,
        channels=1,
        sides=(16, 16),
    )
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 3, 5, 4, generator=rng)
    codes = torch.randint(0, 3, (3, 5, 4), generator=rng).to(torch.uint8)
    chances = logits.double().softmax(1)
    entropy, both, total = 0.0, [0.0] * 3, [0.0] * 3
    for sample in range(3):
        for row in range(5):
            for column in range(4):
                own = int(codes[sample, row, column])
                entropy -= float(chances[sample, own, row, column].log()) / 60
                for kind in range(3):
                    chance = float(chances[sample, kind, row, column])
                    both[kind] += chance * (kind == own)
                    total[kind] += chance + (kind == own)
    dice = sum((2 * both[k] + 1e-5) / (total[k] + 1e-5) for k in (1, 2)) / 2
    assert float(network.loss(logits, codes)) == pytest.approx(entropy + 1 - dice, rel=1e-4)


# masks move with their images


def test_labels_are_moved_exactly_as_pixels_where_pixels_stay_whole() -> None:
    """Flips and quarter turns of the whole image change no value."""
    geometry = RandGeometry(
        12,
        crop_scale=(1.0, 1.0),
        aspect=(1.0, 1.0),
        horizontal_flip=0.5,
        vertical_flip=0.5,
        quarter_turns=True,
    )
    codes = torch.randint(0, 9, (32, 12, 12), generator=torch.Generator().manual_seed(0))
    params = geometry.sample(SampleRandom(derive_keys(torch.arange(32), 0, 0, 0)))
    pixels = geometry.apply(codes[:, None].float(), params)[:, 0]
    labels = resample_labels(codes.to(torch.uint8), params["affine"], 12)
    assert torch.equal(labels, pixels.round().to(torch.uint8))
    assert not torch.equal(labels, codes.to(torch.uint8))


# data sets made on the spot


def discs(folder: Path, count: int = 16, side: int = 40) -> Path:
    """Write noisy pictures with a bright disc and a dark one, two of each patient, and masks."""
    rng = np.random.default_rng(0)
    (folder / "img").mkdir(parents=True)
    (folder / "seg").mkdir()
    rows, columns = np.indices((side, side + 8))
    for number in range(count):
        image = rng.normal(110, 12, rows.shape)
        mask = np.zeros(rows.shape, np.uint8)
        for value, shade, left in ((7, 90, 12), (9, -80, 34)):
            row, column = rng.uniform(12, side - 12), left + rng.uniform(-3, 3)
            inside = (rows - row) ** 2 + (columns - column) ** 2 < rng.uniform(6, 9) ** 2
            image[inside] += shade
            mask[inside] = value
        name = f"P{number // 2:02d}DOE_{number % 2}.png"
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / "img" / name)
        Image.fromarray(mask).save(folder / "seg" / name)
    return folder


def made_run(folder: Path, data: Path, **changes: Any) -> Path:
    """Scan and pretrain for two steps."""
    manifest, run = folder / "manifest.parquet", folder / "run"
    options: dict[str, Any] = {"masks": "seg/{name}", "patient_pattern": r"P(\d+)DOE"}
    own = {name: changes.pop(name) for name in ("masks", "patient_pattern") if name in changes}
    scan(data, manifest, ScanConfig(workers=1, **{**options, **own}))
    values = {
        "data.path": str(manifest),
        "data.workers": 0,
        "image_size": 32,
        "backbone.name": "resnet10",
        "backbone.width": 16,
        "run.steps": 2,
        "run.batch_size": 6,
        "run.device": "cpu",
        **changes,
    }
    pretrain(resolve_config(PretrainConfig, options=values), run)
    return run


def outlined(run: Path, out: Path, data: Path | None = None, **changes: Any) -> SegmentResult:
    wishes = {"device": "cpu", "bootstrap": 50, "repeats": 1, **changes}
    with Progress("segment") as progress:
        return segment(run, SegmentConfig(**wishes), out, data=data, progress=progress)


def test_two_discs_are_learnt_and_all_that_is_promised_is_written(tmp_path: Path) -> None:
    run = made_run(tmp_path, discs(tmp_path / "in"))
    out = tmp_path / "out"
    result = outlined(run, out, shots=(4,), fractions=(1.0,), steps=70, batch_size=8)
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics == json.loads(json.dumps(result.metrics))
    assert metrics["classes"] == ["7", "9"]
    found = {(row["labels"], row["model"]): row["metrics"] for row in metrics["results"]}
    assert set(found) == {
        (labels, model) for labels in ("4 cases", "100%") for model in ("finetuned", "scratch")
    }
    for model in ("finetuned", "scratch"):
        assert found["100%", model]["dice"]["value"] > 0.8
        each = [found["100%", model][f"dice {name}"]["value"] for name in ("7", "9")]
        assert found["100%", model]["dice"]["value"] == pytest.approx(np.mean(each))
    assert metrics["leakage"]["patients_across_splits"] == 0
    cases = pl.read_parquet(out / "cases.parquet")
    assert cases.schema == CASES_SCHEMA
    own = cases.filter((pl.col("labels") == "100%") & (pl.col("model") == "finetuned"))
    assert own["dice"].mean() == pytest.approx(found["100%", "finetuned"]["dice"]["value"])
    parts = read_manifest(out / "manifest.parquet").rows
    assert set(parts["split"]) == {"train", "val", "test"}
    assert parts.group_by("patient").agg(pl.col("split").n_unique())["split"].max() == 1
    with np.load(out / "examples.npz") as examples:
        assert examples["view"].shape[1:] == (32, 32, 3)
        assert examples["mask"].shape == examples["outlined"].shape
        assert sorted(examples["dice"], reverse=True) == examples["dice"].tolist()
    _outlines_the_same_when_loaded(out, run, own)
    _is_reported(out)
    for path in out.iterdir():
        if path.name != "manifest.parquet":
            assert b"DOE" not in path.read_bytes(), path.name


def _outlines_the_same_when_loaded(out: Path, run: Path, own: pl.DataFrame) -> None:
    kept = load_segmenter(out, device=CPU)
    assert kept.classes == ("7", "9")
    manifest = read_manifest(out / "manifest.parquet")
    masks = MaskReader(manifest, (), binary=False)
    with Progress("masks") as progress:
        classes = masks.survey(progress).classes
    images = MaskedImages(manifest, load_encoder(run).spec, masks, classes, device=CPU)
    test = np.flatnonzero(manifest.rows["split"].to_numpy() == "test")
    scores = {}
    for found in images.outline(kept.network, test):
        counts = Counts.none(1, 2)
        counts.add(0, found.codes, images.truth(found.row))
        scores[manifest.rows["sample"][found.row]] = counts.dice()[0].tolist()
    recorded = own.group_by("case", maintain_order=True).agg("dice")
    assert scores == {case: pytest.approx(dice) for case, dice in recorded.iter_rows()}


def _is_reported(out: Path) -> None:
    text = write_report(out, ReportConfig(device="cpu")).read_text(encoding="utf-8")
    page = Reader(text)
    assert "With all labels: Dice" in text
    assert {"few-labels", "numbers", "outlines", "leakage", "map"} <= set(page.ids)
    assert "curves" not in page.ids
    drawn = [image for image in page.images if "of case" in (image.get("alt") or "")]
    assert len(drawn) == 2 * 4  # masks and outlines of the test cases
    for damage in (b"PK damaged", b""):
        (out / "examples.npz").write_bytes(damage)
        again = write_report(out, ReportConfig(device="cpu")).read_text(encoding="utf-8")
        assert "missing or damaged" in again


def test_a_second_run_with_the_same_seed_gives_the_same_numbers(tmp_path: Path) -> None:
    run = made_run(tmp_path, discs(tmp_path / "in", 12))
    wishes: dict[str, Any] = {"shots": (3,), "steps": 10, "batch_size": 4, "mode": "frozen"}
    first, second = (outlined(run, tmp_path / name, **wishes).metrics for name in ("a", "b"))
    assert first["results"] == second["results"]
    assert {row["model"] for row in first["results"]} == {"frozen", "scratch"}


def volumes(folder: Path, count: int = 6, ending: str = "nii.gz") -> Path:
    """Write volumes in odd axes whose brightness is their mask, a ball; one of each patient.

    Masks are in NIfTI, whatever the format of the images.
    """
    affine = np.array([[0, 0, -1.0, 5], [1.5, 0, 0, 6], [0, 2.0, 0, 7], [0, 0, 0, 1]])
    rng = np.random.default_rng(0)
    (folder / "img").mkdir(parents=True)
    (folder / "seg").mkdir()
    for number in range(count):
        shape = (14, 10 + number % 2, 22)
        places = np.stack(np.indices(shape), axis=-1) * (1.5, 2.0, 1.0)
        ball = np.linalg.norm(places - (9, 9, rng.uniform(8, 13)), axis=-1) < 6.5
        name = f"P{number}DOE"
        bright = (ball * 800 + rng.integers(0, 50, shape)).astype(np.int16)
        content = gzip.compress(nifti(bright, affine))
        if ending == "nrrd":
            vectors = [f"({','.join(map(str, column))})" for column in affine[:3].T]
            about = {"space_directions": " ".join(vectors[:3]), "space_origin": vectors[3]}
            content = nrrd_file(bright, space="RAS", **about)
        (folder / "img" / f"{name}.{ending}").write_bytes(content)
        mask = nib.Nifti1Image(ball.astype(np.int16), affine)
        nib.save(mask, folder / "seg" / f"{name}.nii.gz")
    return folder


@pytest.mark.parametrize("changes", [{"data.dims": 3}, {"data.slab": 3}, {}])
def test_images_masks_and_outlines_lie_on_each_other(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    """A perfect outline in the canvas scores nearly 1 in the file, whatever its axes are."""
    run = made_run(tmp_path, volumes(tmp_path / "in"), **changes)
    encoder = load_encoder(run)
    spec = encoder.spec
    manifest = as_samples(read_manifest(run / "manifest.parquet"), spec.dims, spec.slab)
    masks = MaskReader(manifest, (), binary=False)
    with Progress("masks") as progress:
        classes = masks.survey(progress).classes
    images = MaskedImages(manifest, spec, masks, classes, device=CPU)
    rows = np.arange(len(manifest))
    total = Counts.none(1, 1)
    for row in rows.tolist():
        batch = images.plain(np.array([row]))
        shown = images.views.display(batch.pixels)[0]
        bright = shown[1 if spec.slab == 3 else 0] > 0.45
        hits = Counts.none(1, 1)
        hits.add(0, bright.to(torch.uint8).numpy(), batch.codes[0].numpy())
        perfect = torch.nn.functional.one_hot(batch.codes[0].long(), 2).movedim(-1, 0).float()
        total.add(0, decided(perfect, images.fitting(row)), images.truth(row))
        if hits.mask[0, 0] > 40:
            assert hits.dice()[0, 0] > 0.9
    assert total.dice()[0, 0] > 0.93


def test_slices_are_judged_as_volumes_and_drawn_as_volumes(tmp_path: Path) -> None:
    run = made_run(tmp_path, volumes(tmp_path / "in"))
    metrics = outlined(run, tmp_path / "out", shots=(2,), steps=4).metrics
    assert metrics["data"]["test"]["cases"] == 2
    assert metrics["data"]["test"]["images"] >= 20
    assert {row["num_labels"] for row in metrics["results"]} == {2}
    assert metrics["interval"]["note"].startswith("no intervals: 2 test patient(s)")
    assert all(row["metrics"]["dice"]["low"] is None for row in metrics["results"])
    cases = pl.read_parquet(tmp_path / "out" / "cases.parquet")
    assert cases["case"].n_unique() == 2


@pytest.mark.parametrize(
    ("ending", "changes"),
    [("nii.gz", {"data.dims": 3, "image_size": 16, "backbone.width": 8}), ("nrrd", {})],
)
def test_new_volumes_are_outlined_in_their_own_place(
    tmp_path: Path, ending: str, changes: dict[str, Any]
) -> None:
    """A network that learnt the ball finds it in the voxels of the file, whatever its axes are."""
    masks = "seg/{name}" if ending == "nii.gz" else "seg/{stem}.nii.gz"
    run = made_run(tmp_path, volumes(tmp_path / "in", 8, ending), masks=masks, **changes)
    outlined(run, tmp_path / "out", fractions=(1.0,), steps=40, batch_size=6)
    done = CliRunner().invoke(
        app,
        ["predict", str(tmp_path / "out"), str(tmp_path / "in" / "img"), "--out",
         str(tmp_path / "new"), "--device", "cpu"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    told = pl.read_parquet(tmp_path / "new" / "outlines.parquet")
    paths = read_manifest(tmp_path / "new.manifest.parquet").rows
    names = dict(paths.unique("volume").select("volume", "path").iter_rows())
    assert set(told["case"]) == set(names)
    for case, file, pixels, ml in told.select("case", "file", "pixels", "ml").iter_rows():
        found = nib.load(tmp_path / "new" / file)
        mask = nib.load(tmp_path / "in" / "seg" / names[case].replace(ending, "nii.gz"))
        # the axes of the file may be others; each voxel of the mask is looked up by its place
        inside = np.argwhere(np.asarray(mask.dataobj) > 0)
        places = nib.affines.apply_affine(np.linalg.inv(found.affine) @ mask.affine, inside)
        rounded = np.rint(places).astype(int)
        np.testing.assert_allclose(places, rounded, atol=1e-3)
        codes = np.asarray(found.dataobj)
        assert codes.size == np.asarray(mask.dataobj).size
        assert 2 * codes[tuple(rounded.T)].sum() / (len(inside) + codes.sum()) > 0.7
        assert pixels == codes.sum()
        assert ml == pytest.approx(pixels * 3 / 1000)


def test_new_images_are_outlined_in_their_own_pixels(tmp_path: Path) -> None:
    run = made_run(tmp_path, discs(tmp_path / "in", 12))
    outlined(run, tmp_path / "out", fractions=(1.0,), steps=16, batch_size=8)
    settings = EmbedConfig(device="cpu")
    assert (
        predict(tmp_path / "out", tmp_path / "in" / "img", tmp_path / "new", settings).cases == 12
    )
    told = pl.read_parquet(tmp_path / "new" / "outlines.parquet")
    assert len(told) == 24
    for file, part in told.group_by("file"):
        codes = np.asarray(Image.open(tmp_path / "new" / str(file[0])))
        assert codes.shape == (40, 48)
        counts = dict(part.select("class", "pixels").iter_rows())
        assert counts == {"7": (codes == 1).sum(), "9": (codes == 2).sum()}
        assert part["ml"].null_count() == 2
    with pytest.raises(OutputError, match="--out"):
        predict(tmp_path / "out", tmp_path / "in" / "img", tmp_path / "new", settings)


def test_what_cannot_be_worked_with_is_told_before_any_training(tmp_path: Path) -> None:
    data = discs(tmp_path / "in", 12)
    run = made_run(tmp_path, data)
    scan(data / "img", tmp_path / "bare.parquet", ScanConfig(workers=1))
    with pytest.raises(DataError, match=r"none of the 12 images has a mask: scan with --masks"):
        outlined(run, tmp_path / "out", tmp_path / "bare.parquet")
    with pytest.raises(DataError, match=r"--structure 8: no mask holds it.*they hold 7, 9"):
        outlined(run, tmp_path / "out", structures=("8",))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").touch()
    with pytest.raises(OutputError, match="--out"):
        outlined(run, tmp_path / "out")
    with pytest.raises(CheckpointError, match="medssl segment"):
        load_segmenter(tmp_path / "out", device=CPU)


def test_images_that_are_gone_are_left_out_and_counted(tmp_path: Path) -> None:
    run = made_run(tmp_path, discs(tmp_path / "in", 16))
    (tmp_path / "in" / "img" / "P00DOE_0.png").unlink()
    (tmp_path / "in" / "seg" / "P01DOE_0.png").unlink()
    metrics = outlined(run, tmp_path / "out", shots=(2,), steps=2).metrics
    assert any(note.startswith("1 image(s) left out") for note in metrics["notes"])  # no mask
    assert any("1 images could not be read any more" in note for note in metrics["notes"])
    settings = EmbedConfig(device="cpu", batch_size=5)
    found = predict(tmp_path / "out", tmp_path / "manifest.parquet", tmp_path / "new", settings)
    assert (found.cases, found.failures) == (16, 1)
    told = pl.read_parquet(tmp_path / "new" / "outlines.parquet")
    assert told["case"].n_unique() == 15


def test_a_volume_without_a_slice_has_no_volume_in_ml(tmp_path: Path) -> None:
    write_oblique_series(tmp_path / "in" / "a")
    write_oblique_series(tmp_path / "in" / "b", patient="P2", series="1.2.3.5")
    write_oblique_series(tmp_path / "in" / "c", patient="P3", series="1.2.3.6")
    mask = np.zeros(SHAPE, bool)
    mask[1:4, 5:15, 5:15] = True
    for number, uid in enumerate(("1.2.3.4", "1.2.3.5", "1.2.3.6")):
        item = Dataset()
        item.SeriesInstanceUID = uid
        changes = {"ReferencedSeriesSequence": Items([item])}
        write_segmentation(tmp_path / "in" / f"seg{number}", {"organ": mask}, **changes)
    run = made_run(tmp_path, tmp_path / "in", masks=None, patient_pattern=None)
    outlined(run, tmp_path / "out", shots=(1,), steps=2, structures=("organ",))
    (tmp_path / "in" / "a" / "0.dcm").unlink()
    settings = EmbedConfig(device="cpu")
    found = predict(tmp_path / "out", tmp_path / "manifest.parquet", tmp_path / "new", settings)
    assert (found.cases, found.failures) == (3, 1)
    told = pl.read_parquet(tmp_path / "new" / "outlines.parquet")
    assert told["ml"].null_count() == 1
    assert set(told["class"]) == {"organ"}


def test_masks_that_do_not_fit_are_left_out_and_counted(tmp_path: Path) -> None:
    data = discs(tmp_path / "in", 14)
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(data / "seg" / "P00DOE_0.png")
    run = made_run(tmp_path, data)
    notes = outlined(run, tmp_path / "out", shots=(2,), steps=2).metrics["notes"]
    assert any("1 image(s) left out" in note and "other rows or columns" in note for note in notes)


# scores


def loops(mask: NDArray[np.uint8], outline: NDArray[np.uint8], kind: int) -> float:
    both = total = 0
    for own, said in zip(mask.ravel().tolist(), outline.ravel().tolist(), strict=True):
        both += own == kind and said == kind
        total += (own == kind) + (said == kind)
    return 2 * both / total if total else float("nan")


def test_dice_is_that_of_the_whole_case_and_unknown_where_nothing_is() -> None:
    rng = np.random.default_rng(0)
    masks, outlines = rng.integers(0, 3, (2, 4, 6, 5)).astype(np.uint8)
    counts = Counts.none(3, 3)
    for number in range(4):  # slices of two cases; a third holds nothing
        counts.add(number // 2, outlines[number], masks[number])
    found = counts.dice()
    for case in range(2):
        part = slice(2 * case, 2 * case + 2)
        for kind in (1, 2):
            expected = loops(masks[part], outlines[part], kind)
            assert found[case, kind - 1] == pytest.approx(expected)
    assert np.isnan(found[:, 2]).all()
    wrong = Counts.none(1, 2)
    wrong.add(0, np.array([[1, 2]], np.uint8), np.array([[1, 0]], np.uint8))
    assert wrong.dice()[0, 0] == 1
    assert np.isnan(wrong.dice()[0, 1])  # one pixel of a class that the mask lacks
    assert np.isnan(found[2]).all()
    missed = Counts.none(1, 1)
    missed.add(0, np.zeros((3, 3), np.uint8), np.ones((3, 3), np.uint8))
    assert missed.dice()[0, 0] == 0


def outcome(model: str, dice: NDArray[np.float64], draw: int = 0) -> Outcome:
    """Return counts that give these scores."""
    total = np.full(dice.shape, 1000)
    both = np.rint(dice * 1000).astype(np.int64)
    return Outcome(
        LabelBudget(shots=3, unit="cases"), draw, model, 3, 2, Counts(both, total, total)
    )


def test_means_intervals_and_comparisons_follow_the_patients() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.uniform(0.6, 0.9, (2, 12, 2)).round(3)
    patients = [f"p{number // 3}" for number in range(12)]
    test = TestCases([*map(str, range(12))], patients, ["a", "b"], resamples=4000, seed=0)
    results, comparisons = test.evaluate(
        [
            outcome("finetuned", ours),
            outcome("finetuned", ours[::-1], 1),
            outcome("scratch", theirs),
        ]
    )
    first = results[0]
    assert first["draws"] == 2
    assert first["metrics"]["dice"]["value"] == pytest.approx(ours.mean())
    assert first["metrics"]["dice b"]["value"] == pytest.approx(ours[:, 1].mean())
    (compared,) = comparisons
    assert compared["difference"]["value"] == pytest.approx(ours.mean() - theirs.mean())
    drawn = rng.integers(0, 4, (4000, 4))
    means = theirs.reshape(4, -1).mean(1)[drawn].mean(1)
    scratch = results[1]["metrics"]["dice"]
    assert (scratch["low"], scratch["high"]) == pytest.approx(
        tuple(np.quantile(means, (0.025, 0.975))), abs=2e-3
    )


def test_a_class_that_no_test_case_has_is_no_part_of_the_mean() -> None:
    counts = Counts(*(np.array([[5, 0]] * 4), np.array([[10, 0]] * 4), np.array([[10, 0]] * 4)))
    test = TestCases(list("abcd"), [None] * 4, ["a", "b"], resamples=20, seed=0)
    budget = LabelBudget(fraction=1.0)
    results, _ = test.evaluate([Outcome(budget, 0, "scratch", 1, 1, counts)])
    assert results[0]["metrics"]["dice"]["value"] == pytest.approx(0.5)
    assert results[0]["metrics"]["dice b"]["value"] is None
