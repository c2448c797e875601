"""Section of `recssl report`."""

from pathlib import Path

from pydantic import Field

from sslcore.config import Section


class ReportConfig(Section):
    """What a report shows of many users and items."""

    data: Path | None = Field(None, description="data set, if it is no longer where it was")
    map_items: int = Field(1500, gt=7, description="items on the map, at most")
    labels: int = Field(12, ge=0, description="items named on the map, at most")
    queries: int = Field(6, ge=0, description="items whose neighbours are shown")
    neighbours: int = Field(6, gt=0, description="of each")
    users: int = Field(6, ge=0, description="users shown with their ids; 0 to pass the page on")
    top: int = Field(8, gt=0, description="items of a user's history and recommendations")
    seed: int = Field(0, ge=0, description="of the map")
