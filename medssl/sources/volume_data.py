"""The bytes of a volume: after the header or in a file beside it, packed or not."""

import bz2
import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal, cast

from medssl.errors import Reason, UnreadableFileError
from medssl.sources.data_beside import require_data

Packing = Literal["raw", "gzip", "bzip2", "zlib"]
_CHUNK = 1 << 20


@contextmanager
def open_data(path: Path, name: str | None, offset: int) -> Iterator[IO[bytes]]:
    """Open the file that holds the data, at its beginning.

    Args:
        path: The file with the header.
        name: Of a file beside it, as the header says; None for the same file.
        offset: Of the data in the same file; in one beside it the data begin at the start.

    Raises:
        UnsupportedImageError: See `require_data`.
        UnreadableFileError: There is no such file.
    """
    data = path if name is None else require_data(path, name)
    with data.open("rb") as file:
        if name is None:
            file.seek(offset)
        yield file


def read_data(path: Path, file: IO[bytes], packing: Packing, count: int) -> bytes:
    """Read `count` bytes as they are without packing; what follows is never unpacked.

    Raises:
        UnreadableFileError: There are fewer.
    """
    match packing:
        case "raw":
            return read_plain(path, file, count)
        case "gzip":
            return read_exactly(path, cast("IO[bytes]", gzip.GzipFile(fileobj=file)), count)
        case "bzip2":
            with bz2.BZ2File(file) as unpacked:
                return read_exactly(path, cast("IO[bytes]", unpacked), count)
        case "zlib":
            return _unzip(path, file, count)


def read_exactly(path: Path, file: IO[bytes], count: int) -> bytes:
    """Read `count` bytes.

    Raises:
        UnreadableFileError: There are fewer.
    """
    data = file.read(count)
    if len(data) < count:
        raise _too_short(path)
    return data


def read_plain(path: Path, file: IO[bytes], count: int) -> bytes:
    """Read `count` bytes of a plain file, without reserving memory for what is not there.

    Raises:
        UnreadableFileError: There are fewer.
    """
    if file.tell() + count > os.fstat(file.fileno()).st_size:
        raise _too_short(path)
    return read_exactly(path, file, count)


def _unzip(path: Path, file: IO[bytes], count: int) -> bytes:
    unpacker, parts, left = zlib.decompressobj(zlib.MAX_WBITS | 32), [], count  # zlib or gzip
    while left:
        packed = unpacker.unconsumed_tail or file.read(_CHUNK)
        if not packed or unpacker.eof:
            raise _too_short(path)
        parts.append(unpacker.decompress(packed, left))
        left -= len(parts[-1])
    return b"".join(parts)


def _too_short(path: Path) -> UnreadableFileError:
    return UnreadableFileError(path, Reason.TRUNCATED, "less data than the size needs")
