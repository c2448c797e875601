"""Paths as texts: file names in the manifest, whatever bytes they are made of; remote folders."""

import os
import re
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

from sslcore.files import is_url

_ESCAPED = "percent:"
_NO_TEXT = re.compile("[\ud800-\udfff]")


def encode_path(path: str) -> str:
    """Return a relative path as text that Parquet can hold.

    A name that is valid text stands as it is. One whose bytes are not valid UTF-8, as on old
    archives, stands as "percent:" with all its unusual bytes as %XX; so does one that begins with
    these letters itself.
    """
    if not path.startswith(_ESCAPED) and (path.isascii() or not _NO_TEXT.search(path)):
        return path
    return _ESCAPED + quote_from_bytes(os.fsencode(path))


def decode_path(text: str) -> str:
    """Undo `encode_path`."""
    if not text.startswith(_ESCAPED):
        return text
    return os.fsdecode(unquote_to_bytes(text.removeprefix(_ESCAPED)))


def is_remote(path: Path) -> bool:
    """Tell whether a path is a remote folder, or a file in one: see `medssl.sources.remote`."""
    return is_url(path)


def as_written(path: Path) -> str:
    """Return a path as users write it; one that is remote has lost a slash as a `Path`."""
    return str(path).replace(":/", "://", 1) if is_remote(path) else str(path)


def absolute(path: Path) -> Path:
    """Return a path from the root of this machine, or of the store where it is."""
    return path if is_remote(path) else path.absolute()


def path_shape(path: str) -> str:
    """Return what a path looks like, for messages: every letter an `a`, every digit a `9`.

    Folders and files of hospitals are named after people, and messages end in logs.
    """
    return re.sub(r"\d", "9", re.sub(r"[^\W\d_]", "a", path))
