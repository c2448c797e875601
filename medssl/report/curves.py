"""ROC curves and calibration, from `predictions.parquet`."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

FloatArray = NDArray[np.float64]

_GRID = np.linspace(0, 1, 101)
_BINS = 10


def mean_roc(
    predictions: pl.DataFrame, classes: Sequence[str], only: str | None = None
) -> tuple[FloatArray, FloatArray] | None:
    """Return false positive rates, and the true positive rates of each draw, `[draws, points]`.

    Args:
        predictions: Of one model on one amount of labels, any number of draws.
        classes: In the order of the probabilities. Of two, the second is the positive one; of
            more, each is measured against the rest and the curves are averaged.
        only: One class, instead of the average.

    Returns:
        None if no draw has images both of a class and of the others.
    """
    wanted = [only] if only else list(classes[1:] if len(classes) == 2 else classes)
    draws = []
    for _, draw in predictions.group_by("draw", maintain_order=True):
        chances = probabilities(draw)
        truth = draw["label"].to_numpy()
        curves = [
            _roc(truth == name, chances[:, classes.index(name)])
            for name in wanted
            if 0 < (truth == name).sum() < len(truth)
        ]
        if curves:
            draws.append(np.mean(curves, axis=0))
    return (_GRID, np.stack(draws)) if draws else None


def calibration_bins(
    predictions: pl.DataFrame, classes: Sequence[str]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return claimed probability, observed share and share of the images in each bin.

    With two classes the claim is the probability of the second one; with more, that of the class
    decided on. Draws are pooled.
    """
    chances = probabilities(predictions)
    truth = predictions["label"].to_numpy()
    if len(classes) == 2:
        claimed, right = chances[:, 1], truth == classes[1]
    else:
        claimed, right = chances.max(1), truth == np.asarray(classes)[chances.argmax(1)]
    bins = np.minimum((claimed * _BINS).astype(int), _BINS - 1)
    sizes = np.bincount(bins, minlength=_BINS)
    filled = sizes > 0
    sums = [np.bincount(bins, values, minlength=_BINS)[filled] for values in (claimed, right)]
    kept = sizes[filled]
    return sums[0] / kept, sums[1] / kept, kept / kept.sum()


def probabilities(predictions: pl.DataFrame) -> FloatArray:
    """Return the probabilities as `[images, classes]`."""
    return np.array(predictions["probabilities"].to_list(), dtype=np.float64)


def _roc(positive: NDArray[np.bool_], chance: FloatArray) -> FloatArray:
    across, up, _ = roc_curve(positive, chance)
    return np.concatenate([[0.0], np.interp(_GRID[1:], across, up)])
