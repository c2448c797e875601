"""Any file as one on this machine: those in archives and in remote folders are copied for reading.

A copy lies in the system's folder for temporary files, readable by the user only, alone in a folder
of its own, so that no header can name another file beside it. It is gone after reading, also after
errors; a process that is killed may leave one there, but not one that a scan ends. There is one
copy per thread at a time.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path

from medssl.manifest_paths import is_remote
from medssl.sources.archives import find_archive, unpack
from medssl.sources.reading import reading
from medssl.sources.remote import fetch


class _LastCopy:
    """The copy that was made last, for who reads images of one file after each other."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._path: Path | None = None
        self._copy: Path | None = None
        self.in_use = False

    def of(self, path: Path, write: Callable[[Path], None]) -> Path:
        """Return the copy of `path`; the one before is gone then if it was of another file."""
        if self._copy is None or self._path != path:
            self._stack.close()
            self._copy = None
            self._copy = self._stack.enter_context(_copied(path, write))
            self._path = path
        return self._copy


_LAST: ContextVar[_LastCopy | None] = ContextVar("last_copy", default=None)


@contextmanager
def local_file(path: Path) -> Iterator[Path]:
    """Give a file as it is, or a copy of it if it is in an archive or in a remote folder.

    Raises:
        IngestError: The file, or what it is in, is damaged, gone, too large or does not come.
        DataError: The store of a remote folder does not answer any more.
        ConfigError: A remote folder that cannot be read here.
    """
    write = _copier(path)
    if write is None:
        yield path
        return
    last = _LAST.get()
    if last is None or last.in_use:
        with _copied(path, write) as copy:
            yield copy
        return
    last.in_use = True
    try:
        yield last.of(path, write)
    finally:
        last.in_use = False


@contextmanager
def one_copy_kept() -> Iterator[None]:
    """Within the block, copy a file once for several images in a row; around loops over images."""
    with ExitStack() as stack:
        before = _LAST.set(_LastCopy(stack))
        try:
            yield
        finally:
            _LAST.reset(before)


def _copier(path: Path) -> Callable[[Path], None] | None:
    """Return what writes a copy to a place; None for a file that can be opened where it is."""
    if is_remote(path):
        return partial(fetch, path)
    place = find_archive(path)
    return place and partial(unpack, *place)


@contextmanager
def _copied(path: Path, write: Callable[[Path], None]) -> Iterator[Path]:
    with ExitStack() as stack:
        with reading(path, "copy of the file"):
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="medssl-"))
            copy = Path(folder) / "file"
            copy.touch(mode=0o600)
            write(copy)
        yield copy
