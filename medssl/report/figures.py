"""Figures of few-label results. Put one on a page with `to_svg`, or into a PNG with `save_png`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from medssl.report import words
from medssl.report.results import Results
from sslcore.plots import DASHES, MUTED, SERIES, draw, legend_below, legend_name, marker, series

FloatArray = NDArray[np.float64]

_BAND_ALPHA = 0.14


def few_label_curves(results: Results, metric: str) -> Figure:
    """Draw `metric` against the number of labels, a line per model, with its intervals."""
    amounts = results.amounts
    models = results.models

    def paint(axes: Axes) -> None:
        for place, model in enumerate(models):
            tone, shape = _model_marks(model)
            found = [results.measure(labels, model, metric) for labels in amounts]
            points = [(at, item) for at, item in enumerate(found) if item]
            if not points:
                continue
            x = np.array([at for at, _ in points]) + (place - (len(models) - 1) / 2) * 0.055
            y = np.array([item.value for _, item in points], dtype=float)
            low, high = _bounds([item for _, item in points], y)
            main = model == results.main_model
            axes.vlines(x, low, high, color=tone, lw=1.6, alpha=0.55, zorder=3)
            axes.plot(
                *(x, y),
                color=tone,
                marker=shape,
                lw=2.4 if main else 1.5,
                ls="-" if main else DASHES[1 + place % 3],
                label=words.MODELS.get(model, model),
                zorder=5 if main else 4,
            )
        axes.set_title(words.METRICS.get(metric, metric))
        ticks = [_amount_tick(results, labels) for labels in amounts]
        axes.set_xticks(range(len(amounts)), ticks)
        axes.set_xlim(-0.35, len(amounts) - 0.65)
        axes.grid(visible=False, axis="x")
        axes.yaxis.set_major_locator(MaxNLocator(5))
        legend_below(axes)

    return draw(paint, width=380, height=335)


def differences(results: Results, metric: str) -> Figure:
    """Draw how far the main model is ahead of training from scratch, with intervals."""
    found = [(labels, results.against_scratch(labels, metric)) for labels in results.amounts]
    rows = [(labels, item) for labels, item in found if item]

    def paint(axes: Axes) -> None:
        tone, shape = _model_marks(results.main_model)
        values = np.array([item.value for _, item in rows], dtype=float)
        low, high = _bounds([item for _, item in rows], values)
        heights = np.arange(len(rows))[::-1]
        axes.axvline(0, color=MUTED.light, lw=1.2)
        axes.hlines(heights, low, high, color=tone, lw=2.4)
        axes.plot(values, heights, ls="none", marker=shape, ms=8, color=tone)
        for height, (_, item), right in zip(heights, rows, high, strict=True):
            axes.annotate(
                words.signed(item.value),
                (right, height),
                xytext=(10, 0),
                textcoords="offset points",
                va="center",
                weight="bold",
            )
        axes.set_yticks(heights, [_amount_tick(results, labels) for labels, _ in rows])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_title(f"{words.METRICS.get(metric, metric)} gained by pretraining")
        span = max(high.max(), 0) - min(low.min(), 0)
        axes.set_xlim(min(low.min(), 0) - 0.06 * span, max(high.max(), 0) + 0.24 * span)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.grid(visible=False, axis="y")

    return draw(paint, width=380, height=92 + 50 * len(rows))


def roc_curves(curves: Mapping[str, tuple[FloatArray, FloatArray]], title: str) -> Figure:
    """Draw ROC curves.

    Args:
        curves: Model to false and true positive rates; the latter `[draws, points]`, of which the
            mean is drawn as a line and the range as a band.
        title: Above the figure.
    """

    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=MUTED.light, lw=1, ls=DASHES[2], zorder=1)
        for place, (model, (across, up)) in enumerate(curves.items()):
            tone, _ = _model_marks(model)
            if len(up) > 1:
                axes.fill_between(across, up.min(0), up.max(0), color=tone, alpha=_BAND_ALPHA, lw=0)
            name = words.MODELS.get(model, model)
            axes.plot(across, up.mean(0), color=tone, ls=DASHES[place % 4], label=name, lw=2)
        _unit_square(axes, "False positive rate", "True positive rate", title)
        legend_below(axes)

    return draw(paint, width=260, height=312)


def class_roc_curves(curves: Mapping[str, tuple[FloatArray, FloatArray]], title: str) -> Figure:
    """Draw one ROC curve per class, each against the rest; arguments as in `roc_curves`."""

    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=MUTED.light, lw=1, ls=DASHES[2], zorder=1)
        for place, (name, (across, up)) in enumerate(curves.items()):
            tone = series(place).light
            axes.plot(
                across, up.mean(0), color=tone, ls=DASHES[place % 4], label=legend_name(name), lw=2
            )
        _unit_square(axes, "False positive rate", "True positive rate", title)
        legend_below(axes)

    return draw(paint, width=260, height=290 + 16 * len(curves))


def reliability(
    bins: Mapping[str, tuple[FloatArray, FloatArray, FloatArray]], title: str
) -> Figure:
    """Draw how often a model is right against how sure it is.

    Args:
        bins: Model to mean claimed probability, observed share, and share of the images, per bin.
        title: Above the figure.
    """

    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=MUTED.light, lw=1, ls=DASHES[2], zorder=1)
        for place, (model, (claimed, observed, share)) in enumerate(bins.items()):
            tone, shape = _model_marks(model)
            axes.plot(claimed, observed, color=tone, lw=1.6, ls=DASHES[place % 4])
            axes.scatter(claimed, observed, s=18 + 320 * share, color=tone, marker=shape, lw=0)
            name = words.MODELS.get(model, model)
            axes.plot([], [], color=tone, ls=DASHES[place % 4], marker=shape, label=name)
        _unit_square(axes, "Claimed probability", "Observed share", title)
        legend_below(axes)

    return draw(paint, width=260, height=312)


def _model_marks(model: str) -> tuple[str, str]:
    index = words.MODEL_COLORS.get(model, 5)
    return SERIES[index].light, marker(index)


def _bounds(measures: Sequence[Any], values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return lower and upper ends; an interval that is missing has no length."""
    low = [item.low if item.low is not None else np.nan for item in measures]
    high = [item.high if item.high is not None else np.nan for item in measures]
    return (
        np.where(np.isnan(low), values, np.array(low, dtype=float)),
        np.where(np.isnan(high), values, np.array(high, dtype=float)),
    )


def _amount_tick(results: Results, labels: str) -> str:
    number = max(item.num_labels for item in results.results if item.labels == labels)
    return f"{labels.replace('%', ' %').replace('  ', ' ')}\n{number:,} labels"


def _unit_square(axes: Axes, across: str, up: str, title: str) -> None:
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_aspect("equal")
    ticks = (0, 0.25, 0.5, 0.75, 1)
    axes.set_xticks(ticks, ["0", "", "0.5", "", "1"])
    axes.set_yticks(ticks, ["0", "", "0.5", "", "1"])
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.set_title(title)
