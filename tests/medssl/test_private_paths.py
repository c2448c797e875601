"""Manifests whose paths only one place can resolve."""

import shutil
from pathlib import Path

import polars as pl
import pytest

from medssl.errors import DataError
from medssl.identity import load_site_key
from medssl.manifest import read_manifest, rejected_path, write_manifest
from medssl.private_paths import table_file
from medssl.scanning.scan import scan
from medssl.scanning.settings import ScanConfig
from medssl.scanning.summary import ScanSummary
from tests.medssl.make import hospital

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDSSL_KEY_FILE", str(tmp_path / "own" / "site.key"))


def run(folder: Path, out: Path, *, private: bool) -> ScanSummary:
    return scan(folder, out, ScanConfig(workers=1, private=private), key=load_site_key())


def test_files_hold_keys_and_memory_holds_paths(tmp_path: Path) -> None:
    root, out = hospital(tmp_path / "in"), tmp_path / "manifest.parquet"
    run(root, tmp_path / "plain.parquet", private=False)
    run(root, out, private=True)
    plain = read_manifest(tmp_path / "plain.parquet")
    manifest = read_manifest(out)
    assert manifest.rows.equals(plain.rows)
    assert manifest.file(manifest.rows["path"][0]).is_file()
    stored = pl.read_parquet(out)
    assert stored.drop("path").equals(plain.rows.drop("path"))
    files = (stored, pl.read_parquet(rejected_path(out)))
    for table, other in zip(
        files, (plain.rows, pl.read_parquet(tmp_path / "plain.rejected.parquet")), strict=True
    ):
        assert not set(table["path"]) & set(other["path"])
        assert all(len(path) == 16 and "." not in path for path in table["path"])
    write_manifest(manifest, tmp_path / "copy.parquet")  # as a run folder does
    assert pl.read_parquet(tmp_path / "copy.parquet")["path"].equals(stored["path"])


def test_a_second_scan_reuses_the_first(tmp_path: Path) -> None:
    root, out = hospital(tmp_path / "in"), tmp_path / "manifest.parquet"
    first = run(root, out, private=True)
    again = run(root, out, private=True)
    assert first.reused == 0
    assert again.reused == first.files
    assert run(root, out, private=False).reused == first.files
    assert read_manifest(out).private is None


def test_only_the_user_may_open_the_table_and_without_it_nothing_is_read(tmp_path: Path) -> None:
    root, out = hospital(tmp_path / "in"), tmp_path / "manifest.parquet"
    run(root, out, private=True)
    name = read_manifest(out).private
    assert name is not None
    folder = table_file(name).parent
    assert folder.stat().st_mode & 0o777 == 0o700
    table_file(name).write_bytes(b"damaged")
    with pytest.raises(DataError, match="not a readable Parquet file; scan again"):
        read_manifest(out)
    shutil.rmtree(folder)
    with pytest.raises(DataError, match=r"are private, and their table .* is not here"):
        read_manifest(out)
    assert run(root, out, private=True).reused == 0
    assert len(read_manifest(out))
