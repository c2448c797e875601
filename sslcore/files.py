"""Outputs that appear whole or not at all."""

import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sslcore.errors import OutputError

_PROTOCOL = re.compile(r"[A-Za-z][\w+.:-]+:")  # not the one letter of a drive
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EBADF}  # file systems without locks
_NO_PLACE = {errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS}  # for a file that may be written


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; on success it takes the name `path`.

    The content is on disk before the name changes, so that a crash or power cut leaves either the
    old file or the new one. On an error the old file stays, and nothing else remains.

    Raises:
        OutputError: The disk is full, or the place cannot be written.
    """
    require_local(path)
    draft = _draft_of(path)
    with output_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield draft
            _sync(draft)
            draft.replace(path)
            _sync(path.parent)
        finally:
            draft.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Like `whole_file`, for a folder of files that belong together. `path` must not exist."""
    require_local(path)
    draft = _draft_of(path)
    with output_errors(path):
        try:
            draft.mkdir(parents=True)
            yield draft
            for file in draft.rglob("*"):
                _sync(file)
            _sync(draft)
            draft.rename(path)
            _sync(path.parent)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def new_parents(path: Path) -> Iterator[None]:
    """Make the folders above `path`; after an error, remove those of them that are new and empty.

    Raises:
        OutputError: They cannot be made.
    """
    missing = [folder for folder in path.parents if not folder.exists()]
    try:
        with output_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()
        raise


def write_text(path: Path, text: str) -> None:
    """Write `text` in UTF-8, whole or not at all."""
    with whole_file(path) as draft:
        draft.write_text(text, encoding="utf-8")


def is_url(path: Path) -> bool:
    """Tell whether a path was written as a URL, such as s3://bucket/folder."""
    return bool(path.parts) and _PROTOCOL.fullmatch(path.parts[0]) is not None


def require_local(path: Path) -> None:
    """Raise `OutputError` if `path` is a URL: it would become a folder of that name here."""
    if is_url(path):
        raise OutputError(f"{path.parts[0]}// is no place for outputs; give a path of this machine")


def require_new_folder(path: Path, *, way_out: str) -> None:
    """Raise `OutputError` if `path` exists and is not an empty folder, or is a URL."""
    require_local(path)
    if path.is_dir() and not any(path.iterdir()):
        return
    if path.exists():
        raise OutputError(f"{path} already exists; {way_out}")


def remove_drafts(folder: Path) -> None:
    """Remove what a killed process left in `folder` while it wrote a file or a folder."""
    with output_errors(folder):
        for draft in folder.glob(".*.draft"):
            if draft.is_dir():
                shutil.rmtree(draft)
            else:
                draft.unlink()


def remove_folder(path: Path) -> None:
    """Delete a folder so that others see all of it or nothing, even if this process is killed.

    What remains then is a draft, see `remove_drafts`.

    Raises:
        OutputError: It cannot be deleted.
    """
    draft = _draft_of(path)
    with output_errors(path):
        path.rename(draft)
        shutil.rmtree(draft)


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Keep other processes from working in `folder`; the claim ends with the process at the latest.

    Raises:
        OutputError: Another process works there now.
    """
    with output_errors(folder):
        handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            _lock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(f"{folder} is in use by another process; wait for its end") from error
        yield
    finally:
        os.close(handle)


@contextmanager
def taking_turns(file: Path) -> Iterator[bool]:
    """Wait until no other process is in here with `file`, an empty one that is made and stays.

    The turn ends with the process at the latest. It is given whether others do wait: not where the
    file system has no locks, or where `file` is missing and cannot be made.

    Raises:
        OutputError: The lock fails in another way.
    """
    with output_errors(file):
        handle = _open_lock(file)
    if handle is None:
        yield False
        return
    try:
        with output_errors(file):
            is_alone = _lock(handle, fcntl.LOCK_EX)
        yield is_alone
    finally:
        os.close(handle)


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` into an `OutputError` that names `path`."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def _draft_of(path: Path) -> Path:
    """Return a hidden name that no other process has, also none of another machine."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.draft")


def _open_lock(file: Path) -> int | None:
    for flags in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):  # the latter for another user's
        try:
            return os.open(file, flags, 0o666)
        except OSError as error:
            if error.errno not in _NO_PLACE:
                raise
    return None


def _lock(handle: int, how: int) -> bool:
    """Lock an open file; return False where the file system has no locks."""
    try:
        fcntl.flock(handle, how)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    return True


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
