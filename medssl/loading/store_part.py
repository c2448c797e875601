"""One part of a store: three files, read and written at given places by several processes."""

import errno
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sslcore.errors import OutputError
from sslcore.files import whole_folder

KEY_BYTES = 16
_KEYS, _MARKS, _CANVASES = "keys.npy", "marks.npy", "canvases.npy"
_COMPLETE = 1 << 32  # added to the checksum, so that no complete canvas has the mark 0
_MARK_BYTES = 8


class Part:
    """Files of one part; no shared place in them, and no mapping.

    Attributes:
        folder: Where they lie.
        num_bytes: That all its canvases take, complete or not.
        is_writable: By this user; otherwise it is only read.
    """

    def __init__(self, folder: Path) -> None:
        """Look at a part; it holds no file open before `open`.

        Raises:
            OutputError: It is none, or cannot be read.
        """
        self._handles: list[int] = []
        self.folder = folder
        with _reading(folder):
            pixels = _load(folder / _CANVASES, np.uint16, mmap_mode="r")
            marks = _load(folder / _MARKS, np.uint64, mmap_mode="r")
        self._pixels_at, self._marks_at = int(pixels.offset), int(marks.offset)
        self._bytes_each = pixels.nbytes // max(1, len(pixels))
        self.num_bytes = pixels.nbytes
        self.is_writable = all(os.access(folder / name, os.W_OK) for name in (_CANVASES, _MARKS))

    def open(self) -> Self:
        """Make it ready to read and write canvases.

        Raises:
            OutputError: It cannot be opened, for example because too many files are open.
        """
        flags = os.O_RDWR if self.is_writable else os.O_RDONLY
        with _reading(self.folder):
            for name in (_CANVASES, _MARKS):
                self._handles.append(os.open(self.folder / name, flags))
        return self

    def keys(self) -> list[bytes]:
        """Return what each canvas is kept under.

        Raises:
            OutputError: See `Part`.
        """
        with _reading(self.folder):
            return [key.tobytes() for key in _load(self.folder / _KEYS, np.uint8)]

    def marks(self) -> NDArray[np.uint64]:
        """Return what is not 0 for each canvas that is complete, `[canvases]`.

        Raises:
            OutputError: See `Part`.
        """
        with _reading(self.folder):
            marks: NDArray[np.uint64] = _load(self.folder / _MARKS, np.uint64)
        return marks

    def read(self, row: int) -> bytearray | None:
        """Return the values of a canvas; None if it is not complete, or damaged.

        Raises:
            OSError: The disk has a problem.
        """
        mark = self._mark(row)
        if not mark:
            return None
        size, handle = self._bytes_each, self._handles[0]
        pixels, at = bytearray(size), self._pixels_at + row * self._bytes_each
        done = os.preadv(handle, [pixels], at)
        if done < size and not _read_rest(handle, pixels, at, done):
            return None
        return pixels if _mark_of(pixels) == mark else None

    def write(self, row: int, pixels: memoryview) -> None:
        """Keep the values of a canvas.

        Raises:
            OSError: The disk is full or has another problem, or the part is only read.
        """
        if not self.is_writable:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        _write_all(self._handles[0], pixels, self._pixels_at + row * self._bytes_each)
        self._set_mark(row, _mark_of(pixels))

    def check(self, row: int) -> str:
        """Say whether a canvas is `complete`, `missing` or `damaged`, and missing from then on.

        Raises:
            OSError: The disk has a problem.
        """
        if not self._mark(row):
            return "missing"
        if self.read(row) is not None:
            return "complete"
        if self.is_writable:
            self._set_mark(row, 0)
        return "damaged"

    def _mark(self, row: int) -> int:
        at = self._marks_at + row * _MARK_BYTES
        return int.from_bytes(os.pread(self._handles[1], _MARK_BYTES, at), "little")

    def _set_mark(self, row: int, mark: int) -> None:
        value = memoryview(mark.to_bytes(_MARK_BYTES, "little"))
        _write_all(self._handles[1], value, self._marks_at + row * _MARK_BYTES)

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return _open_part, (self.folder,)

    def __del__(self) -> None:
        for handle in self._handles:
            os.close(handle)


def find_parts(folder: Path) -> list[Part]:
    """Look at all parts of a store, in the order of their names.

    Raises:
        OutputError: One is damaged, or cannot be read.
    """
    parts: list[Part] = []
    for path in sorted(folder.glob(f"[!.]*/{_KEYS}")):
        try:
            parts.append(Part(path.parent))
        except OutputError:
            if path.exists():  # else another process deleted it just now
                raise
    return parts


def make_part(folder: Path, keys: list[bytes], shape: tuple[int, ...]) -> Part:
    """Make a part with empty places for canvases of `shape`.

    Raises:
        OutputError: It cannot be written.
    """
    try:
        with whole_folder(folder) as draft:
            table = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY_BYTES)
            np.save(draft / _KEYS, table)
            np.save(draft / _MARKS, np.zeros(len(keys), "<u8"))
            pixels = (len(keys), *shape)
            np.lib.format.open_memmap(draft / _CANVASES, "w+", "<u2", pixels).flush()
    except OutputError:
        if not folder.is_dir():  # else another process was quicker, where nothing can be locked
            raise
    return Part(folder)


def _open_part(folder: Path) -> Part:
    return Part(folder).open()


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """Tell files that are no part from those that cannot be read just now."""
    try:
        yield
    except (EOFError, FileNotFoundError, ValueError) as error:
        raise OutputError(f"{folder}: not a part of a store; delete it") from error
    except OSError as error:
        raise OutputError(f"cannot read {folder}: {error.strerror or error}") from error


def _load(path: Path, dtype: type[np.generic], **how: Any) -> Any:
    array = np.load(path, **how)
    if not isinstance(array, np.ndarray) or array.dtype != dtype:
        raise ValueError(f"{path.name}: expected an array of {dtype.__name__}")
    return array


def _read_rest(handle: int, values: bytearray, start: int, done: int) -> bool:
    """Fill `values` from `done` on, as one call reads 2 GiB at most; False at the file's end."""
    while done < len(values):
        count = os.preadv(handle, [memoryview(values)[done:]], start + done)
        if not count:
            return False
        done += count
    return True


def _write_all(handle: int, values: memoryview, start: int) -> None:
    """Write all of `values`, by several calls likewise."""
    done = 0
    while done < len(values):
        count = os.pwrite(handle, values[done:], start + done)
        if not count:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done += count


def _mark_of(pixels: bytearray | memoryview) -> int:
    return _COMPLETE + zlib.crc32(pixels)
