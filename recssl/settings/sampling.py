"""Which pairs a step trains on, what they are compared with, and what that goes together with."""

from typing import Literal

from pydantic import Field, PositiveInt

from recssl.methods.settings import (
    BilateralSoftmaxConfig,
    BPRConfig,
    BUIRConfig,
    DirectAUConfig,
    RankingConfig,
    SampledSoftmaxConfig,
    SelfCFConfig,
    TripletRankingConfig,
)
from sslcore.config import Section

_SHARED = ("shared", "mixed")  # drawn once for all rows


class SamplingConfig(Section):
    """Which pairs a step trains on, and which items they are compared with."""

    positives: Literal["edge", "user"] = Field("edge", description="drawn uniformly")
    negatives: Literal["in_batch", "uniform", "popularity", "hard", "shared", "mixed"] = Field(
        "in_batch",
        description="in_batch: the liked items of the other rows; uniform, popularity, hard:"
        " drawn for each row; shared: drawn once for all rows, what a row's user likes left out;"
        " mixed: in_batch and shared together",
    )
    count: PositiveInt | None = Field(
        None, description="drawn negatives: per row, 1; shared, mixed: for all rows together, 1024"
    )
    alpha: float | None = Field(
        None,
        ge=0,
        description="exponent of the popularity by which is drawn: popularity 0.75; shared,"
        " mixed 0, which is uniform",
    )
    candidates: int = Field(8, gt=0, description="of which hard takes the best scored")
    log_q: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the correction for how often an item is drawn: in_batch, shared,"
        " mixed",
    )
    mask: Literal["same_item", "positives"] = Field(
        "same_item",
        description="left out from the items of this batch and of the queue: the row's own item;"
        " positives: all the user likes",
    )
    queue: int = Field(
        0,
        ge=0,
        description="liked items of past steps that are candidates too, as they were embedded"
        " then; at least a batch",
    )

    @property
    def is_shared(self) -> bool:
        """Whether negatives are drawn once for all rows."""
        return self.negatives in _SHARED

    @property
    def uses_batch(self) -> bool:
        """Whether the liked items of other rows are candidates."""
        return self.negatives in ("in_batch", "mixed")

    @property
    def number(self) -> int:
        """Drawn negatives, None resolved."""
        return self.count or (1024 if self.is_shared else 1)

    @property
    def exponent(self) -> float:
        """Of the popularity, None resolved."""
        if self.alpha is not None:
            return self.alpha
        return 0.0 if self.is_shared else 0.75


def require_use(sampling: SamplingConfig, ranking: RankingConfig) -> None:
    """Refuse settings that the ranking loss needs otherwise, or would not read.

    Raises:
        ValueError: Naming the setting and its way out.
    """
    if isinstance(ranking, BPRConfig) and (sampling.uses_batch or sampling.is_shared):
        raise ValueError("ranking bpr needs drawn negatives; set sampling.negatives: uniform")
    _require_use_of_log_q(sampling)
    if sampling.queue and not (sampling.uses_batch or sampling.is_shared):
        raise ValueError(
            f"sampling.queue adds candidates for all rows, sampling.negatives {sampling.negatives}"
            " draws for each row; set sampling.queue: 0, or sampling.negatives: in_batch"
        )
    reads_mask = sampling.uses_batch or sampling.queue
    if not reads_mask and sampling.mask == "positives":
        raise ValueError(
            "sampling.mask leaves out in-batch columns, and drawn negatives are never liked;"
            " set sampling.mask: same_item"
        )
    has_none = isinstance(ranking, DirectAUConfig | BUIRConfig | SelfCFConfig)
    if has_none and sampling.negatives != "in_batch":
        raise ValueError(
            f"ranking {ranking.name} has no negatives; set sampling.negatives: in_batch"
        )
    if not isinstance(ranking, SampledSoftmaxConfig | BilateralSoftmaxConfig):
        _require_softmax(sampling, ranking)


def _require_use_of_log_q(sampling: SamplingConfig) -> None:
    if not sampling.log_q:
        return
    if not (sampling.uses_batch or sampling.is_shared):
        raise ValueError("sampling.log_q corrects in-batch or shared negatives; set it to 0")
    if not (sampling.uses_batch or sampling.queue or sampling.exponent):
        raise ValueError(
            "sampling.log_q corrects popularity, and these negatives are uniform; set it to 0"
        )


def _require_softmax(sampling: SamplingConfig, ranking: RankingConfig) -> None:
    if sampling.is_shared:
        other = "uniform" if isinstance(ranking, TripletRankingConfig) else "in_batch"
        raise ValueError(
            f"ranking {ranking.name} does not compare all rows with the same negatives;"
            f" set sampling.negatives: {other}"
        )
    if sampling.queue:
        raise ValueError(
            f"ranking {ranking.name} does not read the queue; set sampling.queue: 0, or"
            " ranking.name: sampled_softmax"
        )
    if sampling.log_q:
        raise ValueError(f"ranking {ranking.name} has no logits to correct; set sampling.log_q: 0")
    if sampling.mask == "positives" and not isinstance(ranking, TripletRankingConfig):
        raise ValueError(
            f"ranking {ranking.name} does not read the mask; set sampling.mask: same_item"
        )
