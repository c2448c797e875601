"""How many cores this process may use."""

import os


def usable_cores() -> int:
    """Count the cores that the process may run on, or all where the system does not tell."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
