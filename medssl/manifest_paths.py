"""File names in the manifest: text, whatever bytes the names on the disk are made of."""

import os
import re
from urllib.parse import quote_from_bytes, unquote_to_bytes

_ESCAPED = "percent:"


def encode_path(path: str) -> str:
    """Return a relative path as text that Parquet can hold.

    A name that is valid text stands as it is. One whose bytes are not valid UTF-8, as on old
    archives, stands as "percent:" with all its unusual bytes as %XX; so does one that begins with
    these letters itself.
    """
    if not path.startswith(_ESCAPED) and not re.search("[\ud800-\udfff]", path):
        return path
    return _ESCAPED + quote_from_bytes(os.fsencode(path))


def decode_path(text: str) -> str:
    """Undo `encode_path`."""
    if not text.startswith(_ESCAPED):
        return text
    return os.fsdecode(unquote_to_bytes(text.removeprefix(_ESCAPED)))


def path_shape(path: str) -> str:
    """Return what a path looks like, for messages: every letter an `a`, every digit a `9`.

    Folders and files of hospitals are named after people, and messages end in logs.
    """
    return re.sub(r"\d", "9", re.sub(r"[^\W\d_]", "a", path))
