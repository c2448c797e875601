"""What a scan keeps of one file, and what says whether it would come out the same again."""

from dataclasses import dataclass
from typing import Any

from medssl.scanning.walk import SetAside

READER_VERSION = "13"  # raised when rows of unchanged files, volumes too, may come out differently

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The rows of one file, or why there are none."""

    path: str
    rows: list[Row]
    aside: SetAside | None = None
