"""Figures of few-label results. Put one on a page with `to_svg`, or into a PNG with `save_png`."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from medssl.report import words
from medssl.report.results import Results
from sslcore.plots import DASHES, MUTED, SERIES, draw, legend_below, legend_name, marker, series
from sslcore.report import writing
from sslcore.report.intervals import IntervalLine, IntervalRow, interval_lines, interval_rows

FloatArray = NDArray[np.float64]

_BAND_ALPHA = 0.14


def few_label_curves(results: Results, metric: str) -> Figure:
    """Draw `metric` against the number of labels, a line per model, with its intervals."""
    lines = [
        IntervalLine(
            words.MODELS.get(model, model),
            [results.measure(labels, model, metric) for labels in results.amounts],
            words.MODEL_COLORS.get(model, 5),
            is_main=model == results.main_model,
        )
        for model in results.models
    ]
    ticks = [_amount_tick(results, labels) for labels in results.amounts]
    return interval_lines(lines, ticks, title=words.METRICS.get(metric, metric))


def differences(results: Results, metric: str) -> Figure:
    """Draw how far the main model is ahead of training from scratch, with intervals."""
    found = [(labels, results.against_scratch(labels, metric)) for labels in results.amounts]
    tone = words.MODEL_COLORS.get(results.main_model, 5)
    return interval_rows(
        [
            IntervalRow(_amount_tick(results, labels), item, writing.signed(item.value), tone)
            for labels, item in found
            if item
        ],
        title=f"{words.METRICS.get(metric, metric)} gained by pretraining",
        from_zero=True,
    )


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
