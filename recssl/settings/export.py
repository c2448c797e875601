"""Sections of `recssl export`, `recssl recommend` and `recssl similar`."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from sslcore.config import Section

IndexKind = Literal["flat", "hnsw", "ivf_pq"]
Untrained = Literal["auto", "leave_out", "keep", "features"]


class FoldInConfig(Section):
    """How users and items that were not trained get an embedding."""

    users: Literal["ridge", "propagation"] = Field(
        "ridge", description="ridge ranks better; propagation costs less with many users"
    )
    unseen: float = Field(0.03, gt=0, description="ridge: weight of an item outside the history")
    shrinkage: float = Field(1.0, gt=0, description="ridge: in items of mean length")
    map_ridge: float = Field(
        0.01, gt=0, description="propagation: pull of the map after it towards none"
    )
    feature_ridge: float = Field(10.0, gt=0, description="penalty of the regression on features")


class IndexConfig(Section):
    """The FAISS index of the items."""

    kind: IndexKind | Literal["auto", "none"] = Field("auto", description="auto: by size")
    flat_up_to: int = Field(100_000, ge=0, description="items that auto still searches one by one")
    hnsw_up_to: int = Field(2_000_000, ge=0, description="items above which auto compresses them")
    links: int = Field(32, ge=2, le=512, description="hnsw: neighbours of an item")
    build_effort: int = Field(200, gt=0, description="hnsw: candidates per item while building")
    lists: int | None = Field(None, gt=0, description="ivf_pq: cells; default 4 sqrt(items)")
    code_bytes: int | None = Field(
        None, gt=0, description="ivf_pq: bytes per item, a divisor of dim; default dim / 2"
    )
    k: int = Field(20, gt=0, description="of recall@k against exact ranking")
    candidates: int = Field(
        100, gt=0, description="items fetched if exact scores put them in order afterwards"
    )
    target_recall: float = Field(
        0.95, gt=0, le=1, description="search effort is doubled until it is reached"
    )
    sample_users: int = Field(1000, gt=0, description="users who measure it, at most")


class ExportConfig(Section):
    """What `recssl export` writes."""

    data: Path | None = Field(None, description="data set, if it is no longer where it was")
    untrained: Untrained = Field(
        "auto",
        description="rows without a training interaction. auto: kept if the encoder reads "
        "features, else left out. features: items from a regression on their features",
    )
    fold_in: FoldInConfig = FoldInConfig()
    index: IndexConfig = IndexConfig()
    seed: int = Field(0, ge=0, description="of the sample of users")


class RecommendConfig(Section):
    """What is recommended, and to whom."""

    data: Path | None = Field(None, description="data set, if it is no longer where it was")
    untrained: Untrained = Field(
        "auto",
        description="items without a training interaction. auto: ranked if the encoder reads "
        "features, else left out. features: embedded by a regression on their features",
    )
    seen: Literal["all", "learnt"] = Field(
        "all", description="what is left out; learnt: test items, and valid ones, may be found"
    )
    unknown_items: Literal["refuse", "skip"] = Field(
        "refuse", description="items of a history that the data set does not have"
    )
    fold_in: FoldInConfig = FoldInConfig()
