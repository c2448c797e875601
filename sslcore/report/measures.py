"""Numbers with their uncertainty, as `metrics.json` of both domains holds them."""

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """A part of a file of results; keys of later versions are left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Measure(Record):
    """A metric and its 95 % interval; None where it does not exist."""

    value: float | None
    low: float | None = None
    high: float | None = None
    sd: float | None = None
