"""All files below a folder, without opening any but archives, whose files are listed too.

Of headers of volumes that name another file for their data, that name is read.
"""

import os
import re
import stat
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from medssl.errors import DataError, IngestError, Reason
from medssl.identity import SiteKey
from medssl.manifest_paths import decode_path, encode_path, is_remote
from medssl.scanning.stamps import stamp_of
from medssl.sources.archives import (
    Entry,
    in_archive,
    is_archive,
    is_archive_name,
    is_packed_whole,
    list_archive,
)
from medssl.sources.mirax_files import SUFFIX, is_mirax
from medssl.sources.remote import describe_remote, list_remote

_SLIDE_PART = re.compile(r"(.*)/(?:slidedat\.ini|index\.dat|data\d+\.dat)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Found:
    """A file to look into.

    Attributes:
        path: Relative to the root, as the manifest writes it.
        stamp: Keyed hash of size and time of change.
    """

    path: str
    stamp: str


@dataclass(frozen=True, slots=True)
class SetAside:
    """A row of the table of rejected files."""

    path: str
    reason: str
    detail: str
    stamp: str | None = None
    series: tuple[str, ...] = ()  # keyed hashes of those that a segmentation is of


def walk(
    root: Path, key: SiteKey, *, skip: frozenset[Path] = frozenset()
) -> tuple[list[Found], list[SetAside]]:
    """List the files below `root`, at any depth, in the order of their paths.

    Hidden folders, such as `.git` and `.snapshot`, are passed over; hidden files are not. Links to
    folders are not followed, nor links to files outside the root: both are set aside, as are
    folders that may not be read, sockets, pipes and devices.

    Args:
        root: An absolute folder, links resolved.
        key: For the stamps.
        skip: Absolute paths to leave out: what the scan itself writes.

    Raises:
        DataError: The root cannot be read.
    """
    found: list[Found] = []
    aside: list[SetAside] = []
    folders, start = [str(root)], len(str(root).rstrip(os.sep)) + 1
    own = {str(path) for path in skip}
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.path in own:
                        continue
                    relative = encode_path(entry.path[start:].replace(os.sep, "/"))
                    problem = _look(entry, root, folders)
                    if isinstance(problem, os.stat_result):
                        file = Found(relative, stamp_of(entry.path, problem, key))
                        look_into(entry.path, file, found, aside, key)
                    elif problem is not None:
                        aside.append(SetAside(relative, *problem))
        except OSError as error:
            if folder == str(root):
                raise DataError(f"{root}: cannot be read: {error.strerror}") from error
            relative = encode_path(os.path.relpath(folder, root).replace(os.sep, "/"))
            aside.append(SetAside(relative, *_failure(error, "folder")))
    return without_slide_parts(found), aside


def walk_remote(folder: Path, key: SiteKey) -> tuple[list[Found], list[SetAside]]:
    """List the files in a remote folder, as `walk` does those on a disk; archives are set aside.

    Raises:
        ConfigError: Its URL is wrong, or the package for it is missing.
        DataError: It cannot be listed.
    """
    found: list[Found] = []
    aside: list[SetAside] = []
    for entry in list_remote(folder):
        _add(entry, encode_path(entry.name), _stamp_of_entry(entry, key), found, aside)
    return without_slide_parts(found), aside


def without_slide_parts(found: list[Found]) -> list[Found]:
    """Sort, and leave out the files that a MIRAX slide has in the folder of its name."""
    slides = {file.path[: -len(SUFFIX)] for file in found if is_mirax(file.path)}
    if slides:
        paths = {file.path.lower() for file in found}
        slides = {folder for folder in slides if f"{folder}/Slidedat.ini".lower() in paths}
        found = _without_parts(found, slides)
    return sorted(found, key=lambda item: item.path)


def _without_parts(found: list[Found], slides: set[str]) -> list[Found]:
    parts = ((file, _SLIDE_PART.fullmatch(file.path)) for file in found)
    return [file for file, part in parts if part is None or part[1] not in slides]


def look_into(
    place: str | Path, file: Found, found: list[Found], aside: list[SetAside], key: SiteKey
) -> None:
    """Add a file to `found`, or the files in it if it is an archive, or to `aside` why not."""
    if not is_archive_name(str(place)):
        found.append(file)
        return
    path = Path(place)
    if is_packed_whole(path):
        detail = "an archive that is packed as a whole; unpack it, or pack it as zip"
        aside.append(SetAside(file.path, Reason.UNSUPPORTED, detail, file.stamp))
        return
    if not is_archive(path):
        found.append(file)
        return
    try:
        listing = list_archive(path)
    except IngestError as error:
        aside.append(SetAside(file.path, error.reason, error.detail, file.stamp))
        return
    if listing.damage:
        aside.append(SetAside(file.path, *listing.damage, file.stamp))
    for entry in listing.entries:
        inside = encode_path(f"{decode_path(file.path)}/{entry.name}")
        stamp = key.hash("stamp", file.stamp, str(entry.size), entry.mark)
        _add(entry, inside, stamp, found, aside)


def _add(entry: Entry, path: str, stamp: str, found: list[Found], aside: list[SetAside]) -> None:
    if entry.problem:
        aside.append(SetAside(path, *entry.problem, stamp))
    else:
        found.append(Found(path, stamp))


def current_stamp(root: Path, path: str, key: SiteKey) -> str | None:
    """Return the stamp that a scan would give a file now; None if it is not there.

    Args:
        root: Of the scan.
        path: As the manifest has it; the file may be in an archive.
        key: Of the scan.
    """
    file = root / decode_path(path)
    if is_remote(root):
        entry = describe_remote(file)
        return entry and _stamp_of_entry(entry, key)
    if in_archive(path):
        for archive in file.parents:
            if archive.is_file():
                within = encode_path(os.path.relpath(archive, root).replace(os.sep, "/"))
                stamp = _stamp_at(archive, key)
                return stamp and _stamps_within(archive, Found(within, stamp), key).get(path)
    return _stamp_at(file, key)


def _stamp_of_entry(entry: Entry, key: SiteKey) -> str:
    return key.hash("stamp", str(entry.size), entry.mark)


def _stamp_at(file: Path, key: SiteKey) -> str | None:
    try:
        return stamp_of(str(file), file.stat(), key)
    except OSError:
        return None


@lru_cache(maxsize=8)
def _stamps_within(archive: Path, file: Found, key: SiteKey) -> dict[str, str]:
    """Keep the last ones; an archive that has changed has another stamp."""
    found: list[Found] = []
    look_into(archive, file, found, [], key)
    return {each.path: each.stamp for each in found}


def _look(
    entry: os.DirEntry[str], root: Path, folders: list[str]
) -> os.stat_result | tuple[str, str] | None:
    """Return the status of a file to open, or why it is not opened; queue a folder."""
    try:
        if entry.is_symlink():
            target = Path(entry.path).resolve(strict=True)
            if not target.is_relative_to(root):
                return Reason.UNSUPPORTED, "a link that leads out of the scanned folder"
            if target.is_dir():
                return Reason.UNSUPPORTED, "a link to a folder, which is scanned where it is"
        elif entry.is_dir():
            if not entry.name.startswith("."):
                folders.append(entry.path)
            return None
        status = entry.stat()
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        return _failure(error, "link" if entry.is_symlink() else "file")
    if not stat.S_ISREG(status.st_mode):
        return Reason.NOT_AN_IMAGE, "a pipe, socket or device"
    return status


def _failure(error: Exception, what: str) -> tuple[str, str]:
    if isinstance(error, PermissionError):
        return Reason.NO_PERMISSION, f"{what} may not be read"
    return Reason.VANISHED, f"{what} leads nowhere"
