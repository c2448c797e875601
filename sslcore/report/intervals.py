"""Values with their intervals: one row each, or as lines over places."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from sslcore.plots import DASHES, MUTED, draw, legend_below, marker, series
from sslcore.report.measures import Measure

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class IntervalRow:
    """One row.

    Attributes:
        name: On the left.
        measure: With a value.
        text: Beside the bar.
        tone: Number of the series whose colour and marker it has.
    """

    name: str
    measure: Measure
    text: str
    tone: int


@dataclass(frozen=True, slots=True)
class IntervalLine:
    """One line over places.

    Attributes:
        name: In the legend.
        measures: At each place; None where nothing was measured.
        tone: Number of the series whose colour and marker it has.
        is_main: Whether it is the one that the figure is about.
    """

    name: str
    measures: Sequence[Measure | None]
    tone: int
    is_main: bool = False


def interval_lines(
    lines: Sequence[IntervalLine],
    ticks: Sequence[str],
    *,
    title: str,
    width: float = 380,
    height: float = 335,
) -> Figure:
    """Draw lines over named places, with their intervals.

    Args:
        lines: Those without any measure are left out.
        ticks: Names of the places, which follow each other.
        title: Above the figure.
        width: px.
        height: px.
    """

    def paint(axes: Axes) -> None:
        for place, line in enumerate(lines):
            points = [(at, item) for at, item in enumerate(line.measures) if item]
            if not points:
                continue
            x = np.array([at for at, _ in points]) + (place - (len(lines) - 1) / 2) * 0.055
            y = np.array([item.value for _, item in points], dtype=float)
            low, high = interval_ends([item for _, item in points], y)
            tone = series(line.tone).light
            axes.vlines(x, low, high, color=tone, lw=1.6, alpha=0.55, zorder=3)
            axes.plot(
                *(x, y),
                color=tone,
                marker=marker(line.tone),
                lw=2.4 if line.is_main else 1.5,
                ls="-" if line.is_main else DASHES[1 + place % 3],
                label=line.name,
                zorder=5 if line.is_main else 4,
            )
        axes.set_title(title)
        axes.set_xticks(range(len(ticks)), ticks)
        axes.set_xlim(-0.35, len(ticks) - 0.65)
        axes.grid(visible=False, axis="x")
        axes.yaxis.set_major_locator(MaxNLocator(5))
        legend_below(axes)

    return draw(paint, width=width, height=height)


def interval_rows(
    rows: Sequence[IntervalRow], *, title: str, from_zero: bool, width: float = 380
) -> Figure:
    """Draw values as dots with a bar for the interval, the first row on top.

    Args:
        rows: At least one.
        title: Above the figure.
        from_zero: Draw a line at 0 and keep it in sight, as for differences.
        width: px.
    """

    def paint(axes: Axes) -> None:
        values = np.array([row.measure.value for row in rows], dtype=float)
        low, high = interval_ends([row.measure for row in rows], values)
        heights = np.arange(len(rows))[::-1]
        if from_zero:
            axes.axvline(0, color=MUTED.light, lw=1.2)
        for row, height, value, start, stop in zip(rows, heights, values, low, high, strict=True):
            tone = series(row.tone).light
            axes.hlines(height, start, stop, color=tone, lw=2.4)
            axes.plot(value, height, ls="none", marker=marker(row.tone), ms=8, color=tone)
            axes.annotate(
                row.text,
                (stop, height),
                xytext=(10, 0),
                textcoords="offset points",
                va="center",
                weight="bold",
            )
        axes.set_yticks(heights, [row.name for row in rows])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_title(title)
        shown = [0.0] if from_zero else []
        least, most = min([*low, *shown]), max([*high, *shown])
        span = (most - least) or 1.0
        axes.set_xlim(least - 0.06 * span, most + 0.24 * span)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.grid(visible=False, axis="y")

    return draw(paint, width=width, height=92 + (50 if from_zero else 34) * len(rows))


def interval_ends(measures: Sequence[Measure], values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return lower and upper ends; an interval that is missing has no length."""
    low = [item.low if item.low is not None else np.nan for item in measures]
    high = [item.high if item.high is not None else np.nan for item in measures]
    return (
        np.where(np.isnan(low), values, np.array(low, dtype=float)),
        np.where(np.isnan(high), values, np.array(high, dtype=float)),
    )
