"""Triplet: each view nearer to its partner than to mined negatives, by a margin."""

from typing import Any, Literal

import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.miners import BatchEasyHardMiner
from torch import Tensor

from sslcore.distributed import gather_rows
from sslcore.errors import ShapeError
from sslcore.methods.method import StepOutput, ViewMethod, two_views
from sslcore.modules.branch import Branch
from sslcore.modules.queue import FeatureQueue
from sslcore.numerics import unit_rows
from sslcore.objectives.metric_learning import AlignedViews
from sslcore.objectives.regression import negative_cosine
from sslcore.views import ViewBatch, per_segment

Mining = Literal["semihard", "hard"]


def triplet_objective(*, margin: float = 0.2, mining: Mining = "semihard") -> AlignedViews:
    """Build the triplet loss on distances of rows at length 1, one mined negative per view.

    Args:
        margin: By which a negative must be farther away than the partner, 0 to 2.
        mining: The nearest negative, or the nearest of those farther away than the partner.

    Source:
        Schroff et al., "FaceNet", CVPR 2015, arXiv:1503.03832, equation 3, with distances instead
        of their squares, and the mean over the triplets that still violate the margin.
    """
    distance = LpDistance(normalize_embeddings=True)
    miner = BatchEasyHardMiner(pos_strategy="hard", neg_strategy=mining, distance=distance)
    return AlignedViews(TripletMarginLoss(margin=margin, distance=distance), miner)


class Triplet(ViewMethod):
    """Project both views and compare them by `objective`, if wanted also with past projections.

    Source:
        The memory is that of Wang et al., "Cross-batch memory", CVPR 2020, arXiv:1912.06798. It is
        a `FeatureQueue` and not pytorch-metric-learning's `CrossBatchMemory`, whose position is
        not in the state dict and which changes within the forward pass.
    """

    def __init__(
        self, student: Branch, objective: AlignedViews, memory: FeatureQueue | None = None
    ) -> None:
        """Join a branch and an objective.

        Args:
            student: From a view to projections.
            objective: Such as `triplet_objective`.
            memory: As wide as the projections; see `Moco` on its size.
        """
        super().__init__()
        self.student = student
        self.objective = objective
        self.memory = memory
        self._pending: list[Tensor] = []

    def forward(self, batch: ViewBatch[Any]) -> StepOutput:
        """Compare two views; see `Method.forward`.

        Raises:
            ShapeError: If the batch has segments and the method a memory.
        """
        if batch.segments and self.memory is not None:
            raise ShapeError("the triplet method has one memory and cannot keep segments apart")
        view_a, view_b = two_views(batch)
        z_a, z_b = self.student(view_a), self.student(view_b)
        loss, _ = per_segment(self._compare, z_a, z_b, batch.segments)
        if self.training and self.memory is not None:
            self._pending = [unit_rows(z.detach()) for z in (z_a, z_b)]
        return StepOutput(
            loss, {"positive_similarity": -negative_cosine(z_a.detach(), z_b.detach())}
        )

    def _compare(self, z_a: Tensor, z_b: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        negatives = None if self.memory is None else self.memory.keys
        result: tuple[Tensor, dict[str, Tensor]] = self.objective(
            gather_rows(z_a), gather_rows(z_b), negatives
        )
        return result

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Remember the projections of this step, of all processes."""
        if self.memory is not None:
            for projections in self._pending:
                self.memory.push(gather_rows(projections))
        self._pending = []
