"""What `recssl ingest` can be told."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from sslcore.config import Section

Format = Literal["auto", "csv", "tsv", "inter", "jsonl", "parquet", "adjacency"]
TimeUnit = Literal["auto", "s", "ms", "us", "ns"]
SplitName = Literal["auto", "time", "leave_last_out", "random", "new_users"]


def _in_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


Moment = Annotated[datetime, AfterValidator(_in_utc)]


class SplitConfig(Section):
    """How the log is cut into train, valid and test. Not asked if `test` and `valid` are given."""

    name: SplitName = Field(
        "auto",
        description="auto: time if the log has times, else random. leave_last_out: the last item "
        "of each user is test, the one before valid. new_users: of some users, whom train does not "
        "have, the later part",
    )
    valid: float = Field(0.1, gt=0, lt=1, description="share of the pairs, or of the users")
    test: float = Field(0.1, gt=0, lt=1, description="share of the pairs, or of the users")
    valid_from: Moment | None = Field(
        None, description="split by time: when valid begins; UTC if no zone is named"
    )
    test_from: Moment | None = Field(None, description="split by time: when test begins")
    support: float = Field(
        0.8,
        gt=0,
        lt=1,
        description="new_users: share of a held-out user's pairs that is known, the earlier ones "
        "or, without times, drawn; the others are to be found",
    )
    seed: int = 0

    @model_validator(mode="after")
    def _leaves_train(self) -> Self:
        if self.valid + self.test >= 1:
            raise ValueError(f"valid {self.valid} + test {self.test} leave nothing to train on")
        if (self.valid_from is None) != (self.test_from is None):
            raise ValueError("valid_from and test_from belong together; give both or none")
        if self.valid_from and self.test_from and self.valid_from >= self.test_from:
            raise ValueError(f"valid_from {self.valid_from} is not before {self.test_from}")
        return self


class IngestConfig(Section):
    """How logs are read, filtered, merged and split."""

    user: str | None = Field(None, description="column; found by name if not given")
    item: str | None = Field(None, description="column; found by name if not given")
    time: str | None = Field(None, description="column; found by name if not given")
    weight: str | None = Field(None, description="column; found by name if not given")
    format: Format = Field("auto", description="of all logs; auto: by the end of the name")
    separator: str | None = Field(None, min_length=1, max_length=1, description="of CSV")
    header: bool | None = Field(None, description="of CSV; by default seen from the first line")
    time_format: str | None = Field(None, description="as of strftime, such as %d/%m/%Y %H:%M")
    time_unit: TimeUnit = Field("auto", description="of numbers; auto: by their size")
    max_bad: float = Field(0.01, ge=0, le=1, description="share of bad lines that is tolerated")

    valid: tuple[Path, ...] = Field((), description="logs that are the valid part")
    test: tuple[Path, ...] = Field((), description="logs that are the test part")
    user_features: Path | None = Field(None, description="table with an id column")
    item_features: Path | None = Field(None, description="table with an id column")

    min_weight: float | None = Field(
        None, description="ratings from here on count as an interaction of weight 1, others not"
    )
    since: Moment | None = Field(None, description="earlier interactions are left out")
    until: Moment | None = Field(None, description="from here on they are left out")
    min_per_user: int = Field(1, ge=1, description="items; applied to a fixpoint with the next")
    min_per_item: int = Field(1, ge=1, description="users")
    duplicates: Literal["last", "count", "sum", "decay"] = Field(
        "last",
        description="weight of a pair that occurs more than once; decay: the sum, each "
        "occurrence halved per half life before the end of the part",
    )
    half_life_days: float = Field(30.0, gt=0, description="of duplicates: decay")
    split: SplitConfig = SplitConfig()

    @model_validator(mode="after")
    def _range_is_not_empty(self) -> Self:
        if self.since and self.until and self.since >= self.until:
            raise ValueError(f"since {self.since} is not before until {self.until}")
        return self
