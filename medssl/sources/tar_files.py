"""The files of a tar archive and where their bytes lie, read strictly.

The standard library ends at the first damaged header without a word, passes over links and sparse
files likewise, and takes whatever memory a header asks for. Here each of them is told. The headers
themselves are the library's to read.
"""

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from medssl.errors import Reason

_BLOCK = tarfile.BLOCKSIZE
_MOST_HEADER = 1 << 20  # bytes of a long name, or of a list of attributes
_MOST_DIGITS = 20
_CHUNK = 1 << 20
_NAMES = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_LISTS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_FOLDERS = (tarfile.DIRTYPE, b"D", b"V")  # and what GNU tar says of folders and of the archive
_WITHOUT_BYTES = (
    tarfile.LNKTYPE,
    tarfile.SYMTYPE,
    tarfile.DIRTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.FIFOTYPE,
)
_MORE_IN_HEADER, _MORE_IN_BLOCK = 482, 504  # set if a block of a sparse map follows


class TarDamageError(Exception):
    """The headers cannot be followed any further; says why, without a value of the archive."""


@dataclass(frozen=True, slots=True)
class TarFile:
    """A file in the archive.

    Attributes:
        name: As it stands there.
        at: Where its bytes begin.
        size: Their number.
        changed: Seconds since 1970.
        link: For a hard link the name of the file that holds the bytes.
        problem: Why it is not read, or None.
    """

    name: str
    at: int
    size: int
    changed: int
    link: str | None = None
    problem: tuple[Reason, str] | None = None


def is_tar(path: Path) -> bool:
    """Tell whether a file begins as a tar archive that is not compressed.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        block = file.read(_BLOCK)
    try:
        _decode(block)
    except tarfile.HeaderError:
        return False
    return True


class TarWalk:
    """Goes through the headers of one archive, from its start."""

    def __init__(self, handle: int) -> None:
        """Take the handle of the open archive."""
        self._handle = handle
        self._length = os.fstat(handle).st_size
        self._at = 0
        self._shared: dict[str, str] = {}  # attributes of all files that follow
        self._own: dict[str, str] = {}  # of the next one; its long name is "path", too

    def files(self) -> Iterator[TarFile]:
        """Yield the files in the order of the archive, folders left out.

        Raises:
            TarDamageError: After the last file that could be found, if that is not the end.
        """
        while (info := self._header()) is not None:
            if info.type in _NAMES or info.type in _LISTS:
                self._note(info.type, self._take(info.size))
                continue
            told = self._shared | self._own
            self._own = {}
            if info.type == tarfile.GNUTYPE_SPARSE:
                self._pass_sparse_map()
            size = 0 if info.type in _WITHOUT_BYTES else _number(told.get("size"), info.size)
            if info.type not in _FOLDERS:
                yield _described(info, told, self._at, size)
            self._at += _padded(size)

    def _header(self) -> tarfile.TarInfo | None:
        if self._at >= self._length:
            raise TarDamageError("ends without its end mark")
        block = os.pread(self._handle, _BLOCK, self._at)
        try:
            info = _decode(block)
        except tarfile.HeaderError as error:
            if len(block) == _BLOCK and not any(block):
                self._require_end()
                return None
            raise TarDamageError("has a damaged header") from error
        if info.size < 0:
            raise TarDamageError("has a damaged header")
        self._at += _BLOCK
        return info

    def _take(self, size: int) -> bytes:
        if size > _MOST_HEADER:
            raise TarDamageError(f"has a header of more than {_MOST_HEADER >> 20} MiB")
        told = os.pread(self._handle, size, self._at)
        if len(told) < size:
            raise TarDamageError("ends in a header")
        self._at += _padded(size)
        return told

    def _note(self, kind: bytes, told: bytes) -> None:
        if kind == tarfile.GNUTYPE_LONGNAME:
            self._own["path"] = told.split(b"\0")[0].decode("utf-8", "surrogateescape")
        elif kind == tarfile.GNUTYPE_LONGLINK:
            self._own["linkpath"] = told.split(b"\0")[0].decode("utf-8", "surrogateescape")
        elif kind == tarfile.XGLTYPE:
            self._shared |= _attributes(told)
        elif kind in _LISTS:
            self._own |= _attributes(told)

    def _pass_sparse_map(self) -> None:
        flag = os.pread(self._handle, 1, self._at - _BLOCK + _MORE_IN_HEADER)
        while flag != b"\0":
            flag = os.pread(self._handle, 1, self._at + _MORE_IN_BLOCK)
            if not flag:
                raise TarDamageError("ends in a header")
            self._at += _BLOCK

    def _require_end(self) -> None:
        for at in range(self._at, self._length, _CHUNK):
            if os.pread(self._handle, _CHUNK, at).strip(b"\0"):
                raise TarDamageError("goes on after its end mark, as two archives in one file do")


def _decode(block: bytes) -> tarfile.TarInfo:
    return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")


def _described(info: tarfile.TarInfo, told: dict[str, str], at: int, size: int) -> TarFile:
    name = told.get("GNU.sparse.name") or told.get("path") or info.name
    problem, link = None, None
    if info.type == tarfile.LNKTYPE:
        link = told.get("linkpath") or info.linkname
    elif info.type == tarfile.SYMTYPE:
        problem = (Reason.UNSUPPORTED, "a link in an archive; pack the file itself")
    elif info.type == tarfile.GNUTYPE_SPARSE or any(key.startswith("GNU.sparse") for key in told):
        problem = (Reason.UNSUPPORTED, "packed as a sparse file; pack it without --sparse")
    elif info.type not in tarfile.REGULAR_TYPES:
        problem = (Reason.NOT_AN_IMAGE, "a pipe, device or part of a file")
    return TarFile(name, at, size, int(info.mtime), link, problem)


def _attributes(told: bytes) -> dict[str, str]:
    """Read `length key=value` lines; the length counts the whole line."""
    found: dict[str, str] = {}
    while told:
        count = _number(told[:20].split(b" ")[0].decode("ascii", "replace"), 0)
        line, told = told[:count], told[count:]
        key, equal, value = line.partition(b" ")[2].removesuffix(b"\n").partition(b"=")
        if not equal or len(line) != count:
            raise TarDamageError("has a damaged header")
        found[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
    return found


def _number(text: str | None, default: int) -> int:
    if text is None:
        return default
    if len(text) > _MOST_DIGITS or not text.isascii() or not text.isdigit():
        raise TarDamageError("has a damaged header")
    return int(text)


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
