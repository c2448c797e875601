"""Stamps: what changes when a file does, or another that it is read with."""

import os
from pathlib import Path

from medssl.identity import SiteKey
from medssl.sources.data_beside import data_beside
from medssl.sources.mirax_files import SUFFIX, is_mirax


def stamp_of(place: str, status: os.stat_result, key: SiteKey) -> str:
    """Return the keyed hash of a file's size and time of change.

    That of a MIRAX slide changes with the files in its folder too, and that of the header of a
    volume with the file beside it that holds the data.

    Args:
        place: Absolute path.
        status: Of the file.
        key: Of the site.
    """
    own = _own_stamp(status, key)
    parts = _in_folder(place[: -len(SUFFIX)]) if is_mirax(place) else _beside(place)
    if not parts:
        return own
    stamps = [f"{name}\n{_own_stamp(part, key)}" for name, part in sorted(parts.items())]
    return key.hash("stamp", own, *stamps)


def _own_stamp(status: os.stat_result, key: SiteKey) -> str:
    return key.hash("stamp", str(status.st_size), str(status.st_mtime_ns))


def _in_folder(folder: str) -> dict[str, os.stat_result]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.stat(follow_symlinks=False) for entry in entries}
    except OSError:
        return {}  # the reader says what is wrong with the folder


def _beside(place: str) -> dict[str, os.stat_result]:
    found = {}
    for path in data_beside(place):
        try:
            found[path.rpartition("/")[2]] = Path(path).stat(follow_symlinks=False)
        except (OSError, ValueError):  # ValueError: a zero byte in the name
            continue  # the reader says that it is not there
    return found
