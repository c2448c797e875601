"""How good probabilities are, for many weightings of the same images at once.

A bootstrap resample of patients is a weight per image: how often its patient was drawn. Each
metric here takes a block of resamples as one matrix, which makes them cheap, and paired by
construction: every model is measured on the same resamples.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medssl.errors import DataError

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

METRICS = ("auroc", "balanced_accuracy", "average_precision", "calibration_error", "accuracy")
CONFIDENCE = (2.5, 97.5)  # percentiles of the interval

_BINS = 15
_BLOCK = 64  # resamples at a time: memory does not grow with their number
_REDRAWS = 1000


@dataclass(frozen=True, slots=True)
class Interval:
    """A value averaged over label draws, and what it might have been with other patients.

    Attributes:
        value: On the test images as they are, averaged over draws.
        low: 2.5th percentile over resamples of patients; None where they are too few.
        high: 97.5th percentile, likewise.
        sd: Standard deviation over draws (of labels, and of patients where there are folds);
            None for a single draw.
    """

    value: float
    low: float | None
    high: float | None
    sd: float | None


@dataclass(frozen=True, slots=True)
class Predictions:
    """What one model said about the test images.

    Attributes:
        probabilities: `[images, classes]`, rows sum to one.
        decided: The class decided on, `[images]`.
    """

    probabilities: FloatArray
    decided: IntArray


def resample_groups(
    groups: IntArray, truth: IntArray, num_classes: int, *, count: int, seed: int
) -> Iterator[NDArray[np.uint16]]:
    """Draw whole groups with replacement, and say how often each image came, block by block.

    A resample in which a class is missing has no AUROC; it is drawn again, so the intervals hold
    for test sets that contain every class.

    Args:
        groups: Group (patient) of each image, `[images]`, from 0.
        truth: True class, `[images]`.
        num_classes: Classes that every resample must hold.
        count: Resamples.
        seed: Equal seeds give equal resamples.

    Yields:
        `[images, up to 64]`, `count` columns in all; images first, as the metrics take them.

    Raises:
        DataError: A class is so rare that it misses in nearly all resamples.
    """
    rng = np.random.default_rng(seed)
    num_groups = int(groups.max()) + 1
    holds = np.zeros((num_groups, num_classes), bool)
    holds[groups, truth] = True
    for start in range(0, count, _BLOCK):
        yield _draw_block(holds, min(_BLOCK, count - start), rng)[groups]


def _draw_block(
    holds: NDArray[np.bool_], count: int, rng: np.random.Generator
) -> NDArray[np.uint16]:
    """Return how often each group was drawn, `[groups, count]`; `holds` is `[groups, classes]`."""
    num_groups = len(holds)
    drawn = np.zeros((num_groups, count), np.uint16)
    missing = np.arange(count)
    for _ in range(_REDRAWS):
        picks = rng.integers(num_groups, size=(len(missing), num_groups))
        cells = picks + num_groups * np.arange(len(missing))[:, None]
        times = np.bincount(cells.ravel(), minlength=num_groups * len(missing))
        drawn[:, missing] = times.reshape(len(missing), num_groups).T
        present = (drawn[:, missing] > 0).astype(np.float32).T @ holds.astype(np.float32)
        missing = missing[(present == 0).any(1)]
        if not len(missing):
            return drawn
    raise DataError(
        f"a class is on so few of the {num_groups} test patients that resampling misses it;"
        " raise --set test_share, or leave the class out"
    )


def weighted_metrics(
    truth: IntArray, predictions: Predictions, weights: NDArray[np.uint16]
) -> dict[str, FloatArray]:
    """Compute all `METRICS` for each column of `weights`.

    Args:
        truth: True class, `[images]`.
        predictions: Of the same images.
        weights: `[images, columns]`, not many columns at once; all ones measure the images as
            they are.

    Returns:
        Per metric one value for each column. `auroc` and `average_precision` are means over the
        classes, each against the rest; with two classes, both AUROCs are the same number. All are
        NaN in a column in which a class has no weight.
    """
    times = weights.astype(np.float64)
    chances = predictions.probabilities
    num_classes = chances.shape[1]
    total = times.sum(0)
    correct = (predictions.decided == truth).astype(np.float64)
    per_class = np.eye(num_classes)[truth].T
    complete = np.asarray(((per_class @ times) > 0).all(0))
    if not complete.all():
        return _fill_in(weighted_metrics(truth, predictions, weights[:, complete]), complete)
    recalls = ((per_class * correct) @ times) / (per_class @ times)
    ranked = [_ranking(chances[:, kind], truth == kind, times) for kind in range(num_classes)]
    aurocs, precisions = zip(*ranked, strict=True)
    return {
        "auroc": np.mean(aurocs, axis=0),
        "balanced_accuracy": recalls.mean(0),
        "average_precision": np.mean(precisions, axis=0),
        "calibration_error": _calibration_error(truth, chances, times) / total,
        "accuracy": (correct @ times) / total,
    }


def _fill_in(found: Mapping[str, FloatArray], where: NDArray[np.bool_]) -> dict[str, FloatArray]:
    """Put values into the columns `where`, NaN into the others."""
    every = {name: np.full(len(where), np.nan) for name in METRICS}
    for name, values in found.items():
        every[name][where] = values
    return every


def join_blocks(blocks: Sequence[Mapping[str, FloatArray]]) -> dict[str, FloatArray]:
    """Put the metrics of several blocks of columns side by side."""
    return {name: np.concatenate([block[name] for block in blocks]) for name in METRICS}


def confusion_matrix(
    truth: IntArray, decided: IntArray, weights: NDArray[np.uint16], num_classes: int
) -> FloatArray:
    """Count images by true class (row) and decided class (column).

    Args:
        truth: True class, `[images]`.
        decided: The class decided on, `[images]`.
        weights: How often each image counts, `[images, columns]`.
        num_classes: Rows and columns of a matrix.

    Returns:
        One matrix per column of `weights`, `[classes, classes, columns]`.
    """
    cells = np.zeros((num_classes**2, len(truth)))
    cells[truth * num_classes + decided, np.arange(len(truth))] = 1.0
    return (cells @ weights.astype(np.float64)).reshape(num_classes, num_classes, -1)


def share_intervals(
    points: FloatArray, resampled: FloatArray
) -> dict[str, list[list[float]] | None]:
    """Give the shares of the decisions on each true class their intervals.

    Args:
        points: Confusion matrix of the images as they are, `[classes, classes]`; every class
            occurs.
        resampled: Of every resample, `[classes, classes, resamples]`, likewise.

    Returns:
        `value`, `low` and `high`, each `[classes][classes]`, from 0 to 1.
    """
    low, high = np.percentile(resampled / resampled.sum(1, keepdims=True), CONFIDENCE, axis=2)
    value = points / points.sum(1, keepdims=True)
    return {"value": value.tolist(), "low": low.tolist(), "high": high.tolist()}


def summarise(
    points: Sequence[Mapping[str, FloatArray]], resampled: Sequence[Mapping[str, FloatArray]]
) -> dict[str, Interval]:
    """Average metrics over draws and give each its interval.

    Args:
        points: Per draw, the metrics on the images as they are, one value each.
        resampled: Per draw, the metrics on every resample; resamples correspond across draws.
    """
    return {
        name: _interval(
            np.concatenate([draw[name] for draw in points]),
            mean_of_draws([draw[name] for draw in resampled]),
        )
        for name in METRICS
    }


def mean_of_draws(draws: Sequence[FloatArray]) -> FloatArray:
    """Average over draws in each resample, those left out that have no value in it (NaN)."""
    values = np.stack(draws)
    known = ~np.isnan(values)
    total = np.where(known, values, 0).sum(0)
    return np.where(known.any(0), total / np.maximum(known.sum(0), 1), np.nan)


def compare(ours: Interval, theirs: Interval, paired: FloatArray) -> dict[str, float | None]:
    """Describe a difference of values by the interval of `paired`, its value per resample."""
    low, high = np.nanpercentile(paired, CONFIDENCE)
    return {"value": ours.value - theirs.value, "low": float(low), "high": float(high)}


def _interval(draws: FloatArray, resampled: FloatArray) -> Interval:
    low, high = np.nanpercentile(resampled, CONFIDENCE)
    sd = float(draws.std(ddof=1)) if len(draws) > 1 else None
    return Interval(float(draws.mean()), float(low), float(high), sd)


def _ranking(
    scores: FloatArray, positive: NDArray[np.bool_], weights: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return AUROC and average precision of `scores` for each column of `weights`.

    Equal scores share one threshold: a tied pair counts half in the AUROC.
    """
    order = np.argsort(-scores, kind="stable")
    is_first = np.diff(scores[order], prepend=np.inf) != 0
    threshold = np.cumsum(is_first) - 1
    at_threshold = _tied_sums(weights[order], threshold)
    rows = threshold[positive[order]]
    hits = _tied_sums(weights[order[positive[order]]], rows)
    rows = np.unique(rows)
    hits_so_far = np.cumsum(hits, axis=0)
    seen = np.cumsum(at_threshold, axis=0)[rows]
    num_hits, num_misses = hits_so_far[-1], weights.sum(0) - hits_so_far[-1]
    precision = hits_so_far / np.maximum(seen, 1)
    tied_misses = at_threshold[rows] - hits
    losses = np.einsum("ij,ij->j", hits, seen - hits_so_far - tied_misses / 2)
    precisions = np.einsum("ij,ij->j", hits, precision) / num_hits
    return 1 - losses / (num_hits * num_misses), precisions


def _tied_sums(values: FloatArray, threshold: IntArray) -> FloatArray:
    """Add up the rows that share an entry of the ascending `threshold`."""
    starts = np.flatnonzero(np.diff(threshold, prepend=-1))
    return values if len(starts) == len(values) else np.add.reduceat(values, starts, axis=0)


def _calibration_error(truth: IntArray, chances: FloatArray, weights: FloatArray) -> FloatArray:
    """Sum over bins of confidence of the weighted |accuracy - confidence|.

    Source:
        Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks", ICML 2017,
        arXiv:1706.04599, equation 3: 15 bins of equal width over the largest probability, each
        closed above.
    """
    confidence = chances.max(1)
    gap = (chances.argmax(1) == truth) - confidence
    bins = np.clip(np.ceil(confidence * _BINS).astype(np.int64) - 1, 0, _BINS - 1)
    membership = np.zeros((_BINS, len(truth)))
    membership[bins, np.arange(len(truth))] = gap
    return np.asarray(np.abs(membership @ weights).sum(0))
