import re
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pydicom
import pytest
from typer.testing import CliRunner

from medssl.cli import app
from medssl.demo import run_demo
from medssl.demo_hospital import EXPORTS, write_hospital
from medssl.demo_texture import CLASSES, draw_image, draw_look
from medssl.errors import Reason
from medssl.manifest import read_manifest, rejected_path
from medssl.scanning.scan import scan
from medssl.scanning.settings import ScanConfig
from medssl.sources.open import read_display
from sslcore.errors import OutputError

PATIENTS = len(CLASSES) * len(EXPORTS)
IMAGES = 2


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `hospital`, `labels.csv`, `manifest.parquet` and `rejected.parquet`."""
    base = tmp_path_factory.mktemp("demo")
    write_hospital(base / "hospital", base / "labels.csv", patients=PATIENTS, images=IMAGES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDSSL_KEY_FILE", str(base / "site.key"))
        options = ScanConfig(labels=base / "labels.csv", workers=1)
        scan(base / "hospital", base / "manifest.parquet", options)
    return base


def test_all_good_images_are_read_and_labelled_by_patient(hospital: Path) -> None:
    rows = read_manifest(hospital / "manifest.parquet").rows
    labelled = rows.filter(pl.col("label").is_not_null())
    assert len(labelled) == PATIENTS * IMAGES + 1  # one lies there twice
    per_class = labelled.group_by("label").agg(pl.col("patient").n_unique()).sort("label")
    assert per_class.rows() == [(name, len(EXPORTS)) for name in sorted(CLASSES)]
    assert rows.filter(pl.col("kind") == "png")["patient"].is_null().all()


def test_holds_all_that_archives_hold(hospital: Path) -> None:
    rows = read_manifest(hospital / "manifest.parquet").rows
    assert set(rows["transfer_syntax"].drop_nulls()) == {export.syntax for export in EXPORTS}
    assert set(rows["bits"]) >= {12, 16}
    assert set(rows["photometric"]) >= {"MONOCHROME1", "MONOCHROME2"}
    assert rows["frames"].max() == IMAGES
    assert len(rows) - rows["content"].n_unique() == 1
    names = [Path(path).name for path in rows["path"]]
    assert sum("." not in name for name in names) > len(names) // 4


def test_two_broken_files_and_a_text_are_set_aside(hospital: Path) -> None:
    rejected = pl.read_parquet(rejected_path(hospital / "manifest.parquet"))
    assert sorted(rejected["reason"]) == [Reason.CORRUPT, Reason.NOT_AN_IMAGE, Reason.TRUNCATED]


def test_every_export_shows_the_same_kind_of_picture(hospital: Path) -> None:
    manifest = read_manifest(hospital / "manifest.parquet")
    window = "full"
    for row in manifest.rows.unique("transfer_syntax").iter_rows(named=True):
        pixels = read_display(
            manifest.root / row["path"],
            kind=row["kind"],
            member=row["member"],
            frame=row["frame"],
            window=window,
        )
        assert pixels.shape == (1, row["rows"], row["columns"])
        assert 0.1 < pixels.mean() < 0.9, row["path"]


def test_no_file_names_a_patient_that_could_exist(hospital: Path) -> None:
    for path in (hospital / "hospital").rglob("*"):
        if path.is_file() and path.read_bytes()[128:132] == b"DICM":
            dataset = pydicom.dcmread(path, stop_before_pixels=True)
            assert re.fullmatch(r"DEMO-\d{3}", dataset.PatientID)


def test_the_way_of_exporting_does_not_tell_the_class(hospital: Path) -> None:
    rows = read_manifest(hospital / "manifest.parquet").rows
    unique = rows.filter(pl.col("label").is_not_null()).unique(["content"])
    counts = Counter(unique.select("transfer_syntax", "bits", "photometric", "label").rows())
    exports = {key[:3] for key in counts}
    assert all(len({counts[(*key, kind)] for kind in CLASSES}) == 1 for key in exports)


def test_equal_seeds_give_equal_bytes_and_others_do_not(tmp_path: Path) -> None:
    contents = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_hospital(tmp_path / name, tmp_path / f"{name}.csv", patients=12, images=1, seed=seed)
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        contents.append([path.read_bytes() for path in files])
    assert contents[0] == contents[1]
    assert contents[0] != contents[2]


def test_classes_share_histogram_and_power_at_every_scale() -> None:
    """Brightness, contrast and the fineness of the texture must not tell the class."""
    levels, powers = {}, {}
    for kind in CLASSES:
        images = _draw(kind, 120)
        levels[kind] = np.mean(np.quantile(images, np.linspace(0.05, 0.95, 10), axis=(1, 2)), 1)
        power = np.mean([_power(image) for image in images], axis=0)
        octaves = np.log2(np.maximum(np.hypot(*_waves()), 1.0)).round().astype(int).ravel()
        powers[kind] = np.log(np.bincount(octaves, power.ravel())[:-1])  # the last lacks its sides
    for kind in CLASSES[1:]:
        assert levels[kind] == pytest.approx(levels[CLASSES[0]], abs=0.01)
        assert powers[kind] == pytest.approx(powers[CLASSES[0]], abs=0.15)


def test_the_direction_of_the_texture_tells_the_class() -> None:
    """Without it, nothing could be learnt from the pictures."""
    rows, columns = _waves()
    waves = np.hypot(rows, columns)
    fine = np.where(waves > 5, waves, 0.0)  # the anatomy is coarser
    for turn, kind in enumerate(CLASSES):
        across = 2 * (np.arctan2(rows, columns) + turn * np.pi / len(CLASSES))
        means = [(np.exp(1j * across) * fine * _power(image)).sum() for image in _draw(kind, 40)]
        nearest = np.abs(np.angle(means)) < np.pi / len(CLASSES)
        assert nearest.mean() > 0.9, kind


def _draw(kind: str, count: int) -> list[np.ndarray]:
    """Draw middles of images of many patients; both classes get the same looks and places."""
    randoms = [np.random.default_rng(number) for number in range(count)]
    return [draw_image(random, kind, draw_look(random))[:96, :96] for random in randoms]


def _power(image: np.ndarray) -> np.ndarray:
    window = np.outer(np.hanning(96), np.hanning(96))
    return np.abs(np.fft.fft2((image - image.mean()) * window)) ** 2


def _waves() -> tuple[np.ndarray, np.ndarray]:
    """Return the waves per 96 px, along rows and columns, of each value of `_power`."""
    rows, columns = np.meshgrid(*(np.fft.fftfreq(96, 1 / 96),) * 2, indexing="ij")
    return rows, columns


def test_refuses_a_folder_that_no_demo_made(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="holds other files; choose another folder"):
        run_demo(tmp_path, run_command=lambda words: None)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_second_demo_replaces_the_first(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    for _ in range(2):
        commands: list[list[str]] = []
        run_demo(out, run_command=commands.append, patients=12, images=1)
        (out / "run").mkdir()
    assert [words[0] for words in commands] == ["scan", "pretrain", "finetune", "report"]


@pytest.mark.slow
def test_the_whole_line_runs_and_ends_with_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDSSL_KEY_FILE", str(tmp_path / "site.key"))
    out = tmp_path / "demo"

    def run_command(words: list[str]) -> None:
        result = CliRunner().invoke(app, words, catch_exceptions=False)
        assert result.exit_code == 0, result.output

    report = run_demo(
        out,
        run_command=run_command,
        patients=16,
        images=6,
        pretrain_options=(
            *("--backbone", "resnet10", "--set", "backbone.stem=large"),
            *("--image-size", "32", "--batch-size", "32", "--set", "run.steps=2"),
        ),
        finetune_options=(
            *("--shots", "2", "--repeats", "1"),
            *("--set", "steps=2", "--set", "bootstrap=20"),
        ),
    )
    assert report == (out / "results" / "report.html").resolve()
    assert CLASSES[0] in report.read_text()
