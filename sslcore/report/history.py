"""Curves over the steps of a training, from its logs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from sslcore.plots import DASHES, SERIES, draw, legend_below, marker, series, to_svg
from sslcore.report.parts import Drawing
from sslcore.report.writing import MINUS

FloatArray = NDArray[np.float64]
Points = tuple[Sequence[int], Sequence[float]]

_RAW_ALPHA = 0.28


def history_curve(
    steps: Sequence[int],
    values: Sequence[float],
    *,
    title: str,
    smooth: bool = False,
    share: bool = False,
) -> Figure:
    """Draw one quantity over the steps of training, small.

    Args:
        steps: Rising.
        values: At those steps.
        title: Above the figure.
        smooth: Draw the raw values pale, and a running mean over them.
        share: Values are parts of one; the axis shows per cent from 0 to 100.
    """
    x, y = np.asarray(steps), np.asarray(values, dtype=float)

    def paint(axes: Axes) -> None:
        tone = SERIES[0].light
        if smooth and len(y) > 20:
            axes.plot(*_thin(x, y), color=tone, lw=1, alpha=_RAW_ALPHA)
            axes.plot(*_thin(x, _running_mean(y)), color=tone, lw=2)
        else:
            dots = "o" if len(y) <= 30 else ""
            axes.plot(*_thin(x, y), color=tone, lw=1.8, marker=dots, ms=3.5)
        _label(axes, title)
        if share:
            axes.set_ylim(-0.02, 1.02)
            axes.set_yticks((0, 0.25, 0.5, 0.75, 1), ("0 %", "", "50 %", "", "100 %"))
        else:
            axes.yaxis.set_major_formatter(FuncFormatter(compact))

    return draw(paint, width=290, height=200)


def history_lines(lines: Mapping[str, Points], *, title: str) -> Figure:
    """Draw quantities of one kind over the steps of training, small.

    Args:
        lines: Name in the legend to steps and values.
        title: Above the figure.
    """

    def paint(axes: Axes) -> None:
        for index, (name, (steps, values)) in enumerate(lines.items()):
            x, y = _thin(np.asarray(steps), np.asarray(values, dtype=float))
            dots = marker(index) if len(y) <= 30 else ""
            tone, dashes = series(index).light, DASHES[index % len(DASHES)]
            axes.plot(x, y, color=tone, lw=1.8, ls=dashes, marker=dots, ms=3.5, label=name)
        _label(axes, title)
        axes.yaxis.set_major_formatter(FuncFormatter(compact))
        legend_below(axes)

    return draw(paint, width=290, height=226)


def history_drawings(
    records: list[dict[str, Any]],
    names: Mapping[str, tuple[str, str]],
    prefix: str,
    *,
    smooth: frozenset[str] = frozenset(),
    share: frozenset[str] = frozenset(),
) -> list[Drawing]:
    """Draw what the records hold of `names`.

    Args:
        records: Of a log, each with `step`.
        names: Key to title and caption.
        prefix: Of the names of the figures, unique on the page.
        smooth: Keys drawn with a running mean.
        share: Keys whose values are parts of one.
    """
    drawings = []
    for name, (title, caption) in names.items():
        steps, values = history_points(records, name)
        if not values:
            continue
        figure = history_curve(
            steps, values, title=title, smooth=name in smooth, share=name in share
        )
        alt = f"{title} over the steps: from {values[0]:.4g} to {values[-1]:.4g}."
        drawings.append(Drawing(to_svg(figure, name=f"{prefix}-{name}", alt=alt), caption))
    return drawings


def history_points(records: list[dict[str, Any]], name: str) -> tuple[list[int], list[float]]:
    """Return the steps at which a number called `name` was written down, and the numbers."""
    points = [(item["step"], _flat(item).get(name)) for item in records]
    kept = [(step, float(value)) for step, value in points if isinstance(value, int | float)]
    return [step for step, _ in kept], [value for _, value in kept]


def term_names(records: list[dict[str, Any]], known: frozenset[str], *, most: int) -> list[str]:
    """Return the first `most` keys of the first and last record that are not in `known`."""
    names = dict.fromkeys(name for record in (records[0], records[-1]) for name in _flat(record))
    return [name for name in names if name not in known][:most]


def compact(value: float, _position: int = 0) -> str:
    """Write the number of a tick: four digits, or all of a large one."""
    if abs(value) >= 1e4:
        return f"{value:,.0f}".replace("-", MINUS)
    text = f"{value:,.4g}" if abs(value) >= 1e-5 or value == 0 else f"{value:.0e}"
    return text.replace("-", MINUS)


def _label(axes: Axes, title: str) -> None:
    axes.set_title(title)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.grid(visible=False, axis="x")


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    nested = record.get("terms")
    return {**record, **nested} if isinstance(nested, dict) else record


def _thin(x: NDArray[Any], y: FloatArray, most: int = 600) -> tuple[NDArray[Any], FloatArray]:
    """Keep at most about `most` points, the last one among them."""
    if len(x) <= most:
        return x, y
    kept = np.unique(np.linspace(0, len(x) - 1, most).astype(int))
    return x[kept], y[kept]


def _running_mean(values: FloatArray) -> FloatArray:
    """Average over about a thirtieth of the run, on both sides as far as there are values."""
    reach = max(1, len(values) // 60)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    start = np.maximum(np.arange(len(values)) - reach, 0)
    stop = np.minimum(np.arange(len(values)) + reach + 1, len(values))
    return np.asarray((sums[stop] - sums[start]) / (stop - start))
