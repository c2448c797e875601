"""Outputs that appear whole or not at all."""

import errno
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sslcore.errors import OutputError

_PROTOCOL = re.compile(r"[A-Za-z][\w+.:-]+:")  # not the one letter of a drive
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EBADF}  # file systems without locks


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; on success it takes the name `path`.

    The content is on disk before the name changes, so that a crash or power cut leaves either the
    old file or the new one. On an error the old file stays, and nothing else remains.

    Raises:
        OutputError: The disk is full, or the place cannot be written.
    """
    require_local(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
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
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    with output_errors(path):
        try:
            shutil.rmtree(draft, ignore_errors=True)  # of a killed process with the same number
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
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(f"{folder} is in use by another process; wait for its end") from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield
    finally:
        os.close(handle)


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` into an `OutputError` that names `path`."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
