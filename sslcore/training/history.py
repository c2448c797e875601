"""A log with one JSON object per line, which a resumed run continues."""

import json
import math
import os
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

from sslcore.errors import OutputError
from sslcore.files import output_errors, write_text


class History:
    """Appends to the log of one run. Every line holds `step`, in rising order."""

    def __init__(self, path: Path) -> None:
        """Use the log at `path`, which need not exist yet."""
        self.path = path

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one line at once, so that a killed process loses none. NaN and infinity are null.

        Raises:
            OutputError: The disk is full, or the place cannot be written.
        """
        line = json.dumps(_finite(record), allow_nan=False) + "\n"
        with output_errors(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(line)

    def sync(self) -> None:
        """Bring all lines to the disk; called before a checkpoint that relies on them."""
        if self.path.exists():
            with output_errors(self.path), self.path.open("a") as file:
                os.fsync(file.fileno())

    def truncate_after(self, step: int) -> None:
        """Drop the lines of later steps, and from the first line on that a crash damaged."""
        if self.path.exists():
            records = map(_parse, self.path.read_text("utf-8", errors="replace").split("\n"))
            whole = takewhile(lambda record: record is not None, records)
            kept = [record for record in whole if record and record["step"] <= step]
            write_text(self.path, "".join(json.dumps(record) + "\n" for record in kept))


def read_history(path: Path) -> list[dict[str, Any]]:
    """Read all whole lines; a log that does not exist has none.

    Raises:
        OutputError: A line other than the last is not a JSON object with a step.
    """
    if not path.exists():
        return []
    records = []
    *lines, _cut_off = path.read_text("utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines, start=1):
        record = _parse(line)
        if record is None:
            raise OutputError(f"{path}, line {number}: not a line of a training log")
        records.append(record)
    return records


def _parse(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    good = isinstance(record, dict) and isinstance(record.get("step"), int)
    return record if good else None


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
