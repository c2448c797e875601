"""Results as a person reads them in a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any


def results_text(rows: Sequence[Sequence[str]], metrics: Mapping[str, Any]) -> str:
    """Return rows in columns, the head first, and what has to be known about the numbers.

    Args:
        rows: Of one length.
        metrics: The content of metrics.json.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    notes = [metrics["interval"]["note"], metrics["leakage"]["note"]]
    return "\n".join([*lines, *notes, *metrics["notes"]])
