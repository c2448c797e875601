"""The files that make up a log."""

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recssl.errors import LogError

FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".txt": "text",  # delimited or adjacency: its first lines decide
    ".data": "text",
    ".dat": "text",
    ".inter": "inter",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
COMPRESSED = (".gz", ".zst")
_END = "(set|data)?"
_SPLIT = {  # words of the names of files and folders
    "train": re.compile(f"(train(ing)?|base){_END}"),
    "valid": re.compile(f"(val|valid(ation)?|dev(elopment)?){_END}"),
    "test": re.compile(f"(test(ing)?|eval(uation)?|(hold|held)(out)?){_END}"),
}


@dataclass(frozen=True)
class Source:
    """A file, as it was when the work began."""

    path: Path
    size: int
    changed_ns: int

    @property
    def suffix(self) -> str:
        """See `suffix_of`."""
        return suffix_of(self.path)

    def require_unchanged(self) -> None:
        """Raise `LogError` if the file is not what it was."""
        if _look(self.path) != self:
            raise LogError(
                f"{self.path} changed while it was read; wait until it is complete, "
                "or ingest a copy of it"
            )


def suffix_of(path: Path) -> str:
    """Return the end of the name, compression left off, lower case."""
    suffixes = [part.lower() for part in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def find_sources(logs: Sequence[Path]) -> list[Source]:
    """Expand files, folders and patterns; sorted within each of them.

    A folder stands for all files in and below it whose name ends like that of a log.

    Raises:
        LogError: Nothing is there, or a file is named twice.
    """
    paths = [path for log in logs for path in _expand(log)]
    real = [path.resolve() for path in paths]
    for number, path in enumerate(real):
        if path in real[:number]:
            raise LogError(f"{paths[number]} is named twice; its lines would count double")
    return [_look(path) for path in paths]


def _expand(log: Path) -> list[Path]:
    if log.is_file():
        return [log]
    if log.is_dir():
        files = sorted(path for path in log.rglob("*") if path.is_file())
        # what a killed run left behind is hidden
        shown = [path for path in files if not _is_hidden(path.relative_to(log))]
        logs = [path for path in shown if _look(path).suffix in FORMATS]
        # a RecBole folder holds tables of users and items beside its log
        logs = [path for path in logs if _look(path).suffix == ".inter"] or logs
        if not logs:
            raise LogError(f"{log}: no file ends in {', '.join(FORMATS)}")
        _require_no_split(log, logs)
        return logs
    matches = sorted(Path(name) for name in glob.glob(str(log), recursive=True))  # noqa: PTH207
    files = [path for path in matches if path.is_file()]
    if not files:
        raise LogError(f"{log}: no such file, folder or pattern")
    return files


def _require_no_split(folder: Path, logs: list[Path]) -> None:
    """Refuse a folder that holds the parts of a split, which joined would be split anew.

    Raises:
        LogError: Naming the parts.
    """
    shared = Path(os.path.commonpath([path.parent for path in logs]))  # tells nothing apart
    parts = {path: _part_of_split(path.relative_to(shared)) for path in logs}
    train = [path for path in logs if parts[path] == "train"]
    others = [path for path in logs if parts[path] in ("valid", "test")]
    if train and others:
        names = ", ".join(str(path.relative_to(folder)) for path in (train[:2] + others[:2]))
        raise LogError(
            f"{folder} holds parts of a split ({names}); name them: recssl ingest {train[0]}"
            f" --{parts[others[0]]} {others[0]} ..., or name each file to join them and split anew"
        )


def _part_of_split(path: Path) -> str | None:
    """Return the part that a name says, that of the file before those of its folders."""
    for name in reversed(path.parts):
        words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)  # also of camelCase
        found = {
            part
            for part, form in _SPLIT.items()
            if any(form.fullmatch(word.lower()) for word in words)
        }
        if len(found) == 1:
            return found.pop()
    return None


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _look(path: Path) -> Source:
    try:
        stat = path.stat()
    except OSError as error:
        raise LogError(f"{path}: {error.strerror or error}") from error
    return Source(path, stat.st_size, stat.st_mtime_ns)
