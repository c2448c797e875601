"""Folders in object stores, such as `s3://bucket/scans`: listed once, files fetched one by one.

A remote folder is a path whose first part is a protocol: `Path("s3://bucket/scans")` is joined with
what lies in it as any folder is, and a manifest may start from it. What it is made of is reached
through fsspec. Address and secret of a store come from where the package of its protocol looks for
them, the environment and its configuration files; nothing of them passes through here, and no
message quotes what a store or a package says.
"""

import errno
import importlib.util
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from medssl.errors import DataError, IngestError, Reason, TooLargeError, UnreadableFileError
from medssl.manifest_paths import as_written, is_remote
from medssl.sources.archives import FILE_BUDGET, Entry, is_archive_name, is_hidden, is_plain_name
from sslcore.errors import ConfigError

PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs"}  # by protocol
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]+")
_QUERY = re.compile(r"[?#]")
_MARKS = ("ETag", "etag", "LastModified", "last_modified", "updated", "mtime")
_ATTEMPTS = 3  # beside those of the package itself
_PAUSE = 0.5  # seconds before the second attempt; twice as long before the third
_GIVE_UP = 8  # files in a row
_TOO_LARGE = f"more than {FILE_BUDGET >> 30} GiB"
_NO_PATH = "its name in the store is no path"

ResultT = TypeVar("ResultT")


class _UnansweredError(Exception):
    """What was asked for did not come, several times; the message is the kind of the last error."""


class _Outages:
    """Counts the files in a row that did not come to this process."""

    count = 0


def require_usable(folder: Path) -> None:
    """Check the URL of a remote folder before anything is done with it; let local paths pass.

    Nothing is contacted. The message does not repeat the URL, which may hold a password.

    Raises:
        ConfigError: An unknown protocol, a package that is missing, or more than a folder.
    """
    if not is_remote(folder):
        return
    protocol, *parts = folder.parts
    protocol = protocol.removesuffix(":")
    if protocol not in PACKAGES:
        known = ", ".join(f"{name}://" for name in PACKAGES)
        raise ConfigError(
            f"{protocol}:// cannot be read; known: {known}. A local folder of such a name is given"
            " with its full path"
        )
    odd = any(part == ".." or _QUERY.search(part) for part in parts)
    if odd or not parts or not _BUCKET.fullmatch(parts[0]):
        raise ConfigError(
            f"expected {protocol}://BUCKET/FOLDER and nothing more. User, password, key and"
            " signature do not belong there, since manifests keep it: give them as"
            f" {PACKAGES[protocol]} finds them, in the environment or its configuration files"
        )
    if importlib.util.find_spec(PACKAGES[protocol]) is None:
        way_out = "-c constraints.txt -e '.[remote]'" if protocol == "s3" else PACKAGES[protocol]
        raise ConfigError(
            f"{protocol}:// needs the package {PACKAGES[protocol]}; install it with pip install"
            f" {way_out}"
        )


def list_remote(folder: Path) -> list[Entry]:
    """List the files in a remote folder, at any depth, in the order of their names.

    Markers of empty folders, and what lies in hidden folders, are passed over.

    Raises:
        ConfigError: As `require_usable`.
        DataError: The folder cannot be reached or listed, is empty, or is a file.
    """
    require_usable(folder)
    system, name = _open(folder)
    try:
        found: dict[str, dict[str, Any]] = _repeated(lambda: system.find(name, detail=True))
    except FileNotFoundError:
        raise DataError(f"{as_written(folder)} does not exist") from None
    except PermissionError:
        detail = "may not be listed with the credentials that were found"
        raise DataError(f"{as_written(folder)} {detail}") from None
    except (OSError, _UnansweredError) as error:
        raise DataError(
            f"{as_written(folder)} cannot be listed: {_kind(error)}; check address and credentials"
            " in the environment, then the network"
        ) from None
    if name in found:
        raise DataError(f"{as_written(folder)} is a file; give the folder that it is in")
    inside = {key.removeprefix(f"{name}/"): facts for key, facts in sorted(found.items())}
    entries = [
        _entry(key, facts)
        for key, facts in inside.items()
        if not is_hidden(key) and (facts["size"] or not key.endswith("/"))
    ]
    if not entries:
        raise DataError(f"{as_written(folder)}: no files in it")
    return entries


def describe_remote(path: Path) -> Entry | None:
    """Describe one file as `list_remote` does; None if it is not there, or the store does not say.

    Raises:
        ConfigError: As `require_usable`.
    """
    system, name = _open(path)
    try:
        return _entry(name, _repeated(lambda: system.info(name)))
    except (OSError, _UnansweredError):
        return None


def fetch(path: Path, target: Path) -> None:
    """Write a file of a remote folder to `target`.

    Raises:
        UnreadableFileError: It is gone, may not be read, or did not come.
        TooLargeError: It is larger than `FILE_BUDGET`.
        DataError: It did not come, nor did those before it: the store does not answer any more.
        ConfigError: As `require_usable`.
    """
    system, name = _open(path)
    if ".." in path.parts:
        raise UnreadableFileError(path, Reason.UNSUPPORTED, _NO_PATH)
    earlier, _Outages.count = _Outages.count, 0
    try:
        _repeated(lambda: system.get_file(name, str(target), callback=_bound(path)))
    except FileNotFoundError:
        raise UnreadableFileError(path, Reason.VANISHED, "no such file") from None
    except PermissionError:
        raise UnreadableFileError(path, Reason.NO_PERMISSION, "may not be read") from None
    except OSError as error:
        raise UnreadableFileError(path, Reason.OUT_OF_RESOURCES, _kind(error)) from None
    except _UnansweredError as error:
        _Outages.count = earlier + 1
        raise _not_fetched(path, _kind(error)) from None


def _open(path: Path) -> tuple[Any, str]:
    """Return the file system of fsspec, and the name there."""
    protocol, *parts = path.parts
    require_usable(Path(protocol, *parts[:1]))
    import fsspec  # noqa: PLC0415, who reads local files needs it not

    return fsspec.filesystem(protocol.removesuffix(":"), use_listings_cache=False), "/".join(parts)


def _repeated(call: Callable[[], ResultT]) -> ResultT:
    """Call again what a network may have broken, and not what stays as it is."""
    kind = ""
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_PAUSE * 2 ** (attempt - 1))
        try:
            return call()
        except (FileNotFoundError, PermissionError, IngestError):
            raise
        except Exception as error:  # each protocol has errors of packages of its own
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            kind = type(error).__name__
    raise _UnansweredError(kind)


def _kind(error: Exception) -> str:
    """Say what kind of error it is; its own words could quote a key or a secret."""
    if isinstance(error, OSError):
        return "no space for a temporary copy"
    return f"{error} in {_ATTEMPTS} attempts"


def _not_fetched(path: Path, kind: str) -> UnreadableFileError | DataError:
    if _Outages.count < _GIVE_UP:
        return UnreadableFileError(path, Reason.NOT_FETCHED, kind)
    place = as_written(Path(*path.parts[:2]))
    return DataError(
        f"{place}: {_GIVE_UP} files in a row could not be fetched, the last for {kind}; call the"
        " command again when the store answers"
    )


def _bound(path: Path) -> Any:
    """Return a callback of fsspec that ends a transfer which becomes too large."""
    from fsspec.callbacks import Callback  # noqa: PLC0415, as above

    def require_size(size: int | None, value: int, **_: object) -> None:
        if max(size or 0, value) > FILE_BUDGET:
            raise TooLargeError(path, Reason.TOO_LARGE, _TOO_LARGE)

    return Callback(hooks={"size": require_size})


def _entry(key: str, facts: dict[str, Any]) -> Entry:
    # a store that tells neither: never taken for unchanged
    mark = next((facts[name] for name in _MARKS if facts.get(name)), time.time_ns())
    entry = Entry(key, facts["size"], str(mark))
    if not is_plain_name(key) or "?versionId=" in key:  # which s3fs would cut off
        return entry._replace(problem=(Reason.UNSUPPORTED, _NO_PATH))
    if is_archive_name(key):
        detail = "an archive in a remote folder; unpack it there, or copy it here"
        return entry._replace(problem=(Reason.UNSUPPORTED, detail))
    if entry.size > FILE_BUDGET:
        return entry._replace(problem=(Reason.TOO_LARGE, _TOO_LARGE))
    return entry
