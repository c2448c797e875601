"""From predictions on the test images to tables with intervals."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medssl.fewlabels.groups import plural, subject_groups
from medssl.fewlabels.label_budget import LabelBudget
from medssl.fewlabels.metrics import (
    FloatArray,
    IntArray,
    Interval,
    Predictions,
    compare,
    confusion_matrix,
    join_blocks,
    mean_of_draws,
    resample_groups,
    share_intervals,
    summarise,
    weighted_metrics,
)

FEWEST_UNITS = 3  # of a class among the test patients, for an interval to mean anything

MODELS = ("finetuned", "linear_probe", "knn", "scratch", "untrained_probe", "pixels_probe")
BASELINE = "scratch"

_COLUMNS: dict[str, pl.DataType] = {
    "labels": pl.String(),  # as in metrics.json: "10%", "10 per class"
    "model": pl.String(),  # one of MODELS
    "draw": pl.Int32(),  # from 0
    "sample": pl.String(),
    "patient": pl.String(),  # keyed hash, or null
    "label": pl.String(),
    "predicted": pl.String(),  # see medssl.fewlabels.probe.decide
    "probabilities": pl.List(pl.Float64()),  # in the order of `classes` in metrics.json
}
PREDICTIONS_SCHEMA = pl.Schema(_COLUMNS)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one model, trained on one draw of labels, said about the test images.

    Attributes:
        budget: How many labels it had.
        draw: Which ones.
        model: One of `MODELS`.
        num_labels: Labelled training images.
        num_val_labels: Labelled validation images.
        rows: Rows of the manifest it was tested on, ascending.
        predictions: Of these rows.
    """

    budget: LabelBudget
    draw: int
    model: str
    num_labels: int
    num_val_labels: int
    rows: IntArray
    predictions: Predictions


@dataclass(frozen=True, slots=True)
class _Resampled:
    outcome: Outcome
    metrics: dict[str, FloatArray]  # one value per resample


@dataclass(frozen=True, slots=True)
class _Measured:
    outcomes: list[Outcome]
    intervals: dict[str, Interval]
    auroc_resampled: FloatArray  # averaged over draws, one per resample


class TestSet:
    """The test images, their patients, and the resamples that all models share.

    A model may be tested on a part of them. Its scores are never ranked among those of a model
    that learnt from other labels: metrics are computed for each model, then averaged over draws,
    in every resample of all patients. A draw that a resample leaves without one of the classes
    does not count in it. Where a class is on fewer than `FEWEST_UNITS` patients, resamples that
    hold every class hardly differ: no interval is given then.
    """

    __test__ = False  # no test, in the eyes of pytest

    def __init__(
        self,
        manifest_rows: pl.DataFrame,
        tested: IntArray,
        classes: Sequence[str],
        *,
        resamples: int,
        seed: int,
    ) -> None:
        """Prepare the resamples.

        Args:
            manifest_rows: Columns sample, patient, study, volume and label; where patients are not
                known, a study or volume counts as one, and an image without either.
            tested: Rows that any model is tested on, ascending.
            classes: All labels that occur, in the order of the codes.
            resamples: Of the bootstrap.
            seed: Of the bootstrap.

        Raises:
            DataError: A class is too rare to be resampled.
        """
        self.rows = manifest_rows[tested.tolist()]
        self.classes = tuple(classes)
        self.truth = encode_labels(self.rows["label"], classes)
        self._tested = tested
        self._groups = subject_groups(self.rows)
        self._count, self._seed = resamples, seed
        units = np.unique(np.stack([self.truth, self._groups]), axis=1)
        self._fewest = int(np.bincount(units[0]).min())
        for _ in self._resamples():  # too rare a class shows before anything is trained
            pass

    def _unit(self) -> str:
        """Return what is drawn, in a word: studies or volumes where several images are of one."""
        if self.rows["patient"].null_count() < len(self.rows):
            return "patient"
        kinds = ("study", "volume")
        held = (kind for kind in kinds if self.rows[kind].drop_nulls().is_duplicated().any())
        return next(held, "image")

    def describe_interval(self) -> dict[str, Any]:
        """Say what the intervals are, for metrics.json."""
        num_units = int(self._groups.max()) + 1
        num_unknown = self.rows["patient"].null_count()
        unit = self._unit()
        note = f"{num_units} test {plural(unit)} drawn with replacement, all classes present"
        if num_unknown:
            unknown = (
                f"images of unknown patients ({num_unknown}) count as one each"
                if unit == "patient"
                else "patients are not known"
            )
            shared = "images" if unit == "patient" else plural(unit)
            note += f"; {unknown}, so intervals are too narrow if {shared} share a patient"
        if not self._has_intervals:
            note = (
                f"no intervals: a class is on {self._fewest} of {num_units} test {plural(unit)},"
                f" and fewer than {FEWEST_UNITS} cannot tell how much others would differ; raise"
                " test_share, or test every patient with --folds"
            )
        elif num_units < 20:
            note += "; so few that the intervals themselves are rough"
        return {"level": 0.95, "unit": unit, "resamples": self._count, "note": note}

    @property
    def _has_intervals(self) -> bool:
        return self._fewest >= FEWEST_UNITS

    def evaluate(
        self, outcomes: Iterable[Outcome]
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return the lists `results` and `comparisons` of metrics.json.

        A comparison is the difference of mean AUROC to the network trained from scratch on the
        same labels, resample by resample.
        """
        every = list(outcomes)
        together: dict[tuple[LabelBudget, str], list[_Resampled]] = {}
        for outcome, resampled in zip(every, self._resample(every), strict=True):
            draws = together.setdefault((outcome.budget, outcome.model), [])
            draws.append(_Resampled(outcome, resampled))
        measured = {key: self._measure(draws) for key, draws in together.items()}
        results = [self._result(found) | self._decisions(found) for found in measured.values()]
        comparisons = [
            {
                "labels": str(budget),
                "model": model,
                "against": BASELINE,
                "metric": "auroc",
                "difference": self._difference(found, measured[budget, BASELINE]),
            }
            for (budget, model), found in measured.items()
            if model != BASELINE and (budget, BASELINE) in measured
        ]
        return results, comparisons

    def predictions_table(self, outcomes: Iterable[Outcome]) -> pl.DataFrame:
        """List every prediction, a row per image, model and draw; see `PREDICTIONS_SCHEMA`."""
        tables = [
            self.rows[self._places(outcome).tolist()]
            .select(
                pl.lit(str(outcome.budget)).alias("labels"),
                pl.lit(outcome.model).alias("model"),
                pl.lit(outcome.draw).alias("draw"),
                "sample",
                "patient",
                "label",
                pl.Series("predicted", [self.classes[k] for k in outcome.predictions.decided]),
                pl.Series("probabilities", outcome.predictions.probabilities.tolist()),
            )
            .cast(PREDICTIONS_SCHEMA)
            for outcome in outcomes
        ]
        table: pl.DataFrame = pl.concat(tables)
        return table

    def _places(self, outcome: Outcome) -> IntArray:
        """Return where the images of an outcome stand among all tested ones."""
        return np.searchsorted(self._tested, outcome.rows).astype(np.int64)

    def _resamples(self) -> Iterator[NDArray[np.uint16]]:
        """Draw the same resamples at every call, block by block."""
        return resample_groups(
            self._groups, self.truth, len(self.classes), count=self._count, seed=self._seed
        )

    def _resample(self, outcomes: list[Outcome]) -> list[dict[str, FloatArray]]:
        """Return the metrics of each outcome on all resamples."""
        blocks: list[list[dict[str, FloatArray]]] = [[] for _ in outcomes]
        for weights in self._resamples():
            for outcome, found in zip(outcomes, blocks, strict=True):
                found.append(self._metrics(outcome, weights))
        return [join_blocks(found) for found in blocks]

    def _metrics(self, outcome: Outcome, weights: NDArray[np.uint16]) -> dict[str, FloatArray]:
        places = self._places(outcome)
        return weighted_metrics(self.truth[places], outcome.predictions, weights[places])

    def _measure(self, draws: list[_Resampled]) -> _Measured:
        once = np.ones((len(self.truth), 1), np.uint16)
        outcomes = [draw.outcome for draw in draws]
        points = [self._metrics(one, once) for one in outcomes]
        drawn = [draw.metrics for draw in draws]
        auroc = mean_of_draws([metrics["auroc"] for metrics in drawn])
        return _Measured(outcomes, self._known(summarise(points, drawn)), auroc)

    def _known(self, found: dict[str, Interval]) -> dict[str, Interval]:
        """Leave the ends of intervals out where there are too few patients."""
        if self._has_intervals:
            return found
        return {name: replace(each, low=None, high=None) for name, each in found.items()}

    def _difference(self, ours: _Measured, theirs: _Measured) -> dict[str, float | None]:
        difference = compare(
            ours.intervals["auroc"],
            theirs.intervals["auroc"],
            ours.auroc_resampled - theirs.auroc_resampled,
        )
        return difference if self._has_intervals else {**difference, "low": None, "high": None}

    def _result(self, found: _Measured) -> dict[str, Any]:
        first = found.outcomes[0]
        return {
            "labels": str(first.budget),
            "fraction": first.budget.fraction,
            "shots": first.budget.shots,
            "num_labels": first.num_labels,
            "num_val_labels": first.num_val_labels,
            "draws": len(found.outcomes),
            "model": first.model,
            "metrics": {name: asdict(interval) for name, interval in found.intervals.items()},
        }

    def _decisions(self, found: _Measured) -> dict[str, Any]:
        """Return the confusion matrix over all draws, and its rows' shares with intervals."""
        once = np.ones((len(self.truth), 1), np.uint16)
        counts = self._confusion(found, once)[..., 0]
        blocks = [self._confusion(found, weights) for weights in self._resamples()]
        shares = share_intervals(counts, np.concatenate(blocks, axis=-1))
        if not self._has_intervals:
            shares |= {"low": None, "high": None}
        return {"confusion": counts.astype(int).tolist(), "confusion_share": shares}

    def _confusion(self, found: _Measured, weights: NDArray[np.uint16]) -> FloatArray:
        matrices = [
            confusion_matrix(
                self.truth[places], one.predictions.decided, weights[places], len(self.classes)
            )
            for one in found.outcomes
            for places in [self._places(one)]
        ]
        return np.asarray(np.sum(matrices, axis=0))


def encode_labels(labels: pl.Series, classes: Sequence[str]) -> IntArray:
    """Turn names into numbers, by their place in `classes`."""
    codes = {name: code for code, name in enumerate(classes)}
    return np.array([codes[name] for name in labels.to_list()], np.int64)
