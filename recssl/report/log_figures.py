"""Figures of a log: how popular items are, how long histories are, when things happened."""

from collections.abc import Mapping
from datetime import UTC, datetime

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from sslcore.plots import DASHES, MUTED, SERIES, draw, legend_below, series
from sslcore.report.history import compact

IntArray = NDArray[np.int64]

_WIDTH, _HEIGHT = 340, 240
_MOST_POINTS = 400
_BINS = 24
_DAY = 86_400


def popularity_curve(popularity: IntArray) -> Figure:
    """Draw the interactions of each item, the most popular first, on logarithmic axes.

    Args:
        popularity: Of each item, `[items]`; those without any are not drawn.
    """
    falling = np.sort(popularity[popularity > 0])[::-1]
    places = np.unique(np.geomspace(1, max(len(falling), 1), _MOST_POINTS).astype(int)) - 1
    shown = places[places < len(falling)]

    def paint(axes: Axes) -> None:
        axes.plot(shown + 1, falling[shown], color=SERIES[0].light, lw=2)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(0.9, 1.2 * max(len(falling), 10))
        axes.set_ylim(0.9, 1.3 * falling.max(initial=10))
        _plain(axes, "Interactions of the items")
        axes.set_xlabel("Item, the most popular first")
        axes.minorticks_off()

    return draw(paint, width=_WIDTH, height=_HEIGHT)


def concentration_curve(popularity: IntArray) -> Figure:
    """Draw which share of the interactions the most popular items hold (a Lorenz curve)."""
    falling = np.sort(popularity)[::-1]
    held = np.concatenate([[0.0], np.cumsum(falling)]) / max(int(falling.sum()), 1)
    part = np.linspace(0, 1, len(held))
    kept = np.unique(np.linspace(0, len(held) - 1, _MOST_POINTS).astype(int))

    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=MUTED.light, lw=1, ls=DASHES[2])
        axes.plot(part[kept], held[kept], color=SERIES[0].light, lw=2)
        axes.set_title("Held by the most popular")
        ticks = (0, 0.25, 0.5, 0.75, 1)
        names = ("0 %", "", "50 %", "", "100 %")
        axes.set_xticks(ticks, names)
        axes.set_yticks(ticks, names)
        axes.set_xlabel("Share of the items")

    return draw(paint, width=_WIDTH, height=_HEIGHT)


def history_lengths(lengths: IntArray) -> Figure:
    """Draw how many users have histories of which length.

    Args:
        lengths: Interactions of each user, `[users]`; users without any are not drawn.
    """
    found = lengths[lengths > 0]
    top = max(int(found.max()), 2) if len(found) else 2
    edges = np.unique(np.round(np.geomspace(1, top + 1, _BINS)).astype(int))
    counts, _ = np.histogram(found, edges)

    def paint(axes: Axes) -> None:
        axes.bar(
            edges[:-1], counts, np.diff(edges), align="edge", color=SERIES[2].light, alpha=0.85
        )
        axes.set_xscale("log")
        _plain(axes, "Lengths of histories")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("Interactions of a user")
        axes.set_ylabel("Users")
        axes.minorticks_off()

    return draw(paint, width=_WIDTH, height=_HEIGHT)


def over_time(starts: NDArray[np.datetime64], counts: Mapping[str, IntArray]) -> Figure:
    """Draw interactions over time, the parts on top of each other.

    Args:
        starts: Where each span of time begins, and the end of the last, `[spans + 1]`.
        counts: Part to its interactions in each span, `[spans]`.
    """
    edges = starts.astype("datetime64[s]").astype(np.int64)
    places = edges[np.linspace(0, len(edges) - 1, 4).astype(int)[:-1]]
    names = [_date(int(place), span=int(edges[-1] - edges[0])) for place in places]

    def paint(axes: Axes) -> None:
        below = np.zeros(len(edges) - 1)
        for index, (name, values) in enumerate(counts.items()):
            above = below + values
            tone = series(index).light
            axes.stairs(above, edges, baseline=below, fill=True, color=tone, alpha=0.85, label=name)
            below = above
        _plain(axes, "Interactions over time")
        axes.set_xticks(places, names)
        axes.set_ylim(bottom=0)
        legend_below(axes)

    return draw(paint, width=_WIDTH, height=_HEIGHT)


def _date(second: int, *, span: int) -> str:
    """Write a time as exactly as a log of `span` seconds needs it."""
    moment = datetime.fromtimestamp(second, UTC)
    if span > 300 * _DAY:
        return f"{moment:%b %Y}"
    return f"{moment:%d %b}" if span > 3 * _DAY else f"{moment:%d %b, %H:%M}"


def _plain(axes: Axes, title: str) -> None:
    axes.set_title(title)
    axes.xaxis.set_major_formatter(FuncFormatter(compact))
    axes.yaxis.set_major_formatter(FuncFormatter(compact))
    axes.grid(visible=False, axis="x")
