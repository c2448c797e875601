"""The store of decoded canvases: never out of date, never half-written, shared by processes."""

import errno
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from medssl import cache as job
from medssl.cli import app
from medssl.config import Window
from medssl.loading.dataset import CanvasDataset
from medssl.loading.store import CanvasStore, StorePlan, canvas_key
from medssl.manifest import Manifest, read_manifest
from medssl.pretrain import pretrain
from medssl.scanning.scan import scan
from medssl.scanning.settings import ScanConfig
from sslcore.errors import OutputError
from tests.medssl.tiny_run import tiny_config, use_tiny_backbone

SHAPE = (1, 4, 5)
ROOM = 1.0  # gigabytes
COUNT = 6


@pytest.fixture(autouse=True)
def site_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDSSL_KEY_FILE", str(tmp_path / "site.key"))


def keys(*names: str) -> list[bytes]:
    return [canvas_key("", name) for name in names]


def canvas(seed: int) -> Tensor:
    values = np.random.default_rng(seed).integers(0, 65536, SHAPE, dtype=np.uint16)
    return torch.from_numpy(values)


def folder(tmp_path: Path, count: int = COUNT) -> Manifest:
    (tmp_path / "d").mkdir(exist_ok=True)
    for number in range(count):
        values = np.random.default_rng(number).integers(0, 256, (12, 9), dtype=np.uint8)
        Image.fromarray(values).save(tmp_path / "d" / f"{number}.png")
    scan(tmp_path / "d", tmp_path / "m.parquet", ScanConfig(workers=1))
    return read_manifest(tmp_path / "m.parquet")


def dataset(manifest: Manifest, tmp_path: Path, **changes: Any) -> CanvasDataset:
    plan = StorePlan(tmp_path / "store", ROOM)
    settings = {"canvas": 8, "channels": 1, "cache_gb": 0.0, "store": plan, **changes}
    return CanvasDataset(manifest, **settings)


def test_what_was_stored_is_read_back_by_whoever_opens_the_store(tmp_path: Path) -> None:
    plan = StorePlan(tmp_path / "s", ROOM)
    store = CanvasStore(plan, keys("a", "b", "c"), SHAPE)
    assert store.get(1) is None
    for row in (1, 2):
        store.put(row, canvas(row))
    for other in (store, CanvasStore(plan, keys("a", "b", "c"), SHAPE)):
        assert other.count() == 2
        assert other.get(0) is None
        for row in (1, 2):
            found = other.get(row)
            assert found is not None
            assert found.dtype == torch.uint16
            assert torch.equal(found, canvas(row))
    turned = CanvasStore(plan, keys("c", "d", "b"), SHAPE)
    assert torch.equal(turned.get(0), canvas(2))  # type: ignore[arg-type]
    assert turned.get(1) is None
    assert len(list((tmp_path / "s").glob("[!.]*"))) == 2
    copy = pickle.loads(pickle.dumps(turned))
    assert torch.equal(copy.get(2), canvas(1))


def test_images_are_decoded_once_and_come_out_the_same(tmp_path: Path) -> None:
    manifest = folder(tmp_path)
    plain = dataset(manifest, tmp_path, store=None)
    wanted = [plain[row] for row in range(COUNT)]
    first = dataset(manifest, tmp_path)
    assert all(torch.equal(first[row], wanted[row]) for row in range(COUNT))
    for file in (tmp_path / "d").iterdir():
        file.unlink()
    second = dataset(manifest, tmp_path)
    assert all(torch.equal(second[row], wanted[row]) for row in range(COUNT))


@pytest.mark.parametrize(
    "changes",
    [{"canvas": 7}, {"channels": 3}, {"window": Window.FULL}],
)
def test_other_settings_find_nothing(tmp_path: Path, changes: dict[str, Any]) -> None:
    manifest = folder(tmp_path)
    filled = dataset(manifest, tmp_path)
    for row in range(COUNT):
        filled[row]
    assert filled.store is not None
    other = dataset(manifest, tmp_path, **changes)
    assert other.store is not None
    assert (filled.store.count(), other.store.count()) == (COUNT, 0)


def test_a_stain_is_one_of_the_settings(tmp_path: Path) -> None:
    manifest = folder(tmp_path)
    for stain in (None, "macenko", "reinhard"):
        images = dataset(manifest, tmp_path, channels=3, stain=stain)
        assert images.store is not None
        assert images.store.count() == 0
        images[0]


def test_a_file_that_changed_is_decoded_anew(tmp_path: Path) -> None:
    before = dataset(folder(tmp_path), tmp_path)
    old = [before[row] for row in range(COUNT)]
    Image.fromarray(np.full((12, 9), 77, np.uint8)).save(tmp_path / "d" / "3.png")
    scan(tmp_path / "d", tmp_path / "m.parquet", ScanConfig(workers=1))
    after = dataset(read_manifest(tmp_path / "m.parquet"), tmp_path)
    assert after.store is not None
    assert after.store.count() == COUNT - 1
    same = [torch.equal(after[row], old[row]) for row in range(COUNT)]
    assert same == [True, True, True, False, True, True]


@pytest.mark.parametrize("column", ["modality", "photometric", "bits", "content"])
def test_what_decides_how_values_are_shown_is_part_of_the_key(tmp_path: Path, column: str) -> None:
    manifest = folder(tmp_path)
    dataset(manifest, tmp_path)[0]
    value = pl.lit(12) if column == "bits" else pl.lit("CT")
    changed = manifest.rows.with_columns(value.cast(manifest.rows.schema[column]).alias(column))
    other = dataset(replace(manifest, rows=changed), tmp_path)
    assert other.store is not None
    assert other.store.get(0) is None


def test_a_process_that_ends_between_canvas_and_mark_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = StorePlan(tmp_path / "s", ROOM)
    store = CanvasStore(plan, keys("a"), SHAPE)
    original, calls = os.pwrite, []

    def first_only(*arguments: Any) -> int:
        calls.append(arguments)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(os, "pwrite", first_only)
    with pytest.raises(KeyboardInterrupt):
        store.put(0, canvas(0))
    assert CanvasStore(plan, keys("a"), SHAPE).get(0) is None


@pytest.mark.parametrize("damage", ["byte", "cut"])
def test_damage_is_found_whenever_it_is_read(tmp_path: Path, damage: str) -> None:
    plan = StorePlan(tmp_path / "s", ROOM)
    store = CanvasStore(plan, keys("a", "b"), SHAPE)
    for row in range(2):
        store.put(row, canvas(row))
    (path,) = (tmp_path / "s").glob("*/canvases.npy")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content[:-3] if damage == "cut" else content)
    opened = CanvasStore(plan, keys("a", "b"), SHAPE) if damage == "byte" else store
    assert opened.get(0) is not None
    assert opened.get(1) is None
    assert tuple(opened.verify()) == (1, 0, 1)
    assert tuple(opened.verify()) == (1, 1, 0)
    opened.put(1, canvas(1))
    assert tuple(opened.verify()) == (2, 0, 0)


def test_only_what_the_budget_has_room_for_is_stored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan = StorePlan(tmp_path / "s", 2.5 * 40 / 1e9)
    store = CanvasStore(plan, keys("a", "b", "c"), SHAPE)
    assert "no room for 1 of 3 images" in caplog.text
    for row in range(3):
        store.put(row, canvas(row))
    assert [store.get(row) is None for row in range(3)] == [False, False, True]
    other = CanvasStore(plan, keys("d"), SHAPE)
    assert other.places == [None]


def test_a_full_disk_ends_storing_and_not_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = folder(tmp_path)
    images = dataset(manifest, tmp_path)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    plain = dataset(manifest, tmp_path, store=None)
    assert all(torch.equal(images[row], plain[row]) for row in range(COUNT))
    assert caplog.text.count("disk full") == 1


def test_unused_parts_are_deleted_when_asked(tmp_path: Path) -> None:
    plan = StorePlan(tmp_path / "s", ROOM)
    CanvasStore(plan, keys("a", "b"), SHAPE).put(0, canvas(0))
    CanvasStore(plan, keys("b", "c"), SHAPE)
    store = CanvasStore(plan, keys("c", "d"), SHAPE)
    assert store.prune() == 1
    again = CanvasStore(plan, keys("a", "b", "c"), SHAPE)
    assert again.get(0) is None


def test_a_part_that_is_none_is_told(tmp_path: Path) -> None:
    plan = StorePlan(tmp_path / "s", ROOM)
    CanvasStore(plan, keys("a"), SHAPE)
    (path,) = (tmp_path / "s").glob("*/marks.npy")
    path.write_bytes(b"what")
    with pytest.raises(OutputError, match="not a part of a store; delete it"):
        CanvasStore(plan, keys("a"), SHAPE)


def fill(plan: StorePlan, barrier: Any) -> None:
    barrier.wait(60)
    names = keys(*map(str, range(200)))
    store = CanvasStore(plan, names, SHAPE)
    for row in range(200):
        if store.get(row) is None:
            store.put(row, canvas(row))


def test_several_processes_fill_one_store(tmp_path: Path) -> None:
    plan = StorePlan(tmp_path / "s", ROOM)
    context = get_context("spawn")
    barrier = context.Barrier(3)
    processes = [context.Process(target=fill, args=(plan, barrier)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(list((tmp_path / "s").glob("[!.]*"))) == 1
    store = CanvasStore(plan, keys(*map(str, range(200))), SHAPE)
    assert tuple(store.verify()) == (200, 0, 0)
    assert all(torch.equal(store.get(row), canvas(row)) for row in range(200))  # type: ignore[arg-type]


KILLED = """
import sys
from pathlib import Path
from tests.medssl.test_store import SHAPE, CanvasStore, StorePlan, canvas, keys
store = CanvasStore(StorePlan(Path(sys.argv[1]), 1.0), keys(*map(str, range(5000))), SHAPE)
print("filling", flush=True)
while True:
    for row in range(5000):
        store.put(row, canvas(row))
"""


def test_a_killed_process_leaves_complete_canvases_only(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", KILLED, str(tmp_path / "s")]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
    store = CanvasStore(StorePlan(tmp_path / "s", ROOM), keys(*map(str, range(5000))), SHAPE)
    check = store.verify()
    assert check.complete > 0
    assert check.damaged == 0
    for row in range(5000):
        found = store.get(row)
        assert found is None or torch.equal(found, canvas(row))


def call(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.output


def test_the_command_fills_goes_on_and_verifies(tmp_path: Path) -> None:
    folder(tmp_path)
    manifest, store = tmp_path / "m.parquet", tmp_path / "store"
    size = ("--image-size", 16, "--workers", 0)
    assert call("cache", manifest, "--out", store, "--verify", *size)[0] == 2
    assert not store.exists()
    code, output = call("cache", manifest, "--out", store, *size)
    assert (code, "6 of 6 images of 1 x 12 x 12" in output) == (0, True)
    verify = ("cache", manifest, "--out", store, "--verify", *size)
    assert "6 complete, 0 missing, 0 damaged" in call(*verify)[1]
    (path,) = store.glob("*/canvases.npy")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    code, output = call(*verify)
    assert (code, "5 complete, 0 missing, 1 damaged" in output) == (1, True)
    (tmp_path / "d" / "5.png").unlink()
    code, output = call("cache", manifest, "--out", store, *size)
    assert (code, "5 of 6 images" in output, "1 could not be read" in output) == (0, True, True)


def test_the_command_ends_with_an_error_where_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder(tmp_path)
    original, calls = os.pwrite, []

    def soon_full(*arguments: Any) -> int:
        calls.append(arguments)
        if len(calls) > 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(*arguments)

    monkeypatch.setattr(os, "pwrite", soon_full)
    words = (tmp_path / "m.parquet", "--out", tmp_path / "store", "--workers", 0)
    code, output = call("cache", *words)
    assert code == 2
    assert "4 of 6 images are missing" in output


def test_runs_with_and_without_a_store_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tiny_backbone(monkeypatch)
    folder(tmp_path, 24)
    data = tmp_path / "m.parquet"
    settings = ("run.steps=4", "data.cache_gb=0")
    plain = pretrain(tiny_config(data, *settings), tmp_path / "plain")
    filled = tiny_config(data, *settings, f"data.store={tmp_path / 'store'}")
    losses = [pretrain(filled, tmp_path / name).final_loss for name in ("filling", "filled")]
    assert losses == [plain.final_loss] * 2
    assert job.verify(filled).complete > 0
