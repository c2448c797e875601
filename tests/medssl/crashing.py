"""Work for pools that dies. On its own, so that processes import it fast."""

import os
import signal


def die_of(bad: frozenset[int], numbers: list[int]) -> list[int]:
    """Return the numbers; on a bad one, the process is killed."""
    for number in numbers:
        if number in bad:
            os.kill(os.getpid(), signal.SIGKILL)
    return numbers


def minus(number: int) -> int:
    """Return what stands for a number that was bad."""
    return -number
