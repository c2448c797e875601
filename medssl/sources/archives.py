"""Files inside zip and tar archives, read one by one, without unpacking the archive.

A file in an archive has the path of the archive, a slash, and its name there. Whoever reads it gets
a copy for the time of reading: see `medssl.sources.local`. A tar archive that is compressed as a
whole has to be read from its start for each file, and is refused.
"""

import os
import re
import tarfile
import zipfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

from medssl.errors import Reason, TooLargeError, UnreadableFileError
from medssl.sources.reading import reading

FILE_BUDGET = 2 << 30  # bytes of one file, unpacked
_MOST_FILES = 2_000_000  # in one archive
_CHUNK = 1 << 20
_SUFFIXES = (".zip", ".tar")
_WHOLE = re.compile(r"\.(tar\.\w+|tgz|tbz2?|txz|7z|rar)$", re.IGNORECASE)
_INSIDE = re.compile(r"\.(?:zip|tar)(?=/)", re.IGNORECASE)
_ENCRYPTED = 1  # bit of a zip entry's flags


class Entry(NamedTuple):
    """What an archive, or a remote folder, says of a file in it.

    Attributes:
        name: With "/" between folders.
        size: Bytes, unpacked.
        mark: Changes with the content: a checksum, or the time of change.
        problem: Why it is not opened, or None.
    """

    name: str
    size: int
    mark: str
    problem: tuple[Reason, str] | None = None


def is_archive(path: Path) -> bool:
    """Tell whether a file is a zip or tar archive, by its name and its content.

    By the name, since documents and NumPy archives are zip files too.
    """
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        return False
    try:
        return zipfile.is_zipfile(path) if suffix == ".zip" else tarfile.is_tarfile(path)
    except OSError:
        return False


def is_packed_whole(path: Path) -> bool:
    """Tell by its name whether a file is an archive of a kind that is refused."""
    return _WHOLE.search(path.name) is not None


def is_archive_name(name: str) -> bool:
    """Tell whether a file is called like an archive, of whichever kind."""
    return name.lower().endswith(_SUFFIXES) or _WHOLE.search(name) is not None


def list_archive(path: Path) -> list[Entry]:
    """List the files in an archive; of several with one name, the last.

    Folders, links and what lies in hidden folders are passed over.

    Raises:
        IngestError: It is damaged, or holds too many.
    """
    with reading(path, "archive"):
        found = _Zip(path).entries if path.suffix.lower() == ".zip" else _Tar(path).entries
        entries = {entry.name: _checked(entry) for entry in found if not is_hidden(entry.name)}
    return list(entries.values())


def find_archive(path: Path) -> tuple[Path, str] | None:
    """Return the archive that a file is in, and its name there; None if it is in none."""
    text = path.as_posix()
    for found in _INSIDE.finditer(text):
        archive = Path(text[: found.end()])
        if archive.is_file():
            return archive, text[found.end() + 1 :]
    return None


def unpack(archive: Path, name: str, target: Path) -> None:
    """Write a file in an archive to `target`.

    Raises:
        UnreadableFileError: The archive, or the file in it, is damaged or gone.
        TooLargeError: Unpacked, it is larger than `FILE_BUDGET`.
    """
    with reading(archive / name, "file in an archive"), target.open("wb") as file:
        status = archive.stat()
        opened = _open(os.getpid(), archive, status.st_mtime_ns, status.st_size)
        opened.extract(name, file)


def in_archive(path: str) -> bool:
    """Tell whether a path may be that of a file in an archive."""
    return _INSIDE.search(path) is not None


def is_hidden(name: str) -> bool:
    """Tell whether a name leads through a hidden folder."""
    return any(part.startswith(".") and part not in (".", "..") for part in name.split("/")[:-1])


def is_plain_name(name: str) -> bool:
    """Tell whether a name can be that of a file below a folder, and of one only."""
    return not any(part in ("", ".", "..") for part in name.split("/")) and "\\" not in name


class _Zip:
    """An open zip archive; it may be read by several threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = zipfile.ZipFile(path)
        _require_few(path, len(self._file.filelist))

    @property
    def entries(self) -> Iterator[Entry]:
        for info in self._file.filelist:
            if not info.is_dir():
                is_locked = info.flag_bits & _ENCRYPTED
                problem = (Reason.UNSUPPORTED, "encrypted") if is_locked else None
                yield Entry(info.filename, info.file_size, f"{info.CRC:08x}", problem)

    def extract(self, name: str, target: BinaryIO) -> None:
        try:
            info = self._file.getinfo(name)
        except KeyError as error:
            raise _gone(self._path) from error
        _require_size(self._path, info.file_size)
        with self._file.open(info) as source:  # ends at the size, and checks the sum
            while part := source.read(_CHUNK):
                target.write(part)


class _Tar:
    """An open tar archive, of which the places of all files are known."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle = os.open(path, os.O_RDONLY)
        self._places: dict[str, tuple[int, int, int]] = {}
        with tarfile.open(path, "r:") as file:
            for count, info in enumerate(file):
                _require_few(path, count)
                if info.isreg() and not info.issparse():
                    name = info.name.removeprefix("./")  # as tar writes what lies in "."
                    self._places[name] = (info.offset_data, info.size, int(info.mtime))

    def __del__(self) -> None:
        os.close(self._handle)

    @property
    def entries(self) -> Iterator[Entry]:
        for name, (_, size, changed) in self._places.items():
            yield Entry(name, size, str(changed))

    def extract(self, name: str, target: BinaryIO) -> None:
        if name not in self._places:
            raise _gone(self._path)
        at, left, _ = self._places[name]
        _require_size(self._path, left)
        while left:
            part = os.pread(self._handle, min(left, _CHUNK), at)
            if not part:
                raise EOFError
            target.write(part)
            at, left = at + len(part), left - len(part)


@lru_cache(maxsize=8)
def _open(process: int, archive: Path, changed_ns: int, size: int) -> _Zip | _Tar:  # noqa: ARG001
    """Keep the last ones open; a forked process opens its own, a changed archive is opened anew."""
    return _Zip(archive) if archive.suffix.lower() == ".zip" else _Tar(archive)


def _checked(entry: Entry) -> Entry:
    if entry.size > FILE_BUDGET:
        detail = f"unpacked more than {FILE_BUDGET >> 30} GiB"
        return entry._replace(problem=(Reason.TOO_LARGE, detail))
    if not is_plain_name(entry.name):
        return entry._replace(problem=(Reason.UNSUPPORTED, "its name in the archive is no path"))
    return entry


def _require_few(path: Path, count: int) -> None:
    if count > _MOST_FILES:
        raise TooLargeError(path, Reason.TOO_LARGE, f"more than {_MOST_FILES:,} files")


def _require_size(path: Path, size: int) -> None:
    if size > FILE_BUDGET:
        raise TooLargeError(path, Reason.TOO_LARGE, f"unpacked more than {FILE_BUDGET >> 30} GiB")


def _gone(path: Path) -> UnreadableFileError:
    return UnreadableFileError(path, Reason.VANISHED, "no such file in the archive")
