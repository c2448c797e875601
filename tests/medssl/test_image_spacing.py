"""Images whose pixels have a size in the canvas: `data.spacing_mm` with `data.dims=2`."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from medssl.cli import app
from medssl.encoder import load_encoder
from medssl.errors import UnsupportedImageError
from medssl.loading.dataset import CanvasDataset
from medssl.loading.fitting import Fitting, Scale
from medssl.loading.store import StorePlan
from medssl.manifest import Manifest, read_manifest
from medssl.scanning.scan import scan
from medssl.scanning.settings import ScanConfig
from medssl.segmentation.seen_images import SeenImages
from medssl.volumes.samples import as_samples
from tests.medssl.make import write_dicom, write_png

RADIUS_MM = 20.0
SPACINGS = ((0.5, 0.5), (1.0, 1.0), (1.5, 0.75))
SIDES = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}


@pytest.fixture(autouse=True)
def site_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDSSL_KEY_FILE", str(tmp_path / "site.key"))


def write_disk(path: Path, spacing: tuple[float, float], *, size: int = 120, z: float = 0) -> None:
    """Write a bright disk in the middle of a dark slice of `size` x `size` px."""
    places = (np.arange(size) - (size - 1) / 2)[:, None] * spacing
    inside = np.hypot(places[:, 0][:, None], places[:, 1][None]) < RADIUS_MM
    write_dicom(
        path,
        np.where(inside, 400, -160).astype(np.int16),
        Modality="CT",
        PixelSpacing=list(spacing),
        ImagePositionPatient=[0, 0, z],
        SeriesInstanceUID=f"1.2.{path.parent.name.encode().hex()}".replace("a", "9"),
        **SIDES,  # type: ignore[arg-type]
    )


def scanned(folder: Path) -> Manifest:
    out = folder.with_name("manifest.parquet")
    scan(folder, out, ScanConfig(workers=1))
    return read_manifest(out)


def area(canvas: torch.Tensor) -> float:
    """Return how many pixels are brighter than the middle."""
    return float((canvas[-1].float() > 65535 / 2).sum())


def test_what_is_equally_large_is_so_in_the_canvas(tmp_path: Path) -> None:
    for number, spacing in enumerate(SPACINGS):
        write_disk(tmp_path / "d" / f"{number}.dcm", spacing)
    manifest = scanned(tmp_path / "d")
    for wanted in (1.0, 0.8):
        images = CanvasDataset(manifest, canvas=64, channels=1, spacing_mm=wanted)
        expected = math.pi * (RADIUS_MM / wanted) ** 2
        for row in range(len(SPACINGS)):
            assert area(images[row]) == pytest.approx(expected, rel=0.03)
            down = (images[row][0] > 65535 / 2).any(dim=1).sum()
            across = (images[row][0] > 65535 / 2).any(dim=0).sum()
            assert abs(int(down) - int(across)) <= 2
    plain = CanvasDataset(manifest, canvas=64, channels=1)
    assert area(plain[1]) < 0.3 * area(plain[0])


def test_slabs_too(tmp_path: Path) -> None:
    for number, spacing in enumerate(SPACINGS[:2]):
        for place in range(3):
            write_disk(tmp_path / "d" / str(number) / f"{place}", spacing, z=float(place))
    slabs = as_samples(scanned(tmp_path / "d"), 2, 3)
    images = CanvasDataset(slabs, canvas=64, channels=3, spacing_mm=1.0)
    for row in range(len(slabs)):
        assert area(images[row]) == pytest.approx(math.pi * RADIUS_MM**2, rel=0.03)


def test_an_image_without_a_spacing_is_set_aside_when_it_is_read(tmp_path: Path) -> None:
    write_disk(tmp_path / "d" / "0.dcm", SPACINGS[0])
    write_png(tmp_path / "d" / "1.png", np.zeros((9, 9), np.uint8))
    images = CanvasDataset(scanned(tmp_path / "d"), canvas=16, channels=1, spacing_mm=1.0)
    assert images[0].shape == (1, 16, 16)
    with pytest.raises(UnsupportedImageError, match="an image without a spacing"):
        images[1]
    np.savez(tmp_path / "x.npz", train_images=np.zeros((2, 9, 9), np.uint8))
    with pytest.raises(UnsupportedImageError, match="an image without a spacing"):
        CanvasDataset(scanned(tmp_path / "x.npz"), canvas=16, channels=1, spacing_mm=1.0)[0]


def test_where_no_image_has_a_spacing_none_is_wanted(tmp_path: Path) -> None:
    for number in range(4):
        write_png(tmp_path / "d" / f"{number}.png", np.full((9, 9), number, np.uint8))
    arguments = ["pretrain", str(tmp_path / "d"), "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(app, [*arguments, "--set", "data.spacing_mm=1"])
    assert result.exit_code == 2
    assert "none of 4 images says how large its pixels are" in result.output
    assert not (tmp_path / "run").exists()


def test_a_store_tells_sizes_apart(tmp_path: Path) -> None:
    for name, spacing in (("a", (1.0, 1.0)), ("b", (0.5, 0.5))):
        write_dicom(
            tmp_path / "d" / name,
            np.arange(400, dtype=np.int16).reshape(20, 20),
            PixelSpacing=list(spacing),
        )
    manifest = scanned(tmp_path / "d")
    plan = StorePlan(tmp_path / "store", 10**9)

    def stored(*, wanted: float | None) -> CanvasDataset:
        return CanvasDataset(
            manifest, canvas=16, channels=1, spacing_mm=wanted, cache_gb=0, store=plan
        )

    first = [stored(wanted=0.5)[row] for row in range(2)]
    assert not torch.equal(*first)
    again = stored(wanted=0.5)
    assert again.store is not None
    assert again.store.count() == 2
    assert all(torch.equal(again[row], first[row]) for row in range(2))
    other = stored(wanted=0.6)
    assert other.store is not None
    assert other.store.count() == 0


def test_labels_go_where_their_pixels_are_and_back() -> None:
    fitting = Fitting.of_image(40, 60, 32, Scale((1.0, 0.5), 1.0))
    assert (fitting.kept, fitting.sides) == (((4, 36), (0, 60)), (32, 30))
    labels = torch.zeros(40, 60, dtype=torch.uint8)
    labels[10:20, 20:40] = 1
    found = fitting.labels(labels)
    assert found.nonzero().min(dim=0).values.tolist() == [6, 11]
    assert found.nonzero().max(dim=0).values.tolist() == [15, 20]
    back = fitting.back(found[None].float())[0]
    assert back[:4].isnan().all()
    assert torch.equal((back[4:36] > 0.5).to(torch.uint8), labels[4:36])


def test_a_run_keeps_the_size_and_masks_lie_where_images_do(tmp_path: Path) -> None:
    for number in range(6):
        write_disk(tmp_path / "d" / f"{number}.dcm", SPACINGS[number % 2], size=60 + number)
    arguments = ["pretrain", tmp_path / "d", "--out", tmp_path / "run"]
    settings = (
        "run.steps=2",
        "data.spacing_mm=2",
        "data.workers=0",
        "image_size=16",
        "run.batch_size=4",
    )
    words = [*arguments, "--backbone", "resnet10", *(w for s in settings for w in ("--set", s))]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    spec = load_encoder(tmp_path / "run", device=torch.device("cpu")).spec
    assert (spec.spacing_mm, spec.canvas) == (2.0, 16)
    manifest = read_manifest(tmp_path / "run" / "manifest.parquet")
    seen = SeenImages(manifest, spec, device=torch.device("cpu"))
    sizes = manifest.rows.select("rows", "columns", "spacing_row_mm", "spacing_column_mm")
    for row, (rows, columns, down, across) in enumerate(sizes.iter_rows()):
        scale = Scale((down, across), 2.0)
        assert seen.fitting(row) == Fitting.of_image(rows, columns, 16, scale)
