"""Section of `recssl evaluate`."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from recssl.settings.export import FoldInConfig
from sslcore.config import Section

BaselineName = Literal["popularity", "item_knn", "ease", "ials", "gf_cf"]
MetricName = Literal["recall", "ndcg", "mrr", "map", "hit_rate"]


class BaselinesConfig(Section):
    """What the run is compared with, and how the baselines' settings are chosen."""

    names: tuple[BaselineName, ...] = ("popularity", "item_knn", "ease", "ials", "gf_cf")
    tune: bool = Field(True, description="choose settings on the validation part")
    select_by: MetricName = "ndcg"
    select_at: int = Field(20, gt=0, description="ranks that count in the choice")
    tune_users: int = Field(10_000, gt=0, description="validation users looked at, at most")
    refit_on: Literal["train", "train+valid"] | None = Field(
        None,
        description="what the chosen settings are fitted on; default what the run learnt from,"
        " without a run train",
    )
    memory_gb: float = Field(
        2.0, gt=0, description="a baseline that would take more beside the log is left out"
    )
    hours: float = Field(
        12.0, gt=0, description="one whose fits would take more, roughly, on one core is left out"
    )

    @field_validator("names")
    @classmethod
    def _each_once(cls, names: tuple[BaselineName, ...]) -> tuple[BaselineName, ...]:
        if len(set(names)) < len(names):
            raise ValueError("a baseline is named twice")
        return names


class EvaluateConfig(Section):
    """What is measured, on whom, and beside what."""

    data: Path | None = Field(None, description="data set, if it is no longer where it was")
    part: Literal["test", "valid"] = "test"
    ks: tuple[int, ...] = Field((10, 20, 50), description="ranks at which lists are cut")
    max_users: int | None = Field(None, gt=0, description="a random sample of users; default all")
    resamples: int = Field(1000, ge=0, description="of the bootstrap; 0 for no intervals")
    buckets: int = Field(5, gt=0, description="of item popularity")
    seed: int = Field(0, ge=0, description="of the sample, the bootstrap and the baselines")
    baselines: BaselinesConfig = BaselinesConfig()
    fold_in: FoldInConfig = FoldInConfig()

    @field_validator("ks")
    @classmethod
    def _rising(cls, ks: tuple[int, ...]) -> tuple[int, ...]:
        if not ks or min(ks) < 1 or list(ks) != sorted(set(ks)):
            raise ValueError("expected rising numbers of 1 or more, such as [10, 20]")
        return ks

    @model_validator(mode="after")
    def _does_not_learn_what_it_measures(self) -> Self:
        if self.part == "valid" and self.baselines.refit_on == "train+valid":
            raise ValueError("with part valid, the baselines may be fitted on train only")
        return self
