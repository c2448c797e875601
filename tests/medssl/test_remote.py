"""Remote folders: read as those on a disk, whatever networks, stores and hostile names do."""

import errno
import multiprocessing
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from typer.testing import CliRunner

from medssl.cli import app
from medssl.config import PretrainConfig
from medssl.errors import DataError, Reason, TooLargeError, UnreadableFileError
from medssl.loading.dataset import CanvasDataset
from medssl.manifest import Manifest, read_manifest, read_notes, rejected_path
from medssl.pretrain import pretrain
from medssl.scanning.scan import scan
from medssl.scanning.settings import ScanConfig
from medssl.scanning.summary import ScanSummary
from medssl.sources import remote
from medssl.sources.local import local_file, one_copy_kept
from medssl.volumes.geometry import volumes_of
from medssl.volumes.read import read_volume
from sslcore.config import dump_config, resolve_config
from sslcore.errors import ConfigError, SSLError
from tests.medssl.make import hospital, nifti, write_stack
from tests.medssl.object_store import ACCESS_KEY, BUCKET, SECRET, ObjectStore, running, use
from tests.medssl.test_slides import specimen, write_slide

ROOT = f"s3://{BUCKET}/data"


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectStore]:
    with pytest.MonkeyPatch.context() as patch, running(patch) as store:
        yield store


@pytest.fixture
def store(server: ObjectStore) -> ObjectStore:
    server.empty()
    return server


@pytest.fixture(autouse=True)
def _surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give each test a site key, no outages, and a folder for copies that must be empty then."""
    monkeypatch.setenv("MEDSSL_KEY_FILE", str(tmp_path / "site.key"))
    monkeypatch.setattr(remote._Outages, "count", 0)
    monkeypatch.setattr(remote, "_PAUSE", 0.0)
    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setenv("TMPDIR", str(copies))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield
    assert not list(copies.glob("medssl-*"))


def image(number: int = 0) -> bytes:
    return nifti(np.full((1, 8, 8), number, np.uint8))


def scanned(out: Path, root: str = ROOT, **options: Any) -> tuple[Manifest, pl.DataFrame]:
    summarised(out, root, **options)
    return read_manifest(out), pl.read_parquet(rejected_path(out))


def summarised(out: Path, root: str = ROOT, **options: Any) -> ScanSummary:
    return scan(Path(root), out, ScanConfig(workers=1, **options))


def invoke(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_what_is_remote_is_found_as_in_its_folder(store: ObjectStore, tmp_path: Path) -> None:
    hospital(tmp_path / "data")
    store.put_folder(tmp_path / "data", "data")
    manifest, rejected = scanned(tmp_path / "r" / "manifest.parquet")
    plain, left = scanned(tmp_path / "p" / "manifest.parquet", str(tmp_path / "data"))
    assert manifest.rows.drop("stamp").equals(plain.rows.drop("stamp"))
    assert rejected.drop("stamp").equals(left.drop("stamp"))
    images = [
        CanvasDataset(each, canvas=12, channels=3, cache_gb=0).read_batch(torch.arange(len(plain)))
        for each in (manifest, plain)
    ]
    assert torch.equal(images[0].pixels, images[1].pixels)
    assert read_notes(tmp_path / "r" / "manifest.parquet")["medssl.root"] == ROOT


def test_a_second_scan_fetches_only_what_has_changed(store: ObjectStore, tmp_path: Path) -> None:
    for number in range(5):
        store.put(f"data/{number}.nii", image(number))
    assert summarised(tmp_path / "m.parquet").reused == 0
    store.fetched.clear()
    store.put("data/3.nii", image(200))  # of the same size
    store.put("data/7.nii", image(7))
    summary = summarised(tmp_path / "m.parquet")
    assert (summary.files, summary.reused) == (6, 4)
    assert sorted(store.fetched) == ["data/3.nii", "data/7.nii"]


def test_names_that_are_no_paths_are_set_aside(store: ObjectStore, tmp_path: Path) -> None:
    odd = ("../up", "/absolute", "a//b", "./here", "a\\b", "full/", "x?versionId=3")
    good = ("ü ß", "*[a]", "percent:x", "a@b#c", ".hidden", "s3:", "a/\x01c")
    for name in (*odd, *good, "line\nend", ".git/x", "a/.snapshot/y"):
        store.put(f"data/{name}", image())
    store.put("data/marker/", b"")
    store.put("data2/neighbour", image())
    manifest, rejected = scanned(tmp_path / "m.parquet")
    reasons = dict(rejected.select("path", "reason").rows())
    assert reasons.pop("line\nend") == "vanished"  # the server that is used here cannot send it
    assert reasons == dict.fromkeys(odd, "unsupported")
    names = [manifest.file(path).relative_to(ROOT).as_posix() for path in manifest.rows["path"]]
    assert sorted(names) == sorted(good)
    assert manifest.rows["path"].to_list() == sorted(manifest.rows["path"])


def test_series_are_volumes(store: ObjectStore, tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(0, 900, (5, 6, 7)).astype(np.int16)
    write_stack(tmp_path / "s", voxels)
    store.put_folder(tmp_path / "s", "data")
    manifest, _ = scanned(tmp_path / "m.parquet")
    (slices,) = volumes_of(manifest.rows)
    np.testing.assert_array_equal(read_volume(manifest, slices).values, voxels)


def test_a_file_is_fetched_once_for_a_batch_of_its_slices(
    store: ObjectStore, tmp_path: Path
) -> None:
    store.put("data/a.nii", nifti(np.random.default_rng(0).integers(0, 9, (20, 8, 8), np.uint8)))
    store.put("data/b.nii", image())
    manifest, _ = scanned(tmp_path / "m.parquet")
    store.fetched.clear()
    dataset = CanvasDataset(manifest, canvas=8, channels=1, cache_gb=0)
    assert len(dataset.read_batch(torch.arange(len(manifest))).index) == len(manifest)
    assert store.fetched == ["data/a.nii", "data/b.nii"]


def test_copies_are_private_and_gone_afterwards(store: ObjectStore, tmp_path: Path) -> None:
    store.put("data/a", b"content")
    with local_file(Path(ROOT) / "a") as copy:
        assert copy.read_bytes() == b"content"
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
        assert stat.S_IMODE(copy.parent.stat().st_mode) == 0o700
        assert copy.parent.parent == tmp_path / "copies"
    assert not copy.exists()
    with pytest.raises(RuntimeError), one_copy_kept(), local_file(Path(ROOT) / "a"):
        raise RuntimeError


def test_one_copy_is_kept_at_a_time_and_two_open_ones_do_not_mix(
    store: ObjectStore, tmp_path: Path
) -> None:
    for name in "ab":
        store.put(f"data/{name}", name.encode())
    with one_copy_kept():
        for name in "aab":
            with local_file(Path(ROOT) / name) as copy:
                assert copy.read_text() == name
                assert len(list((tmp_path / "copies").glob("medssl-*"))) == 1
        with local_file(Path(ROOT) / "a") as first, local_file(Path(ROOT) / "b") as second:
            assert (first.read_text(), second.read_text()) == ("a", "b")
    assert store.fetched == ["data/a", "data/b", "data/a", "data/b"]


@pytest.mark.parametrize("fault", ["busy", "cut"])
def test_what_fails_once_or_twice_is_fetched_all_the_same(store: ObjectStore, fault: str) -> None:
    store.put("data/a", bytes(range(256)) * 40)
    left = [fault, fault]
    store.fault = lambda key: left.pop() if key and left else None
    with local_file(Path(ROOT) / "a") as copy:
        assert copy.read_bytes() == bytes(range(256)) * 40
    assert not left


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("busy", "not_fetched"), ("cut", "not_fetched"), ("denied", "no_permission")],
)
def test_what_does_not_come_is_set_aside_and_tried_again_by_the_next_scan(
    store: ObjectStore, tmp_path: Path, fault: str, reason: str
) -> None:
    for number in range(3):
        store.put(f"data/{number}.nii", image(number))
    store.fault = lambda key: fault if key.endswith("1.nii") else None
    manifest, rejected = scanned(tmp_path / "m.parquet")
    assert manifest.rows["path"].to_list() == ["0.nii", "2.nii"]
    assert rejected.select("path", "reason").rows() == [("1.nii", reason)]
    store.fault = lambda key: None
    store.fetched.clear()
    manifest, rejected = scanned(tmp_path / "m.parquet")
    assert (len(manifest), len(rejected)) == (3, 0)
    assert store.fetched == ["data/1.nii"]


def test_a_store_that_stops_answering_ends_the_scan_which_goes_on_later(
    store: ObjectStore, tmp_path: Path
) -> None:
    for number in range(20):
        store.put(f"data/{number:02}.nii", image(number))
    store.fault = lambda key: "busy" if key else None
    with pytest.raises(
        DataError, match=r"s3://hospital: 8 files in a row .*call the command again"
    ):
        summarised(tmp_path / "m.parquet")
    for process in multiprocessing.active_children():
        process.join()  # it may have begun with the files that were to come next
    fetched = {key for key in store.fetched if key < "data/16"}
    assert len(fetched) == 8
    store.fault = lambda key: None
    assert summarised(tmp_path / "m.parquet").images == 20


def test_an_object_that_vanished_costs_its_row(store: ObjectStore, tmp_path: Path) -> None:
    for number in range(4):
        store.put(f"data/{number}.nii", image(number))
    manifest, _ = scanned(tmp_path / "m.parquet")
    store.empty()
    for number in (0, 1, 3):
        store.put(f"data/{number}.nii", image(number))
    dataset = CanvasDataset(manifest, canvas=8, channels=1, cache_gb=0)
    assert dataset.read_batch(torch.arange(4)).index.tolist() == [0, 1, 3]
    with pytest.raises(UnreadableFileError) as gone, local_file(Path(ROOT) / "2.nii"):
        pass
    assert gone.value.reason == Reason.VANISHED


def test_slides_archives_and_what_is_too_large_are_set_aside(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_slide(tmp_path / "a.svs", specimen())
    store.put("data/a.svs", (tmp_path / "a.svs").read_bytes())
    for name in ("b.zip", "c.tar.gz", "good.nii"):
        store.put(f"data/{name}", image())
    store.put("data/large", bytes(9_000_000))
    monkeypatch.setattr(remote, "FILE_BUDGET", 8_000_000)
    manifest, rejected = scanned(tmp_path / "m.parquet")
    assert manifest.rows["path"].to_list() == ["good.nii"]
    aside = {path: (reason, detail) for path, reason, detail, *_ in rejected.rows()}
    assert aside["a.svs"] == ("unsupported", "slide in a remote folder; copy it here")
    assert aside["b.zip"][0] == aside["c.tar.gz"][0] == "unsupported"
    assert aside["large"][0] == "too_large"
    assert set(store.fetched) == {"data/a.svs", "data/good.nii"}
    with pytest.raises(TooLargeError), local_file(Path(ROOT) / "large"):
        pass  # it has grown since the listing


class Broken:
    """A file system of which every transfer fails in the same way."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.calls = 0

    def get_file(self, *_: object, **__: object) -> None:
        self.calls += 1
        raise self.error


@pytest.mark.parametrize(
    ("error", "calls", "reason", "detail"),
    [
        (
            OSError(errno.ENOSPC, SECRET),
            1,
            Reason.OUT_OF_RESOURCES,
            "no space for a temporary copy",
        ),
        (
            OSError(errno.ECONNRESET, SECRET),
            3,
            Reason.NOT_FETCHED,
            "ConnectionResetError in 3 attempts",
        ),
        (RuntimeError(SECRET), 3, Reason.NOT_FETCHED, "RuntimeError in 3 attempts"),
    ],
)
def test_a_failure_has_a_reason_that_quotes_nothing(
    monkeypatch: pytest.MonkeyPatch, error: Exception, calls: int, reason: Reason, detail: str
) -> None:
    broken = Broken(error)
    monkeypatch.setattr(remote, "_open", lambda path: (broken, "a"))
    with pytest.raises(UnreadableFileError) as failed, local_file(Path(ROOT) / "a"):
        pass
    assert (failed.value.reason, failed.value.detail) == (reason, detail)
    assert broken.calls == calls
    assert failed.value.__suppress_context__


def test_a_name_with_dots_is_never_asked_for(store: ObjectStore) -> None:
    with pytest.raises(UnreadableFileError), local_file(Path(ROOT) / "../../other/x"):
        pass
    assert not store.fetched


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("s3://nothing-here/data", "s3://nothing-here/data does not exist"),
        (f"s3://{BUCKET}/none", f"s3://{BUCKET}/none: no files in it"),
        (f"s3://{BUCKET}/data/a.nii", "is a file; give the folder that it is in"),
        ("ftp://host/data", r"ftp:// cannot be read; known: s3://, gs://, az://"),
        ("simplecache::s3://host/data", r"simplecache::s3:// cannot be read"),
        ("s3://", "expected s3://BUCKET/FOLDER and nothing more"),
        (f"s3://{BUCKET}/../x", "expected s3://BUCKET/FOLDER and nothing more"),
    ],
)
def test_a_folder_that_cannot_be_listed_ends_with_a_message(
    store: ObjectStore, tmp_path: Path, place: str, words: str
) -> None:
    store.put("data/a.nii", image())
    result = invoke("scan", place, "--out", tmp_path / "m.parquet")
    assert result.exit_code == 2
    assert words in result.stderr
    assert not (tmp_path / "m.parquet").exists()


def test_a_listing_that_is_denied_or_does_not_come_ends_with_a_message(
    store: ObjectStore, tmp_path: Path
) -> None:
    for fault, words in (
        ("denied", "may not be listed with the credentials that were found"),
        ("busy", "cannot be listed: "),
    ):
        store.fault = lambda key, fault=fault: fault  # type: ignore[misc]
        result = invoke("scan", ROOT, "--out", tmp_path / "m.parquet")
        assert result.exit_code == 2
        assert words in result.stderr
        assert SECRET not in result.stderr


def test_a_store_that_is_not_there_ends_with_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, "http://127.0.0.1:9")
    result = invoke("scan", ROOT, "--out", tmp_path / "m.parquet")
    assert result.exit_code == 2
    assert f"{ROOT} cannot be listed: EndpointConnectionError in 3 attempts" in result.stderr


PASSWORDS = (
    f"s3://{ACCESS_KEY}:{SECRET}@{BUCKET}/data",
    f"s3://user:qzx@{BUCKET}/data",
    f"s3://{BUCKET}/data?X-Amz-Signature={SECRET}",
    f"az://account:{SECRET}@box/data",
)


@pytest.mark.parametrize("place", PASSWORDS)
def test_credentials_in_an_address_are_refused_and_not_repeated(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (
        ("scan", place),
        ("pretrain", place, "--out", "run"),
        ("cache", place, "--out", "store"),
    ):
        result = invoke(*words)
        assert result.exit_code == 2
        assert "nothing more. User, password, key and signature do not belong" in result.stderr
        for secret in (ACCESS_KEY, SECRET, "qzx"):
            assert secret not in result.output
    assert {path.name for path in tmp_path.iterdir()} <= {"copies", "site.key"}


def test_a_missing_package_is_named_with_the_way_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs the package s3fs.*pip install -c .*\[remote\]"):
        remote.require_usable(Path(ROOT))
    with pytest.raises(ConfigError, match=r"needs the package gcsfs; .*pip install gcsfs"):
        remote.require_usable(Path("gs://bucket/data"))


def test_outputs_stay_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.nii").write_bytes(nifti(np.ones((2, 8, 8), np.uint8)))
    for words in (
        ("scan", "d", "--out", "s3://bucket/manifest.parquet"),
        ("pretrain", "d", "--out", "s3://bucket/run"),
        ("cache", "d", "--out", "s3://bucket/store"),
    ):
        result = invoke(*words)
        assert result.exit_code == 2
        assert "s3:// is no place for outputs" in result.stderr
    assert not (tmp_path / "s3:").exists()
    with pytest.raises(DataError, match="a manifest is read from this machine only"):
        read_manifest(Path("s3://bucket/manifest.parquet"))


def test_a_configuration_keeps_the_address_as_it_was_written(tmp_path: Path) -> None:
    config = resolve_config(PretrainConfig, assignments=[f"data.path={ROOT}"])
    text = dump_config(config)
    assert f"path: {ROOT}\n" in text
    (tmp_path / "config.yaml").write_text(text)
    assert resolve_config(PretrainConfig, file=tmp_path / "config.yaml") == config


def test_labels_may_name_files_by_their_address(store: ObjectStore, tmp_path: Path) -> None:
    for number in range(2):
        store.put(f"data/x/{number}.nii", image(number))
    table = tmp_path / "labels.csv"
    table.write_text(f"path,label\n{ROOT}/x/0.nii,ill\nx/1.nii,well\n")
    manifest, _ = scanned(tmp_path / "m.parquet", labels=table)
    assert manifest.rows["label"].to_list() == ["ill", "well"]


def test_several_processes_want_a_manifest(tmp_path: Path) -> None:
    config = resolve_config(PretrainConfig, assignments=[f"data.path={ROOT}", "run.devices=2"])
    with pytest.raises(SSLError, match=f"medssl scan {ROOT} --out"):
        pretrain(config, tmp_path / "run")


def test_local_files_need_nothing_of_a_network(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(image())
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from medssl.identity import SiteKey\n"
        "from medssl.scanning.walk import walk\n"
        "from medssl.scanning.worker import read_file\n"
        "key, root = SiteKey(bytes(32)), Path(sys.argv[1])\n"
        "(file,), _ = walk(root, key)\n"
        "assert len(read_file(root, file, key).rows) == 1\n"
        "sys.exit(', '.join({'fsspec', 's3fs', 'aiohttp'} & set(sys.modules)) or 0)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
