"""Zip and tar archives: their files are read as those of a folder, and hostile ones set aside."""

import io
import shutil
import tarfile
import zipfile
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from typer.testing import CliRunner

from medssl.cli import app
from medssl.errors import DataError, Reason, TooLargeError, UnreadableFileError
from medssl.loading.dataset import CanvasDataset
from medssl.manifest import Manifest, read_manifest, rejected_path
from medssl.scanning.scan import scan
from medssl.scanning.settings import ScanConfig
from medssl.sources import archives
from medssl.sources.local import local_file
from medssl.volumes.geometry import volumes_of
from medssl.volumes.read import read_volume
from tests.medssl.make import hospital, write_dicom, write_stack
from tests.medssl.test_slides import specimen, write_slide

KINDS = ("zip", "tar")


@pytest.fixture(autouse=True)
def site_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDSSL_KEY_FILE", str(tmp_path / "site.key"))


def scanned(folder: Path) -> tuple[Manifest, pl.DataFrame]:
    out = folder.parent / f"{folder.name}.parquet"
    scan(folder, out, ScanConfig(workers=1))
    return read_manifest(out), pl.read_parquet(rejected_path(out))


def packed(tmp_path: Path, kind: str) -> Path:
    """Pack a small hospital; return the folder that holds the archive."""
    hospital(tmp_path / "plain")
    (tmp_path / "packed").mkdir()
    shutil.make_archive(str(tmp_path / "packed" / "all"), kind, tmp_path / "plain")
    return tmp_path / "packed"


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_packed_is_found_as_in_its_folder(tmp_path: Path, kind: str) -> None:
    manifest, rejected = scanned(packed(tmp_path, kind))
    plain, left = scanned(tmp_path / "plain")
    ours = plain.rows.with_columns(path=f"all.{kind}/" + pl.col("path"))
    same = pl.exclude("sample", "stamp", "volume", "stack")
    assert manifest.rows.select(same).equals(ours.select(same))
    assert dict(rejected.select("path", "reason").rows()) == {
        f"all.{kind}/{path}": reason for path, reason in left.select("path", "reason").rows()
    }
    for row, name in enumerate(manifest.rows["path"]):
        assert manifest.rows["path"][row] == name
    images = [
        CanvasDataset(each, canvas=12, channels=3, cache_gb=0).read_batch(torch.arange(len(plain)))
        for each in (manifest, plain)
    ]
    assert torch.equal(images[0].pixels, images[1].pixels)


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_may_be_all_there_is_and_a_second_scan_opens_nothing(
    tmp_path: Path, kind: str
) -> None:
    folder = packed(tmp_path, kind)
    out = tmp_path / "m.parquet"
    first = scan(folder / f"all.{kind}", out, ScanConfig(workers=1))
    assert (first.images, first.reused) == (4, 0)
    again = scan(folder / f"all.{kind}", out, ScanConfig(workers=1))
    assert again.reused == again.files
    result = CliRunner().invoke(app, ["scan", str(folder / f"all.{kind}"), "--out", str(out)])
    assert result.exit_code == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_series_in_an_archive_is_a_volume(tmp_path: Path, kind: str) -> None:
    voxels = np.random.default_rng(0).integers(0, 900, (5, 6, 7)).astype(np.int16)
    write_stack(tmp_path / "s", voxels)
    (tmp_path / "d").mkdir()
    shutil.make_archive(str(tmp_path / "d" / "s"), kind, tmp_path / "s")
    manifest, _ = scanned(tmp_path / "d")
    (slices,) = volumes_of(manifest.rows)
    np.testing.assert_array_equal(read_volume(manifest, slices).values, voxels)


def test_arrays_of_an_archive_in_an_archive_are_read(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (3, 8, 8), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, train_images=values)
    (tmp_path / "d").mkdir()
    with zipfile.ZipFile(tmp_path / "d" / "a.zip", "w") as file:
        file.writestr("set.npz", buffer.getvalue())
    manifest, _ = scanned(tmp_path / "d")
    found = CanvasDataset(manifest, canvas=8, channels=1, cache_gb=0).read_batch(torch.arange(3))
    np.testing.assert_array_equal(found.pixels[:, 0].numpy() // 257, values)


def write_zip(tmp_path: Path, *names: str, **options: int) -> Path:
    (tmp_path / "d").mkdir(exist_ok=True)
    content = write_dicom(tmp_path / "one", np.eye(16, dtype=np.uint16)).read_bytes()
    with zipfile.ZipFile(tmp_path / "d" / "a.zip", "w", **options) as file:  # type: ignore[call-overload]
        for name in names:
            file.writestr(name, content)
    return tmp_path / "d" / "a.zip"


@pytest.mark.parametrize("name", ["../out.dcm", "/etc/x.dcm", "a//b.dcm", "./x.dcm", "a\\b.dcm"])
def test_names_that_are_no_paths_are_set_aside(tmp_path: Path, name: str) -> None:
    write_zip(tmp_path, name, "good.dcm")
    manifest, rejected = scanned(tmp_path / "d")
    assert manifest.rows["path"].to_list() == ["a.zip/good.dcm"]
    assert rejected["reason"].to_list() == ["unsupported"]


def test_hidden_folders_are_passed_over_and_of_equal_names_the_last_is_read(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        write_zip(tmp_path, "x.dcm", "x.dcm", ".git/y.dcm", "in/.z/y.dcm")
    manifest, rejected = scanned(tmp_path / "d")
    assert manifest.rows["path"].to_list() == ["a.zip/x.dcm"]
    detail = "an archive with 1 files of the names of others; of each name the last is read"
    assert rejected.select("path", "reason", "detail").rows() == [("a.zip", "corrupt", detail)]


def test_an_archive_cut_short_and_one_in_another_are_told_as_such(tmp_path: Path) -> None:
    whole = write_zip(tmp_path, *(f"{number}.dcm" for number in range(9)))
    content = whole.read_bytes()
    (tmp_path / "d" / "cut.zip").write_bytes(content[: len(content) // 2])
    with zipfile.ZipFile(tmp_path / "d" / "outer.zip", "w") as file:
        file.writestr("inner.zip", content)
        file.writestr("in/", b"")
        file.writestr("in/x.dcm", (tmp_path / "one").read_bytes())
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr("in/", b"")  # a folder that is listed twice harms nothing
    manifest, rejected = scanned(tmp_path / "d")
    assert len(manifest.rows) == 10
    assert rejected.select("path", "reason").rows() == [
        ("cut.zip", "truncated"),
        ("outer.zip/inner.zip", "unsupported"),
    ]
    assert rejected["detail"][1].startswith("an archive in an archive")
    with pytest.raises(DataError, match="truncated 1, such as: an archive whose list of files"):
        scan(tmp_path / "d" / "cut.zip", tmp_path / "x.parquet", ScanConfig(workers=1))


def test_an_archive_without_files_is_told(tmp_path: Path) -> None:
    write_zip(tmp_path, "x.dcm")
    for name in ("empty.zip", "hidden.zip"):
        with zipfile.ZipFile(tmp_path / "d" / name, "w") as file:
            if name == "hidden.zip":
                file.writestr(".git/x.dcm", b"x")
    _, rejected = scanned(tmp_path / "d")
    assert rejected.select("path", "reason").rows() == [
        (name, "empty") for name in ("empty.zip", "hidden.zip")
    ]


def test_links_out_of_a_tar_archive_are_set_aside_and_those_within_are_read(
    tmp_path: Path,
) -> None:
    (tmp_path / "d").mkdir()
    image = write_dicom(tmp_path / "one", np.eye(16, dtype=np.uint16))
    long = "x" * 120
    with tarfile.open(tmp_path / "d" / "a.tar", "w", format=tarfile.GNU_FORMAT) as file:
        file.add(image, long)
        for name, kind, target in (
            ("soft", tarfile.SYMTYPE, long),
            ("out", tarfile.LNKTYPE, str(tmp_path / "site.key")),
            ("within", tarfile.LNKTYPE, long),
        ):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, target
            file.addfile(link)
    manifest, rejected = scanned(tmp_path / "d")
    assert manifest.rows["path"].to_list() == ["a.tar/within", f"a.tar/{long}"]
    assert manifest.rows["content"].n_unique() == 1
    assert rejected["path"].to_list() == ["a.tar/out", "a.tar/soft"]
    assert rejected["reason"].to_list() == ["unsupported"] * 2


def test_a_bomb_is_set_aside_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_zip(tmp_path, "good.dcm")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr("bomb.dcm", bytes(4 << 20))
    monkeypatch.setattr(archives, "FILE_BUDGET", 1 << 20)
    manifest, rejected = scanned(tmp_path / "d")
    assert manifest.rows["path"].to_list() == ["a.zip/good.dcm"]
    assert rejected.select("path", "reason").rows() == [("a.zip/bomb.dcm", "too_large")]
    with pytest.raises(TooLargeError), local_file(path / "bomb.dcm"):
        pass


def test_locked_damaged_and_packed_archives_have_their_reasons(tmp_path: Path) -> None:
    path = write_zip(tmp_path, "locked.dcm", "good.dcm")
    content = bytearray(path.read_bytes())
    directory = content.index(b"PK\x01\x02")
    content[directory + 8] |= 1
    path.write_bytes(content)
    (tmp_path / "d" / "cut.zip").write_bytes(content[: len(content) // 2])
    (tmp_path / "d" / "whole.tar.gz").write_bytes(b"\x1f\x8b")
    manifest, rejected = scanned(tmp_path / "d")
    assert manifest.rows["path"].to_list() == ["a.zip/good.dcm"]
    reasons = {path: (reason, detail) for path, reason, detail, *_ in rejected.rows()}
    assert reasons["a.zip/locked.dcm"] == ("unsupported", "encrypted")
    assert reasons["cut.zip"][0] == "truncated"
    assert reasons["whole.tar.gz"][0] == "unsupported"


def test_a_file_whose_sum_is_wrong_is_set_aside(tmp_path: Path) -> None:
    path = write_zip(tmp_path, "bad.dcm", "good.dcm")
    content = bytearray(path.read_bytes())
    content[len("bad.dcm") + 30 + 400] ^= 1
    path.write_bytes(content)
    manifest, rejected = scanned(tmp_path / "d")
    assert manifest.rows["path"].to_list() == ["a.zip/good.dcm"]
    assert rejected["reason"].to_list() == ["corrupt"]


def test_a_folder_may_be_called_like_an_archive(tmp_path: Path) -> None:
    write_dicom(tmp_path / "d" / "a.zip" / "x", np.eye(16, dtype=np.uint16))
    manifest, _ = scanned(tmp_path / "d")
    assert manifest.rows["path"].to_list() == ["a.zip/x"]


def test_slides_have_to_be_unpacked(tmp_path: Path) -> None:
    write_slide(tmp_path / "s" / "a.svs", specimen())
    path = write_zip(tmp_path, "good.dcm")
    with zipfile.ZipFile(path, "a") as file:
        file.write(tmp_path / "s" / "a.svs", "a.svs")
    _, rejected = scanned(tmp_path / "d")
    assert rejected.select("reason", "detail").rows() == [
        ("unsupported", "slide in an archive; unpack it")
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_that_is_gone_or_changed_is_noticed(tmp_path: Path, kind: str) -> None:
    folder = packed(tmp_path, kind)
    path = folder / f"all.{kind}"
    with local_file(path / "a" / "IM0001") as file:
        assert file.stat().st_size
    with pytest.raises(UnreadableFileError) as gone, local_file(path / "nothing"):
        pass
    assert gone.value.reason == Reason.VANISHED
    path.unlink()
    with local_file(path / "a" / "IM0001") as file:
        assert not file.exists()  # the path as it is: whoever opens it says that it is gone


def read(path: Path) -> bytes:
    with local_file(path) as file:
        return file.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_threads_and_forked_processes_read_one_archive(tmp_path: Path, kind: str) -> None:
    folder = packed(tmp_path, kind)
    names = ["a/IM0001", "a/deep/IM0002", "b/scan.txt"] * 30
    wanted = [(tmp_path / "plain" / name).read_bytes() for name in names]
    paths = [folder / f"all.{kind}" / name for name in names]
    assert read(paths[0]) == wanted[0]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(read, paths)) == wanted
    with ProcessPoolExecutor(3, get_context("fork")) as processes:
        assert list(processes.map(read, paths)) == wanted


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"expected a folder, a \.zip, a \.tar or a MedMNIST"):
        scan(tmp_path / "x.zip", tmp_path / "m.parquet", ScanConfig(workers=1))
