"""Work for pools that dies. On its own, so that processes import it fast."""

import os
import signal
import time
from pathlib import Path

from medssl.identity import SiteKey
from medssl.scanning import worker
from medssl.scanning.outcome import Outcome
from medssl.scanning.walk import Found
from medssl.sources.cut import TileWishes


def die_of(bad: frozenset[int], numbers: list[int]) -> list[int]:
    """Return the numbers; on a bad one, the process is killed."""
    for number in numbers:
        if number in bad:
            os.kill(os.getpid(), signal.SIGKILL)
    return numbers


def minus(number: int, _seconds: float) -> int:
    """Return what stands for a number that was bad."""
    return -number


def read_slowly(
    root: Path,
    key: SiteKey,
    seconds: float,
    wishes: TileWishes,
    label_tag: str | None,
    files: list[Found],
) -> list[Outcome]:
    """Read files as a scan does, with a decoder that never ends on names with `slow`."""

    def read_file(
        root: Path, file: Found, key: SiteKey, wishes: TileWishes, label_tag: str | None
    ) -> Outcome:
        if "slow" in file.path:
            time.sleep(60)
        return real(root, file, key, wishes, label_tag)

    real, worker.read_file = worker.read_file, read_file
    try:
        return worker.read_files(root, key, seconds, wishes, label_tag, files)
    finally:
        worker.read_file = real


def die_at_once() -> None:
    """Kill the process that starts."""
    os.kill(os.getpid(), signal.SIGKILL)
