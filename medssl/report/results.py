"""What `metrics.json` holds, checked when it is read."""

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from medssl.errors import DataError
from sslcore.report.measures import Measure, Record

PRETRAINED = ("finetuned", "frozen", "linear_probe", "knn", "distilled")
SCRATCH = "scratch"


class Shares(Record):
    """Shares of the decisions on each true class, and their 95 % intervals."""

    value: list[list[float]]
    low: list[list[float]] | None = None
    high: list[list[float]] | None = None


class Result(Record):
    """One model, trained on one amount of labels."""

    labels: str
    num_labels: int
    num_val_labels: int | None = None
    model: str
    metrics: dict[str, Measure]
    fraction: float | None = None
    shots: int | None = None
    draws: int = 1
    confusion: list[list[float]] | None = None
    confusion_share: Shares | None = None


class Comparison(Record):
    """How far one model is from another on the same labels and the same resamples."""

    labels: str
    model: str
    against: str
    metric: str
    difference: Measure


class Part(Record):
    """One part of the split; patients is None where they are not all known."""

    images: int
    cases: int | None = None
    patients: int | None = None
    per_class: dict[str, int] = Field(default_factory=dict)


class Leakage(Record):
    """What crosses the borders of the split; see `medssl.fewlabels.leakage`."""

    patients_across_splits: int = 0
    conflicting_duplicates: int = 0
    test_seen_in_pretraining: int = 0
    note: str = ""


class Resampling(Record):
    """What the intervals are."""

    note: str = ""


class Data(Record):
    """What was learnt from, and what was measured on."""

    train: Part
    val: Part
    test: Part


class Results(Record):
    """All of `metrics.json`."""

    run: str
    classes: list[str]
    data: Data
    results: list[Result]
    task: Literal["classification", "segmentation"] = "classification"
    mode: str = "linear"
    split: str = "patient"
    comparisons: list[Comparison] = Field(default_factory=list)
    leakage: Leakage | None = None
    interval: Resampling = Resampling()
    decision: str = ""
    validation: str = ""
    notes: list[str] = Field(default_factory=list)

    @property
    def metric(self) -> str:
        """What comes first: AUROC of images, Dice of outlines."""
        return "dice" if self.task == "segmentation" else "auroc"

    @property
    def amounts(self) -> list[str]:
        """Amounts of labels, fewest first."""
        counts = {result.labels: result.num_labels for result in self.results}
        return sorted(counts, key=counts.__getitem__)

    @property
    def models(self) -> list[str]:
        """The main model, then the others in the order of the file."""
        names = (result.model for result in self.results)
        return list(dict.fromkeys((self.main_model, *names)))

    @property
    def main_model(self) -> str:
        """The model that the report is about."""
        order = PRETRAINED if self.mode == "full" else (*PRETRAINED[1:], PRETRAINED[0])
        names = [result.model for result in self.results]
        return next((model for model in order if model in names), names[0])

    def find(self, labels: str, model: str) -> Result | None:
        """Return the result of `model` on `labels`, if there is one."""
        wanted = (labels, model)
        return next((item for item in self.results if (item.labels, item.model) == wanted), None)

    def measure(self, labels: str, model: str, metric: str) -> Measure | None:
        """Return one number with its interval; None where it was not or could not be measured."""
        result = self.find(labels, model)
        found = result.metrics.get(metric) if result else None
        return found if found and found.value is not None else None

    def against_scratch(self, labels: str, metric: str) -> Measure | None:
        """Return how far the main model is ahead of training from scratch."""
        wanted = (labels, self.main_model, SCRATCH, metric)
        for item in self.comparisons:
            if (item.labels, item.model, item.against, item.metric) == wanted:
                return item.difference if item.difference.value is not None else None
        return None


def read_results(path: Path) -> Results:
    """Read a `metrics.json`.

    Raises:
        DataError: The file cannot be read, or is not what `medssl finetune` writes.
    """
    way_out = "give the folder that medssl finetune or medssl pretrain made"
    try:
        results = Results.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise DataError(f"{path}: {place}: {first['msg']}; {way_out}") from error
    if not results.results or not results.classes:
        raise DataError(f"{path}: holds no results; {way_out}")
    return results
