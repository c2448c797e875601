"""From a folder to a manifest, with everything a hospital folder may hold."""

import os
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
from PIL import Image

from medssl.errors import DataError
from medssl.identity import SiteKey
from medssl.manifest import SCHEMA, read_manifest, rejected_path
from medssl.scanning import scan as job
from medssl.scanning import worker
from medssl.scanning.outcome import Outcome
from medssl.scanning.parts import Parts
from medssl.scanning.pool import CrashProofPool
from medssl.scanning.scan import scan
from medssl.scanning.settings import ScanConfig
from medssl.scanning.summary import ScanSummary
from medssl.scanning.walk import Found
from medssl.scanning.worker import read_file
from sslcore.errors import ConfigError, OutputError
from tests.medssl.make import colours, hospital, ramp, write_dicom, write_png

KEY = SiteKey(b"test")


class Direct(CrashProofPool[Any, Any]):
    """Runs the work in this process, which starts faster."""

    def run(self, jobs: Any) -> Any:
        for item in jobs:
            yield from self._work([item])


@pytest.fixture
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "CrashProofPool", Direct)


def run(folder: Path, out: Path, **options: Any) -> ScanSummary:
    return scan(folder, out, ScanConfig(workers=1, **options), key=KEY)


@pytest.mark.usefixtures("direct")
def test_every_file_is_a_row_or_a_reason(tmp_path: Path) -> None:
    root = hospital(tmp_path / "in")
    summary = run(root, tmp_path / "manifest.parquet")
    rows = read_manifest(tmp_path / "manifest.parquet").rows
    found = rows.select("path", "frame", "frames", "kind", "rows", "columns", "bits", "channels")
    assert found.rows() == [
        ("a/IM0001", 0, 1, "dicom", 16, 24, 16, 1),
        ("a/deep/IM0002", 0, 2, "dicom", 16, 24, 16, 1),
        ("a/deep/IM0002", 1, 2, "dicom", 16, 24, 16, 1),
        ("b/scan.txt", 0, 1, "png", 16, 24, 8, 3),
    ]
    assert rows.schema == SCHEMA
    rejected = pl.read_parquet(tmp_path / "rejected.parquet")
    assert dict(rejected.select("path", "reason").iter_rows()) == {
        ".DS_Store": "not_an_image",
        "cut": "truncated",
        "empty": "empty",
        "notes.txt": "not_an_image",
        "report.dcm": "no_pixels",
    }
    assert summary.kinds == {"dicom": 3, "png": 1}
    assert (summary.files, summary.images, summary.patients, summary.rejected) == (8, 4, 2, 5)
    assert summary.duplicates == 1  # the first frame repeats the first file
    assert "truncated 1" in summary.table()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.usefixtures("direct")
def test_identifiers_are_hashed_and_names_stay_inside(tmp_path: Path) -> None:
    root = hospital(tmp_path / "in")
    run(root, tmp_path / "manifest.parquet")
    rows = read_manifest(tmp_path / "manifest.parquet").rows
    assert rows["patient"].to_list() == [KEY.patient("P1"), *[KEY.patient("P2")] * 2, None]
    assert rows["study"][0] == KEY.study("1.2.3")
    assert rows["series"][0] == KEY.series("1.2.3.4")
    assert rows["sample"].n_unique() == 4
    for name in ("manifest.parquet", "rejected.parquet"):
        content = str(pl.read_parquet(tmp_path / name).rows())
        assert not any(word in content for word in ("Doe", "4711", "1.2.3.4", "'P1'"))


@pytest.mark.usefixtures("direct")
def test_an_unchanged_folder_is_not_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out = hospital(tmp_path / "in"), tmp_path / "manifest.parquet"
    run(root, out)
    before = read_manifest(out).rows
    opened: list[str] = []

    def spy(root: Path, key: SiteKey, *about: object) -> list[Outcome]:
        files = cast("list[Found]", about[-1])
        opened.extend(file.path for file in files)
        return [read_file(root, file, key) for file in files]

    monkeypatch.setattr(worker, "read_files", spy)
    assert run(root, out).reused == 8
    assert opened == []
    assert read_manifest(out).rows.equals(before)

    write_png(root / "b" / "scan.txt", colours()[::-1])
    (root / "notes.txt").unlink()
    write_png(root / "new.png", colours())
    assert run(root, out).reused == 6
    assert sorted(opened) == ["b/scan.txt", "new.png"]
    assert "new.png" in read_manifest(out).rows["path"]
    assert "notes.txt" not in pl.read_parquet(rejected_path(out))["path"]

    opened.clear()
    scan(root, out, ScanConfig(), key=SiteKey(b"other"))
    assert len(opened) == 8
    run(root, out, patient_pattern=r"(IM\d+)")
    assert len(opened) == 16


@pytest.mark.usefixtures("direct")
def test_an_interrupted_scan_keeps_what_it_has_and_leaves_the_old_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out = hospital(tmp_path / "in"), tmp_path / "manifest.parquet"
    write_png(tmp_path / "old" / "a.png", colours())
    run(tmp_path / "old", out)
    before = out.read_bytes()

    def interrupted(root: Path, key: SiteKey, *about: object) -> list[Outcome]:
        files = cast("list[Found]", about[-1])
        if files[0].path == "empty":
            raise KeyboardInterrupt
        return [read_file(root, file, key) for file in files]

    with monkeypatch.context() as patch:
        patch.setattr(worker, "read_files", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(root, out)
    assert out.read_bytes() == before
    assert run(root, out).reused == 5  # .DS_Store to cut, in the order of the paths
    assert len(read_manifest(out).rows) == 4
    assert not Parts(out, "", KEY).folder.exists()


@pytest.mark.usefixtures("direct")
def test_passing_troubles_are_looked_at_again(tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "manifest.parquet"
    write_png(root / "a.png", colours())
    write_png(root / "b.png", colours())
    run(root, out)
    rejected = pl.read_parquet(rejected_path(out))
    row = (("b.png", "decoder_crashed", "", read_manifest(out).rows["stamp"][1], None),)
    notes = pl.read_parquet_metadata(out)
    pl.concat([rejected, pl.DataFrame(row, schema=rejected.schema, orient="row")]).write_parquet(
        rejected_path(out), metadata={"medssl.settings": notes["medssl.settings"]}
    )
    run(root, out)
    assert pl.read_parquet(rejected_path(out)).is_empty()


@pytest.mark.usefixtures("direct")
def test_patients_come_from_the_path_where_the_pattern_fits(tmp_path: Path) -> None:
    root, out = hospital(tmp_path / "in"), tmp_path / "manifest.parquet"
    run(root, out, patient_pattern=r"IM0*(\d)")
    patients = read_manifest(out).rows["patient"].to_list()
    assert patients == [KEY.patient("1"), KEY.patient("2"), KEY.patient("2"), None]


@pytest.mark.usefixtures("direct")
def test_sites_and_scanners_are_hashed_and_the_path_may_name_the_site(tmp_path: Path) -> None:
    root = tmp_path / "in"
    for folder in ("north", "south"):
        (root / folder).mkdir(parents=True)
    about = {"InstitutionName": "St. Mary ", "Manufacturer": "ACME", "StationName": "CT7"}
    write_dicom(root / "north" / "a", ramp(), **about)
    write_dicom(root / "north" / "b", ramp(top=9), **{**about, "InstitutionName": "ST.  MARY"})
    write_dicom(root / "south" / "c", ramp(top=8), **{**about, "StationName": "CT8"})
    write_dicom(root / "south" / "d", ramp(top=7))
    out = tmp_path / "manifest.parquet"
    run(root, out)
    rows = read_manifest(out).rows
    site, scanner = KEY.site("st. mary"), KEY.scanner("ACME\n\nCT7")
    assert rows["site"].to_list() == [site, site, site, None]
    assert rows["scanner"].to_list()[:2] == [scanner] * 2
    assert rows["scanner"][2] not in (None, scanner)
    assert rows["scanner"][3] is None
    run(root, out, site_pattern="(north|south)/")
    sites = read_manifest(out).rows["site"].to_list()
    assert sites == [KEY.site("north")] * 2 + [KEY.site("south")] * 2
    assert b"MARY" not in out.read_bytes().upper()


@pytest.mark.parametrize(
    ("pattern", "error", "words"),
    [
        ("(", ConfigError, "patient-pattern"),
        ("x", ConfigError, "group"),
        ("(zz)", DataError, "none of 8"),
    ],
)
def test_a_pattern_that_cannot_work_is_refused_before_reading(
    tmp_path: Path, pattern: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        run(hospital(tmp_path / "in"), tmp_path / "m.parquet", patient_pattern=pattern)


@pytest.mark.usefixtures("direct")
def test_grey_that_is_saved_as_colour_counts_as_grey(tmp_path: Path) -> None:
    grey = colours()[..., :1]
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(grey.repeat(3, axis=2)).save(folder / "a.jpg", quality=95)
    write_png(folder / "b.png", colours())
    run(folder, tmp_path / "m.parquet")
    assert read_manifest(tmp_path / "m.parquet").rows["channels"].to_list() == [1, 3]


@pytest.mark.usefixtures("direct")
def test_labels_come_from_class_folders_or_a_table(tmp_path: Path) -> None:
    root, out = hospital(tmp_path / "in"), tmp_path / "manifest.parquet"
    assert run(root, out).labelled == 0
    assert run(root, out, class_folders=True).labels == {"deep": 2, "a": 1, "b": 1}
    (tmp_path / "labels.csv").write_text("patient,label\nP2,sick\n")
    summary = run(root, out, labels=tmp_path / "labels.csv")
    assert summary.labels == {"sick": 2}
    assert summary.reused == 8
    assert run(root, out).labelled == 0


@pytest.mark.usefixtures("direct")
def test_folders_that_name_splits_are_read(tmp_path: Path) -> None:
    for number, folder in enumerate(("Train/x", "valid/x", "testing/x", "other")):
        write_png(tmp_path / "in" / folder / "a.png", colours() + number)
    summary = run(tmp_path / "in", tmp_path / "manifest.parquet")
    assert summary.splits == {"test": 1, "train": 1, "val": 1}


@pytest.mark.usefixtures("direct")
def test_archives_have_a_row_per_image_with_label_and_split(tmp_path: Path) -> None:
    root = tmp_path / "in"
    root.mkdir()
    images = np.arange(2 * 16, dtype=np.uint8).reshape(2, 4, 4)
    labels = np.array([[1], [0]])
    np.savez(root / "a.npz", train_images=images, train_labels=labels, test_images=images[:1])
    for source in (root / "a.npz", root):
        run(source, tmp_path / "m.parquet")
        manifest = read_manifest(tmp_path / "m.parquet")
        assert manifest.root == root
        assert manifest.rows.select("path", "member", "frame", "label", "split").rows() == [
            ("a.npz", "test_images", 0, None, "test"),
            ("a.npz", "train_images", 0, "1", "train"),
            ("a.npz", "train_images", 1, "0", "train"),
        ]


@pytest.mark.usefixtures("direct")
def test_names_that_are_no_text_are_scanned_and_found_again(tmp_path: Path) -> None:
    root = tmp_path / "in"
    root.mkdir()
    name = os.fsdecode(b"M\xfcller.png")
    write_png(tmp_path / "a.png", colours()).rename(root / name)
    run(root, tmp_path / "m.parquet")
    manifest = read_manifest(tmp_path / "m.parquet")
    assert manifest.file(manifest.rows["path"][0]).read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("direct")
def test_nothing_to_read_is_one_message_and_earlier_results_stay(tmp_path: Path) -> None:
    out = tmp_path / "manifest.parquet"
    write_png(tmp_path / "good" / "a.png", colours())
    run(tmp_path / "good", out)
    before = out.read_bytes()
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.txt").write_text("x")
    for folder, words in (
        (tmp_path / "empty", "no files"),
        (tmp_path / "bad", "none of 1 files .* not_an_image 1"),
        (tmp_path / "missing", "does not exist"),
        (tmp_path / "bad" / "a.txt", "expected a folder"),
    ):
        with pytest.raises(DataError, match=words):
            run(folder, out)
    assert out.read_bytes() == before
    assert not Parts(out, "", KEY).folder.exists()


def test_a_file_that_is_no_manifest_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "photo.png"
    write_png(out, colours())
    with pytest.raises(OutputError, match="no manifest"):
        run(hospital(tmp_path / "in"), out)
    assert out.read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("direct")
def test_what_the_scan_writes_into_the_folder_is_no_input(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", colours())
    for _ in range(2):
        assert run(tmp_path, tmp_path / "manifest.parquet").files == 1


@pytest.mark.usefixtures("direct")
def test_a_bad_table_of_labels_is_refused_before_reading(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("a,b\n")
    with pytest.raises(DataError, match="label"):
        run(tmp_path / "missing", tmp_path / "m.parquet", labels=tmp_path / "labels.csv")


@pytest.mark.usefixtures("direct")
def test_a_second_scan_into_the_same_output_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "m.parquet"
    root = hospital(tmp_path / "in")
    with (
        Parts(out, "s", KEY).claimed(),
        pytest.raises(OutputError, match=r"in use .* wait for its end"),
    ):
        run(root, out)
    assert not list(tmp_path.glob(".*"))
    assert run(root, out).images == 4


@pytest.mark.usefixtures("direct")
def test_results_that_are_lost_on_the_way_are_an_error_not_a_smaller_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        write_png(tmp_path / "in" / f"{name}.png", colours())
    add = Parts.add
    monkeypatch.setattr(
        Parts, "add", lambda self, item: add(self, item) if item.path == "a.png" else None
    )
    with pytest.raises(OutputError, match=r"1 of 2 files are lost; scan again"):
        run(tmp_path / "in", tmp_path / "m.parquet")
    assert not (tmp_path / "m.parquet").exists()
    monkeypatch.undo()
    monkeypatch.setattr(job, "CrashProofPool", Direct)
    summary = run(tmp_path / "in", tmp_path / "m.parquet")
    assert (summary.images, summary.reused) == (2, 1)


@pytest.mark.usefixtures("direct")
def test_an_archive_of_no_images_is_set_aside(tmp_path: Path) -> None:
    write_png(tmp_path / "in" / "a.png", colours())
    np.savez(tmp_path / "in" / "none.npz", train_images=np.zeros((0, 8, 8), np.uint8))
    run(tmp_path / "in", tmp_path / "m.parquet")
    rejected = pl.read_parquet(rejected_path(tmp_path / "m.parquet"))
    assert rejected.select("path", "reason").rows() == [("none.npz", "no_pixels")]


class Listener:
    def __init__(self) -> None:
        self.total: int | None = None
        self.done = 0

    def expect(self, total: int | None, *, done: int = 0, unit: str | None = None) -> None:
        self.total, self.done = total, done

    def advance(self, count: int = 1, **facts: str) -> None:
        self.done += count


@pytest.mark.usefixtures("direct")
def test_progress_counts_every_file(tmp_path: Path) -> None:
    listener = Listener()
    for _ in range(2):
        scan(hospital(tmp_path / "in"), tmp_path / "m.parquet", ScanConfig(), listener, key=KEY)
        assert listener.done == listener.total == 8


def test_labels_that_fit_no_image_cost_no_second_reading(tmp_path: Path) -> None:
    root, out = hospital(tmp_path / "in"), tmp_path / "m.parquet"
    (tmp_path / "labels.csv").write_text("file,label\nelsewhere.png,sick\n")
    with pytest.raises(DataError, match=r"names no image(.|\n)*is kept in .*\.m\.parquet\.parts"):
        run(root, out, labels=tmp_path / "labels.csv")
    assert not out.exists()
    summary = run(root, out)
    assert summary.reused == summary.files
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_a_manifest_is_not_named_as_another_kind_of_table(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"m\.csv: what is written is Parquet; name it m\.parq"):
        run(hospital(tmp_path / "in"), tmp_path / "m.csv")
