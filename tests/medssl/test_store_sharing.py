"""Several processes and users at one store, at once or after one was killed."""

import errno
import fcntl
import os
import shutil
import signal
import threading
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sslcore.errors import OutputError
from tests.medssl.test_store import ROOM, SHAPE, CanvasStore, StorePlan, canvas, keys

EIGHT = keys(*map(str, range(8)))
BYTES_EACH = 40


def while_another_adds(
    monkeypatch: pytest.MonkeyPatch, first: Callable[[], object], second: Callable[[], object]
) -> None:
    """Run `second` while `first` makes its part: until it ends, or waits for a lock."""
    ended_or_waits = threading.Event()
    lock, make = fcntl.flock, np.lib.format.open_memmap

    def run() -> None:
        try:
            second()
        finally:
            ended_or_waits.set()

    thread = threading.Thread(target=run)

    def told(*arguments: Any) -> None:
        if threading.current_thread() is thread:
            ended_or_waits.set()
        lock(*arguments)

    def half_way(*arguments: Any) -> Any:
        monkeypatch.setattr(np.lib.format, "open_memmap", make)
        thread.start()
        assert ended_or_waits.wait(60)
        return make(*arguments)

    monkeypatch.setattr(fcntl, "flock", told)
    monkeypatch.setattr(np.lib.format, "open_memmap", half_way)
    first()
    thread.join(60)
    assert not thread.is_alive()


def test_two_that_open_at_once_share_what_both_want(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = StorePlan(tmp_path / "s", ROOM)
    stores: dict[int, CanvasStore] = {}

    def opened(first: int) -> None:
        stores[first] = CanvasStore(plan, EIGHT[first:], SHAPE)

    while_another_adds(monkeypatch, lambda: opened(0), lambda: opened(2))
    for row in range(8):
        stores[0].put(row, canvas(row))
    assert [stores[0].count(), stores[2].count()] == [8, 6]
    assert len(list(plan.folder.glob("*/keys.npy"))) == 1


def test_two_that_open_at_once_keep_the_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = StorePlan(tmp_path / "s", 5 * BYTES_EACH / 1e9)
    while_another_adds(
        monkeypatch,
        lambda: CanvasStore(plan, EIGHT[:4], SHAPE),
        lambda: CanvasStore(plan, EIGHT[4:], SHAPE),
    )
    found = (tmp_path / "s").glob("*/canvases.npy")
    assert sum(len(np.load(path)) for path in found) == 5


@pytest.mark.parametrize("name", ["0", "z"])
def test_of_two_places_for_one_image_the_filled_one_counts(tmp_path: Path, name: str) -> None:
    """They come to be where the file system has no locks."""
    plan, other = StorePlan(tmp_path / "s", ROOM), StorePlan(tmp_path / "other", ROOM)
    store = CanvasStore(plan, EIGHT, SHAPE)
    CanvasStore(other, EIGHT[2:], SHAPE)
    (part,) = other.folder.glob("[!.]*")
    part.rename(plan.folder / name)
    for row in range(8):
        store.put(row, canvas(row))
    later = CanvasStore(plan, EIGHT, SHAPE)
    assert later.count() == 8
    assert later.prune() == 1
    assert CanvasStore(plan, EIGHT, SHAPE).count() == 8


def test_where_nothing_can_be_locked_the_store_works_and_drafts_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refused)
    draft = tmp_path / "s" / ".part.1.draft"
    draft.mkdir(parents=True)
    store = CanvasStore(StorePlan(tmp_path / "s", ROOM), EIGHT, SHAPE)
    store.put(0, canvas(0))
    assert store.get(0) is not None
    assert draft.is_dir()  # it may be another's who is at work


def kill_while_pruning(plan: StorePlan) -> None:
    def remove_one(folder: Path) -> None:
        (folder / "marks.npy").unlink()
        os.kill(os.getpid(), signal.SIGKILL)

    shutil.rmtree = remove_one  # type: ignore[assignment]
    CanvasStore(plan, EIGHT[:1], SHAPE).prune()


def test_a_kill_while_parts_are_deleted_harms_nobody(tmp_path: Path) -> None:
    plan = StorePlan(tmp_path / "s", ROOM)
    CanvasStore(plan, EIGHT[:1], SHAPE).put(0, canvas(0))
    CanvasStore(plan, EIGHT[4:], SHAPE)
    process = get_context("fork").Process(target=kill_while_pruning, args=(plan,))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    store = CanvasStore(plan, EIGHT, SHAPE)
    assert store.count() == 1
    assert not list(plan.folder.glob(".*.draft"))  # what the killed process left
    assert len(list(plan.folder.glob("[!.]*"))) == 2


def test_what_a_process_left_that_was_killed_while_adding_is_removed(tmp_path: Path) -> None:
    draft = tmp_path / "s" / ".0123.4567.draft"
    draft.mkdir(parents=True)
    (draft / "canvases.npy").write_bytes(bytes(100))
    CanvasStore(StorePlan(tmp_path / "s", ROOM), EIGHT, SHAPE)
    assert not draft.exists()


def test_a_part_that_is_deleted_while_it_is_looked_at_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = StorePlan(tmp_path / "s", ROOM)
    CanvasStore(plan, EIGHT[4:], SHAPE)
    (part,) = plan.folder.glob("[!.]*")
    load = np.load

    def late(*arguments: Any, **more: Any) -> Any:
        monkeypatch.setattr(np, "load", load)
        shutil.rmtree(part)
        return load(*arguments, **more)

    monkeypatch.setattr(np, "load", late)
    assert CanvasStore(plan, EIGHT[:2], SHAPE).count() == 0


def test_parts_that_are_not_used_hold_no_file_open(tmp_path: Path) -> None:
    plan = StorePlan(tmp_path / "s", ROOM)
    for number in range(8):
        CanvasStore(plan, EIGHT[number : number + 1], SHAPE)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    store = CanvasStore(plan, EIGHT[:1], SHAPE)
    assert len(os.listdir("/proc/self/fd")) == before + 2  # noqa: PTH208
    assert store.count() == 0


def fail_for_arrays(monkeypatch: pytest.MonkeyPatch, number: int, flags: int = 0) -> None:
    """Refuse to open files of a part, with all `flags`."""
    opened = os.open

    def refused(path: Any, how: int, *more: Any, **named: Any) -> int:
        if str(path).endswith(".npy") and how & flags == flags:
            raise OSError(number, os.strerror(number))
        return opened(path, how, *more, **named)

    monkeypatch.setattr(os, "open", refused)


def test_a_part_that_cannot_be_opened_just_now_is_not_to_be_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = StorePlan(tmp_path / "s", ROOM)
    CanvasStore(plan, EIGHT, SHAPE)
    fail_for_arrays(monkeypatch, errno.EMFILE)
    with pytest.raises(OutputError, match=r"cannot read .*: Too many open files$"):
        CanvasStore(plan, EIGHT, SHAPE)


def test_the_store_of_another_user_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plan = StorePlan(tmp_path / "s", ROOM)
    filled = CanvasStore(plan, EIGHT[:4], SHAPE)
    for row in range(3):
        filled.put(row, canvas(row))
    (part,) = plan.folder.glob("[!.]*")
    with (part / "canvases.npy").open("r+b") as file:
        file.seek(-2 * BYTES_EACH, os.SEEK_END)  # of row 2
        file.write(bytes(4))
    fail_for_arrays(monkeypatch, errno.EACCES, os.O_RDWR)
    monkeypatch.setattr(os, "access", lambda _, mode: not mode & os.W_OK)
    store = CanvasStore(plan, EIGHT, SHAPE)
    assert torch.equal(store.get(1), canvas(1))  # type: ignore[arg-type]
    assert "may not be written and lacks 5 of 8 images" in caplog.text
    before = [path.read_bytes() for path in sorted(part.iterdir())]
    for _ in range(2):
        assert tuple(store.verify()) == (2, 5, 1)
    for row in range(8):
        store.put(row, canvas(row))
    assert "may not be written; what is missing is decoded each time" in caplog.text
    assert [path.read_bytes() for path in sorted(part.iterdir())] == before


def test_a_disk_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = CanvasStore(StorePlan(tmp_path / "s", ROOM), EIGHT, SHAPE)

    def failed(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "pread", failed)
    with pytest.raises(OutputError, match=r"cannot read .*: Input/output error"):
        store.get(0)
    with pytest.raises(OutputError, match=r"cannot read .*: Input/output error"):
        store.verify()


def test_a_canvas_larger_than_one_call_can_move_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux moves 2 GiB at most in one call; here it is seven bytes."""
    write, read = os.pwrite, os.preadv
    monkeypatch.setattr(os, "pwrite", lambda at, values, start: write(at, values[:7], start))
    monkeypatch.setattr(
        os, "preadv", lambda at, into, start: read(at, [memoryview(into[0])[:7]], start)
    )
    store = CanvasStore(StorePlan(tmp_path / "s", ROOM), EIGHT, SHAPE)
    for row in range(2):
        store.put(row, canvas(row))
    for row in range(2):
        assert torch.equal(store.get(row), canvas(row))  # type: ignore[arg-type]
    assert tuple(store.verify()) == (2, 6, 0)


def test_a_new_store_is_for_its_user_and_one_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o775)
    CanvasStore(StorePlan(shared, ROOM), EIGHT, SHAPE)
    CanvasStore(StorePlan(tmp_path / "new" / "s", ROOM), EIGHT, SHAPE)
    modes = [path.stat().st_mode & 0o777 for path in (shared, tmp_path / "new" / "s")]
    assert modes == [0o775, 0o700]
