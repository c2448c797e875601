"""What `metrics.json` holds, checked when it is read."""

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from recssl.errors import DatasetError
from sslcore.report.measures import Measure, Record

USUAL_K = 20


class Bucket(Record):
    """Items of one popularity, and how one method does on them."""

    items: int
    wanted: int
    recall: float | None = None
    share: float = 0.0


class Group(Record):
    """Users with histories of similar length."""

    name: str
    users: int
    least_history: int
    most_history: int


class Method(Record):
    """The run, or a baseline."""

    name: str
    metrics: dict[str, Measure]
    settings: dict[str, Any] = Field(default_factory=dict)
    tried: list[dict[str, Any]] = Field(default_factory=list)
    chosen_by: str | None = None
    new_users: str | None = None
    fit_seconds: float | None = None
    step: int | None = None
    lists: dict[str, float] = Field(default_factory=dict)
    by_group: dict[str, dict[str, Measure]] = Field(default_factory=dict)
    by_popularity: dict[str, list[Bucket]] = Field(default_factory=dict)


class Comparison(Record):
    """How far one method is from another on the same users and the same resamples."""

    model: str
    against: str
    differences: dict[str, Measure]


class LeftOut(Record):
    """A baseline that was not fitted."""

    name: str
    reason: str


class Protocol(Record):
    """How it was measured; see `recssl.measuring.Panel.describe`."""

    part: str
    users: int
    ks: list[int] = Field(min_length=1)
    ranked: str = "all items"
    masked: list[str] = Field(default_factory=list)
    groups: list[Group] = Field(default_factory=list)
    already_seen_not_counted: int = 0
    users_without_history: int = 0
    users_unknown_left_out: int = 0


class Results(Record):
    """All of `metrics.json`."""

    protocol: Protocol
    models: list[Method] = Field(min_length=1)
    comparisons: list[Comparison] = Field(default_factory=list)
    left_out: list[LeftOut] = Field(default_factory=list)

    @property
    def k(self) -> int:
        """The length of list that the report is about: 20, or the middle one."""
        ks = self.protocol.ks
        return USUAL_K if USUAL_K in ks else ks[len(ks) // 2]

    @property
    def ours(self) -> Method:
        """The run."""
        return self.models[0]

    @property
    def baselines(self) -> list[Method]:
        """What it is compared with."""
        return self.models[1:]

    def best_baseline(self, metric: str) -> Method | None:
        """Return the baseline that is best in `metric`, such as `recall@20`."""
        values = {
            index: found.value
            for index, method in enumerate(self.baselines)
            if (found := method.metrics.get(metric)) and found.value is not None
        }
        return self.baselines[max(values, key=values.__getitem__)] if values else None

    def ahead_of(self, baseline: str, metric: str) -> Measure | None:
        """Return how far the run is ahead of a baseline, if that was measured."""
        for item in self.comparisons:
            if (item.model, item.against) == (self.ours.name, baseline):
                return item.differences.get(metric)
        return None


def read_results(path: Path) -> Results:
    """Read a `metrics.json`.

    Raises:
        DatasetError: The file cannot be read, or is not what `recssl evaluate` writes.
    """
    try:
        return Results.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DatasetError(f"{path.name}: {error.strerror}; run recssl evaluate again") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise DatasetError(
            f"{path.name}: {place}: {first['msg']}; run recssl evaluate again"
        ) from error
