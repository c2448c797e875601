"""From outlines to Dice scores per case, and their means with intervals over patients.

A case is a volume, or an image of none. Its score counts all its pixels, in the resolution of the
file, whatever the network saw.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medssl.fewlabels.groups import IntArray, joined_groups
from medssl.fewlabels.label_budget import LabelBudget
from medssl.fewlabels.metrics import FloatArray
from medssl.masks.read import Codes

MODELS = ("finetuned", "frozen", "scratch")
BASELINE = "scratch"
FEWEST_PATIENTS = 3  # for an interval to mean anything

_COLUMNS: dict[str, pl.DataType] = {
    "labels": pl.String(),  # as in metrics.json
    "model": pl.String(),  # one of MODELS
    "draw": pl.Int32(),  # from 0
    "case": pl.String(),  # sample, or volume
    "patient": pl.String(),  # keyed hash, or null
    "class": pl.String(),
    "dice": pl.Float64(),  # null where the mask has none of the class
    "pixels": pl.Int64(),  # of the mask
    "outlined": pl.Int64(),
}
CASES_SCHEMA = pl.Schema(_COLUMNS)


@dataclass(frozen=True, slots=True)
class Counts:
    """Pixels of each case and class, `[cases, classes]`.

    Attributes:
        both: In mask and outline.
        mask: In the mask.
        outlined: In the outline.
    """

    both: IntArray
    mask: IntArray
    outlined: IntArray

    @classmethod
    def none(cls, cases: int, classes: int) -> "Counts":
        """Begin to count."""
        return cls(*(np.zeros((cases, classes), np.int64) for _ in range(3)))

    def add(self, case: int, outlined: Codes, mask: Codes) -> None:
        """Count the pixels of an image, or of a slice of a volume."""
        size = self.mask.shape[1] + 1
        self.both[case] += np.bincount(mask[mask == outlined].ravel(), minlength=size)[1:]
        self.mask[case] += np.bincount(mask.ravel(), minlength=size)[1:]
        self.outlined[case] += np.bincount(outlined.ravel(), minlength=size)[1:]

    def dice(self) -> FloatArray:
        """Return 2 both / (mask + outlined), `[cases, classes]`; NaN where the mask has none.

        So all models are judged by the same cases, and one pixel too many where nothing is does
        not weigh as much as a whole organ.

        Source:
            Dice, "Measures of the amount of ecologic association between species", Ecology 1945;
            MONAI's `DiceMetric` leaves cases without the class out by default, too.
        """
        with np.errstate(invalid="ignore"):
            score = 2 * self.both / (self.mask + self.outlined)
        return np.asarray(np.where(self.mask > 0, score, np.nan))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one model, trained on one draw of masks, outlined.

    Attributes:
        budget: How many masks it had.
        draw: Which ones.
        model: One of `MODELS`.
        num_labels: Cases it learnt from.
        num_val_labels: Cases that chose its weights.
        counts: Of the test cases.
    """

    budget: LabelBudget
    draw: int
    model: str
    num_labels: int
    num_val_labels: int
    counts: Counts


class TestCases:
    """The test cases, their patients, and the resamples that all models share."""

    __test__ = False  # no test, in the eyes of pytest

    def __init__(
        self,
        names: Sequence[str],
        patients: Sequence[str | None],
        classes: Sequence[str],
        *,
        resamples: int,
        seed: int,
    ) -> None:
        """Draw the resamples of patients; a case without one counts as a patient of its own."""
        self.names, self.patients, self.classes = names, patients, tuple(classes)
        groups = joined_groups(patients)
        self._num_units = int(groups.max()) + 1
        rng = np.random.default_rng(seed)
        even = np.full(self._num_units, 1 / self._num_units)
        drawn = rng.multinomial(self._num_units, even, size=resamples)
        self._weights = drawn[:, groups].astype(np.float64)  # [resamples, cases]

    def describe_interval(self) -> dict[str, Any]:
        """Say what the intervals are, for metrics.json."""
        unknown = sum(patient is None for patient in self.patients)
        unit = "case" if unknown == len(self.patients) else "patient"
        note = f"{self._num_units} test {unit}s drawn with replacement"
        if unknown:
            note += "; patients are not all known, so intervals are too narrow if cases share one"
        if self._num_units < FEWEST_PATIENTS:
            note = f"no intervals: {self._num_units} test {unit}(s) cannot tell how others differ"
        return {"level": 0.95, "unit": unit, "resamples": len(self._weights), "note": note}

    def evaluate(
        self, outcomes: Sequence[Outcome]
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return the lists `results` and `comparisons` of metrics.json.

        The metric `dice` is the mean over classes of the means over cases, that of a class is
        `dice CLASS`; both are means over draws.
        """
        together: dict[tuple[LabelBudget, str], list[Outcome]] = {}
        for outcome in outcomes:
            together.setdefault((outcome.budget, outcome.model), []).append(outcome)
        scores = {key: self._score(draws) for key, draws in together.items()}
        results = [
            {
                "labels": str(budget),
                "fraction": budget.fraction,
                "shots": budget.shots,
                "model": model,
                "draws": len(draws),
                "num_labels": draws[0].num_labels,
                "num_val_labels": draws[0].num_val_labels,
                "metrics": {
                    name: self._interval(*score) for name, score in scores[budget, model].items()
                },
            }
            for (budget, model), draws in together.items()
        ]
        comparisons = [
            {
                "labels": str(budget),
                "model": model,
                "against": BASELINE,
                "metric": "dice",
                "difference": self._interval(
                    ours["dice"][0] - scores[budget, BASELINE]["dice"][0],
                    ours["dice"][1] - scores[budget, BASELINE]["dice"][1],
                ),
            }
            for (budget, model), ours in scores.items()
            if model != BASELINE and (budget, BASELINE) in scores
        ]
        return results, comparisons

    def table(self, outcomes: Sequence[Outcome]) -> pl.DataFrame:
        """List every score; see `CASES_SCHEMA`."""
        rows = []
        for outcome in outcomes:
            counts, dice = outcome.counts, outcome.counts.dice()
            rows += [
                (
                    str(outcome.budget), outcome.model, outcome.draw, name, patient, kind,
                    None if np.isnan(dice[case, number]) else float(dice[case, number]),
                    int(counts.mask[case, number]), int(counts.outlined[case, number]),
                )
                for case, (name, patient) in enumerate(zip(self.names, self.patients, strict=True))
                for number, kind in enumerate(self.classes)
            ]  # fmt: skip
        return pl.DataFrame(rows, schema=CASES_SCHEMA, orient="row")

    def _score(self, draws: Sequence[Outcome]) -> dict[str, tuple[float, FloatArray]]:
        """Return each metric, and its values in the resamples, both means over draws."""
        every = [each.counts.dice() for each in draws]
        even = np.ones((1, len(self.names)))
        values = mean_known(np.stack([_means(dice, even)[0] for dice in every]), axis=0)
        resampled = mean_known(np.stack([_means(dice, self._weights) for dice in every]), axis=0)
        found = {
            f"dice {name}": (float(values[number]), resampled[:, number])
            for number, name in enumerate(self.classes)
        }
        return {"dice": (float(mean_known(values)), mean_known(resampled, axis=1)), **found}

    def _interval(self, value: float, resampled: FloatArray) -> dict[str, float | None]:
        if self._num_units < FEWEST_PATIENTS or np.isnan(resampled).all():
            return {"value": None if np.isnan(value) else value, "low": None, "high": None}
        low, high = np.nanquantile(resampled, (0.025, 0.975)).tolist()
        return {"value": value, "low": low, "high": high}


def mean_known(values: FloatArray, axis: int | None = None) -> FloatArray:
    """Return the mean of what is not NaN; NaN where all is."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, values, 0).sum(axis) / known.sum(axis))


def _means(dice: FloatArray, weights: FloatArray) -> NDArray[np.float64]:
    """Return weighted means over the cases in which a class occurs, `[resamples, classes]`."""
    known = ~np.isnan(dice)
    total = weights @ known
    with np.errstate(invalid="ignore"):
        return np.asarray((weights @ np.where(known, dice, 0)) / np.where(total > 0, total, np.nan))
