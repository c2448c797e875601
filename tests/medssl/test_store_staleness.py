"""The store never gives pixels of another time: every slice counts, and so does what was read."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medssl.identity import key_file, load_site_key
from medssl.loading.dataset import CanvasDataset
from medssl.manifest import read_manifest
from medssl.scanning.scan import scan
from medssl.scanning.settings import ScanConfig
from medssl.scanning.walk import current_stamp
from medssl.volumes.samples import as_samples
from tests.medssl.test_series import block, write_slice
from tests.medssl.test_store import COUNT, ROOM, StorePlan, call, dataset, folder, site_key

__all__ = ["site_key"]  # a fixture

STORE_SIZE = ("--image-size", 16, "--workers", 0)


def write_grey(path: Path, value: int) -> None:
    Image.fromarray(np.full((12, 9), value, np.uint8)).save(path)


def volumes(tmp_path: Path, *, store: bool = True) -> CanvasDataset:
    out = tmp_path / "m.parquet"
    scan(tmp_path / "d", out, ScanConfig(workers=1))
    return CanvasDataset(
        as_samples(read_manifest(out), 3),
        canvas=8,
        channels=1,
        spacing_mm=2.0,
        cache_gb=0.0,
        store=StorePlan(tmp_path / "store", ROOM) if store else None,
    )


@pytest.mark.parametrize("slice_number", range(5))
@pytest.mark.parametrize("what", ["scale", "place"])
def test_a_change_of_any_slice_makes_another_volume(
    tmp_path: Path, what: str, slice_number: int
) -> None:
    for number in range(5):
        write_slice(tmp_path / "d" / f"{number}.dcm", block(5)[number], 2.0 * number, Modality="CT")
    before = volumes(tmp_path)
    old = before[0]
    again = volumes(tmp_path)
    assert again.store is not None
    assert again.store.count() == 1
    place, change = 2.0 * slice_number, {"Modality": "CT"}
    if what == "scale":
        change |= {"RescaleSlope": "1", "RescaleIntercept": "70"}
    else:
        place += (slice_number - 2) * 2.0 + 0.5
    path = tmp_path / "d" / f"{slice_number}.dcm"
    write_slice(path, block(5)[slice_number], place, **change)
    after = volumes(tmp_path)
    assert after.store is not None
    assert after.store.count() == 0
    assert torch.equal(after[0], volumes(tmp_path, store=False)[0])
    assert what == "place" or not torch.equal(after[0], old)


def test_an_image_that_changed_after_the_scan_is_not_kept_under_its_old_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = folder(tmp_path)
    wanted = dataset(manifest, tmp_path, store=None)[3]
    file = tmp_path / "d" / "3.png"
    first, time = file.read_bytes(), file.stat().st_mtime_ns
    write_grey(file, 77)
    filled = dataset(manifest, tmp_path)
    for row in range(COUNT):
        filled[row]
    file.write_bytes(first)
    os.utime(file, ns=(time, time))
    scan(tmp_path / "d", tmp_path / "m.parquet", ScanConfig(workers=1))
    later = dataset(read_manifest(tmp_path / "m.parquet"), tmp_path)
    assert later.store is not None
    assert later.store.count() == COUNT - 1
    assert torch.equal(later[3], wanted)
    assert filled.changed == {3}
    assert caplog.text.count("changed since the scan") == 1


def test_a_volume_of_which_one_slice_changed_is_not_kept(tmp_path: Path) -> None:
    for number in range(5):
        write_slice(tmp_path / "d" / f"{number}.dcm", block(5)[number], 2.0 * number)
    images = volumes(tmp_path)
    write_slice(tmp_path / "d" / "4.dcm", block(5)[4] + 9, 8.0)
    images[0]
    assert images.store is not None
    assert images.store.count() == 0
    assert images.changed == {0}


def test_the_command_tells_what_changed_and_stores_the_rest(tmp_path: Path) -> None:
    folder(tmp_path)
    write_grey(tmp_path / "d" / "3.png", 77)
    (tmp_path / "d" / "4.png").unlink()
    code, output = call("cache", tmp_path / "m.parquet", "--out", tmp_path / "s", *STORE_SIZE)
    assert code == 0
    assert "4 of 6 images" in output
    assert "1 could not be read" in output
    assert "1 are not known to be as they were scanned, and not stored; scan again" in output


@pytest.mark.parametrize("other_key", ["none", "another"])
def test_without_the_key_of_the_scan_nothing_new_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other_key: str
) -> None:
    manifest = folder(tmp_path)
    dataset(manifest, tmp_path)[0]
    monkeypatch.setenv("MEDSSL_KEY_FILE", str(tmp_path / "other.key"))
    if other_key == "another":
        load_site_key()
    images = dataset(manifest, tmp_path)
    for row in range(COUNT):
        images[row]
    assert images.store is not None
    assert images.store.count() == 1
    assert images.changed == set(range(1, COUNT))
    assert key_file().exists() == (other_key == "another")


def test_files_in_an_archive_have_stamps_too(tmp_path: Path) -> None:
    folder(tmp_path)
    archive = tmp_path / "packed" / "sub" / "all.zip"
    archive.parent.mkdir(parents=True)

    def pack(*names: str) -> None:
        with zipfile.ZipFile(archive, "w") as file:
            for name in names:
                file.write(tmp_path / "d" / name, f"in/{name}")

    pack("0.png", "1.png", "2.png")
    out = tmp_path / "packed.parquet"
    scan(tmp_path / "packed", out, ScanConfig(workers=1))
    manifest = read_manifest(out)
    key = load_site_key()
    for path, stamp in manifest.rows.select("path", "stamp").iter_rows():
        assert current_stamp(manifest.root, path, key) == stamp
    images = dataset(manifest, tmp_path)
    images[0]
    assert (images.store.count(), images.changed) == (1, set())  # type: ignore[union-attr]
    pack("0.png", "1.png")
    images[1]
    assert images.changed == {1}
    lost = manifest.rows["path"][2]
    assert current_stamp(manifest.root, lost, key) is None
    archive.unlink()
    assert current_stamp(manifest.root, lost, key) is None
