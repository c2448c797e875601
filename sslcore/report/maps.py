"""Maps of embeddings: samples as points in the unit square."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from sslcore.plots import (
    GRID,
    INK,
    MUTED,
    SURFACE,
    draw,
    legend_below,
    legend_columns,
    legend_name,
    marker,
    series,
)

FloatArray = NDArray[np.float64]


def point_map(
    points: FloatArray,
    groups: NDArray[np.int64],
    names: Sequence[str],
    *,
    side: float = 380,
    weights: FloatArray | None = None,
    labels: Sequence[tuple[int, str]] = (),
) -> Figure:
    """Draw samples as points, coloured by group.

    Args:
        points: `[samples, 2]`, in the unit square.
        groups: Index into `names`, -1 for samples without one, `[samples]`.
        names: Of the groups; one entry draws no legend.
        side: px.
        weights: Area of each point, relative to the usual one, `[samples]`; all 1 by default.
        labels: Number of a sample and the text beside its point.
    """
    size = float(np.clip(9000 / max(len(points), 1), 7, 42))
    sizes = size * (np.ones(len(points)) if weights is None else weights)

    def paint(axes: Axes) -> None:
        loose = groups < 0
        tone = MUTED.light
        axes.scatter(*columns_of(points[loose]), s=sizes[loose] * 0.7, color=tone, alpha=0.45, lw=0)
        for index, name in enumerate(names):
            chosen = groups == index
            axes.scatter(
                *columns_of(points[chosen]),
                s=sizes[chosen] if weights is not None else size,
                color=series(index).light,
                marker=marker(index),
                alpha=0.72,
                lw=0,
                label=legend_name(name),
            )
        for index, text in labels:
            _write(axes, points[index], text)
        bare_square(axes)
        if len(names) > 1:
            legend_below(axes)

    shown = [legend_name(name) for name in names]
    lines = -(-len(names) // legend_columns(shown, side)) if len(names) > 1 else 0
    return draw(paint, width=side, height=side + 10 * (lines > 0) + 16 * lines)


def columns_of(points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return both coordinates of points `[samples, 2]`."""
    return points[:, 0], points[:, 1]


def bare_square(axes: Axes) -> None:
    """Show the unit square with a margin for thumbnails, without ticks: its axes mean nothing."""
    axes.set_xlim(-0.04, 1.04)
    axes.set_ylim(-0.04, 1.04)
    axes.grid(visible=False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(NullLocator())
    for spine in axes.spines.values():
        spine.set(visible=True, color=GRID.light)
    axes.set_aspect("equal", anchor="N")


def _write(axes: Axes, point: FloatArray, text: str) -> None:
    """Write beside a point, towards the middle, where there is room."""
    on_left = point[0] > 0.5
    axes.annotate(
        text,
        (float(point[0]), float(point[1])),
        xytext=(-5 if on_left else 5, 0),
        textcoords="offset points",
        ha="right" if on_left else "left",
        va="center",
        fontsize=9,
        color=INK.light,
        bbox={"boxstyle": "square,pad=0.12", "fc": SURFACE.light, "lw": 0, "alpha": 0.72},
        zorder=6,
    )
