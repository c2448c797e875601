"""Files inside zip and tar archives, read one by one, without unpacking the archive.

A file in an archive has the path of the archive, a slash, and its name there. Whoever reads it gets
a copy for the time of reading: see `medssl.sources.local`. A tar archive that is compressed as a
whole has to be read from its start for each file, and is refused.
"""

import os
import re
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

from medssl.errors import Reason, TooLargeError, UnreadableFileError, UnsupportedImageError
from medssl.sources.reading import reading
from medssl.sources.tar_files import TarDamageError, TarFile, TarWalk, is_tar

FILE_BUDGET = 2 << 30  # bytes of one file, unpacked
_MOST_FILES = 2_000_000  # in one archive
_CHUNK = 1 << 20
_SUFFIXES = (".zip", ".tar")
_WHOLE = re.compile(r"\.(tar\.\w+|tgz|tbz2?|txz|7z|rar)$", re.IGNORECASE)
_INSIDE = re.compile(r"\.(?:zip|tar)(?=/)", re.IGNORECASE)
_FIRST_FILE = b"PK\x03\x04"
_ENCRYPTED = 1  # bit of a zip entry's flags
_MOST_PACKED = 1100  # times smaller than unpacked; deflate reaches 1032
_SMALL = 16 << 20  # bytes that may be packed to any size
_PACKED_TAR = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")  # gzip, bzip2, xz, zstd


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


class Listing(NamedTuple):
    """The files in an archive.

    Attributes:
        entries: Of several with one name, the last.
        damage: Why there may be more of them, or why there is none; None if all is well.
    """

    entries: list[Entry]
    damage: tuple[Reason, str] | None


def is_archive(path: Path) -> bool:
    """Tell whether a file is a zip or tar archive, by its name and its content.

    By the name, since documents and NumPy archives are zip files too. One that was cut short is an
    archive.
    """
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        return False
    try:
        return _is_zip(path) if suffix == ".zip" else is_tar(path)
    except OSError:
        return False


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        begins = file.read(len(_FIRST_FILE)) == _FIRST_FILE
    return begins or zipfile.is_zipfile(path)


def is_packed_whole(path: Path) -> bool:
    """Tell whether a file is an archive of a kind that is refused: by its name, or a packed tar."""
    if _WHOLE.search(path.name):
        return True
    if path.suffix.lower() != ".tar":
        return False
    try:
        with path.open("rb") as file:
            return file.read(8).startswith(_PACKED_TAR)
    except OSError:
        return False


def is_archive_name(name: str) -> bool:
    """Tell whether a file is called like an archive, of whichever kind."""
    return name.lower().endswith(_SUFFIXES) or _WHOLE.search(name) is not None


def list_archive(path: Path) -> Listing:
    """List the files in an archive.

    Folders and what lies in hidden folders are passed over.

    Raises:
        IngestError: It is damaged so that nothing in it can be trusted, or holds too many.
    """
    with reading(path, "archive"):
        archive = _Zip(path) if path.suffix.lower() == ".zip" else _Tar(path)
        entries = {
            entry.name: _checked(entry) for entry in archive.entries if not is_hidden(entry.name)
        }
    damage = archive.damage
    if not entries and not damage:
        damage = Reason.EMPTY, "an archive without files"
    return Listing(list(entries.values()), damage)


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
        try:
            self._file = zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            detail = "an archive whose list of files is not there, or damaged: it may be cut short"
            raise UnreadableFileError(path, Reason.TRUNCATED, detail) from error
        _require_few(path, len(self._file.filelist))
        if sum(info.compress_size for info in self._file.filelist) > path.stat().st_size:
            raise UnreadableFileError(path, Reason.CORRUPT, "an archive whose files overlap")

    @property
    def damage(self) -> tuple[Reason, str] | None:
        """As in `Listing`."""
        names = [info.filename for info in self._file.filelist if not info.is_dir()]
        if not (more := len(names) - len(set(names))):
            return None
        detail = f"{more} files of the names of others; of each name the last is read"
        return Reason.CORRUPT, f"an archive with {detail}"

    @property
    def entries(self) -> Iterator[Entry]:
        for info in self._file.filelist:
            if not info.is_dir():
                yield Entry(info.filename, info.file_size, f"{info.CRC:08x}", _problem_of(info))

    def extract(self, name: str, target: BinaryIO) -> None:
        try:
            info = self._file.getinfo(name)
        except KeyError as error:
            raise _gone(self._path) from error
        _require_size(self._path, info.file_size)
        if problem := _problem_of(info):
            raise UnsupportedImageError(self._path, *problem)
        with self._file.open(info) as source:  # ends at the size, and checks the sum
            while part := source.read(_CHUNK):
                target.write(part)


class _Tar:
    """An open tar archive, of which the places of all files are known.

    Attributes:
        damage: As in `Listing`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle = -1
        self._handle = os.open(path, os.O_RDONLY)
        self.damage: tuple[Reason, str] | None = None
        self._files: dict[str, TarFile] = {}
        try:
            for count, file in enumerate(TarWalk(self._handle).files()):
                _require_few(path, count)
                self._files[_plain(file.name)] = self._resolved(file)
        except TarDamageError as error:
            detail = f"an archive that {error}; {len(self._files)} files before that are listed"
            self.damage = (Reason.TRUNCATED, detail)

    def __del__(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)

    @property
    def entries(self) -> Iterator[Entry]:
        for name, file in self._files.items():
            yield Entry(name, file.size, str(file.changed), file.problem)

    def extract(self, name: str, target: BinaryIO) -> None:
        if name not in self._files:
            raise _gone(self._path)
        file = self._files[name]
        if file.problem:
            raise UnsupportedImageError(self._path, *file.problem)
        at, left = file.at, file.size
        _require_size(self._path, left)
        while left:
            part = os.pread(self._handle, min(left, _CHUNK), at)
            if not part:
                raise EOFError
            target.write(part)
            at, left = at + len(part), left - len(part)

    def _resolved(self, file: TarFile) -> TarFile:
        """Give a hard link the bytes of the file that it names."""
        if file.link is None:
            return file
        source = self._files.get(_plain(file.link))
        if source is None:
            problem = (Reason.UNSUPPORTED, "a link to what is not in the archive")
            return replace(file, problem=problem)
        return replace(source, name=file.name)


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
    if is_archive_name(entry.name):
        detail = "an archive in an archive; unpack the outer one"
        return entry._replace(problem=(Reason.UNSUPPORTED, detail))
    return entry


def _plain(name: str) -> str:
    return name.removeprefix("./")  # as tar writes what lies in "."


def _problem_of(info: zipfile.ZipInfo) -> tuple[Reason, str] | None:
    if info.flag_bits & _ENCRYPTED:
        return Reason.UNSUPPORTED, "encrypted"
    if info.file_size > max(_SMALL, _MOST_PACKED * info.compress_size):
        return Reason.TOO_LARGE, f"unpacked more than {_MOST_PACKED} times as large"
    return None


def _require_few(path: Path, count: int) -> None:
    if count > _MOST_FILES:
        raise TooLargeError(path, Reason.TOO_LARGE, f"more than {_MOST_FILES:,} files")


def _require_size(path: Path, size: int) -> None:
    if size > FILE_BUDGET:
        raise TooLargeError(path, Reason.TOO_LARGE, f"unpacked more than {FILE_BUDGET >> 30} GiB")


def _gone(path: Path) -> UnreadableFileError:
    return UnreadableFileError(path, Reason.VANISHED, "no such file in the archive")
