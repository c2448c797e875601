"""Figures of a run: its curves, and maps of what its encoder makes of the images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import NDArray

from medssl.report import words
from sslcore.plots import (
    GRID,
    MUTED,
    SERIES,
    draw,
    legend_below,
    legend_columns,
    legend_name,
    marker,
    series,
)

FloatArray = NDArray[np.float64]

THUMBNAIL_SHARE = 0.066
"""Side of a thumbnail on the map, as a share of the map's."""

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
        axes.set_title(title)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.grid(visible=False, axis="x")
        if share:
            axes.set_ylim(-0.02, 1.02)
            axes.set_yticks((0, 0.25, 0.5, 0.75, 1), ("0 %", "", "50 %", "", "100 %"))
        else:
            axes.yaxis.set_major_formatter(FuncFormatter(_compact))

    return draw(paint, width=290, height=200)


def image_map(
    points: FloatArray, groups: NDArray[np.int64], names: Sequence[str], *, side: float = 380
) -> Figure:
    """Draw images as points, coloured by group.

    Args:
        points: `[images, 2]`, in the unit square.
        groups: Index into `names`, -1 for images without a label, `[images]`.
        names: Of the groups; one entry draws no legend.
        side: px.
    """
    size = float(np.clip(9000 / max(len(points), 1), 7, 42))

    def paint(axes: Axes) -> None:
        axes.scatter(*_xy(points[groups < 0]), s=size * 0.7, color=MUTED.light, alpha=0.45, lw=0)
        for index, name in enumerate(names):
            axes.scatter(
                *_xy(points[groups == index]),
                s=size,
                color=series(index).light,
                marker=marker(index),
                alpha=0.72,
                lw=0,
                label=legend_name(name),
            )
        _bare(axes)
        if len(names) > 1:
            legend_below(axes)

    shown = [legend_name(name) for name in names]
    lines = -(-len(names) // legend_columns(shown, side)) if len(names) > 1 else 0
    return draw(paint, width=side, height=side + 10 * (lines > 0) + 16 * lines)


def thumbnail_map(
    points: FloatArray,
    groups: NDArray[np.int64],
    thumbnails: Sequence[tuple[int, NDArray[np.uint8]]],
    *,
    side: float = 380,
) -> Figure:
    """Draw some of the images of `image_map` as thumbnails at their places.

    Args:
        points: As in `image_map`.
        groups: As in `image_map`; gives the colour of the frame.
        thumbnails: Number of the image, and its pixels, `[rows, columns]` or with 3 colours.
        side: px.
    """
    half = 0.5 * THUMBNAIL_SHARE

    def paint(axes: Axes) -> None:
        axes.scatter(*_xy(points), s=3, color=MUTED.light, alpha=0.35, lw=0)
        for index, pixels in thumbnails:
            x, y = points[index]
            box = (x - half, x + half, y - half, y + half)
            group = groups[index]
            tone = MUTED.light if group < 0 else series(int(group)).light
            axes.fill(
                [box[0], box[1], box[1], box[0]], [box[2], box[2], box[3], box[3]], color=tone
            )
            rim = 0.09 * half
            inner = (box[0] + rim, box[1] - rim, box[2] + rim, box[3] - rim)
            cmap = "gray" if pixels.ndim == 2 else None
            axes.imshow(pixels, extent=inner, cmap=cmap, vmin=0, vmax=255, zorder=3, aspect="auto")
        _bare(axes)

    return draw(paint, width=side, height=side)


def _xy(points: FloatArray) -> tuple[FloatArray, FloatArray]:
    return points[:, 0], points[:, 1]


def _bare(axes: Axes) -> None:
    """Show the unit square with a margin for thumbnails, without ticks: its axes mean nothing."""
    axes.set_xlim(-0.04, 1.04)
    axes.set_ylim(-0.04, 1.04)
    axes.grid(visible=False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(NullLocator())
    for spine in axes.spines.values():
        spine.set(visible=True, color=GRID.light)
    axes.set_aspect("equal", anchor="N")


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


def _compact(value: float, _position: int) -> str:
    text = f"{value:,.4g}" if abs(value) >= 1e-5 or value == 0 else f"{value:.0e}"
    return text.replace("-", words.MINUS)
