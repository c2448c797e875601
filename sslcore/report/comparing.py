"""Measured numbers and differences in tables and tiles."""

from sslcore.report import writing
from sslcore.report.measures import Measure
from sslcore.report.parts import Cell, VerdictTone


def number_cell(measure: Measure | None, *, strong: bool) -> Cell:
    """Return a value with its interval below it, or a dash."""
    if not measure:
        return Cell(writing.DASH)
    return Cell(writing.decimals(measure.value), writing.interval(measure), strong=strong)


def difference_cell(measure: Measure | None) -> Cell:
    """Return a difference, strong where its interval leaves out 0, or a dash."""
    if not measure:
        return Cell(writing.DASH)
    low, high = measure.low, measure.high
    clear = low is not None and high is not None and (low > 0 or high < 0)
    return Cell(
        writing.signed(measure.value), writing.interval(measure, with_sign=True), strong=clear
    )


def verdict(difference: Measure | None, rival: str) -> tuple[str, VerdictTone]:
    """Return what a difference to `rival` says, and its tone; higher is better."""
    if not difference or difference.low is None or difference.high is None:
        return "", "neutral"
    text = writing.signed(difference.value)
    if difference.low > 0:
        return f"{text}, better than {rival}", "good"
    if difference.high < 0:
        return f"{text}, worse than {rival}", "bad"
    return f"{text}, no clear difference", "neutral"
