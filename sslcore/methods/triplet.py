"""Triplet: each view nearer to its partner than to mined negatives, by a margin."""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.miners import BatchEasyHardMiner
from torch import Tensor, nn

from sslcore.distributed import gather_rows
from sslcore.errors import ShapeError
from sslcore.methods.method import StepOutput, ViewMethod, all_views, average, view_pairs
from sslcore.methods.settings import About, HeadDims, MethodSection, Rates
from sslcore.modules.branch import Branch
from sslcore.modules.heads import projection_mlp
from sslcore.modules.queue import FeatureQueue
from sslcore.objectives.metric_learning import AlignedViews
from sslcore.views import ViewBatch, per_segment

Mining = Literal["semihard", "hard"]


class TripletConfig(MethodSection):
    """Triplet margin loss on mined negatives."""

    about: ClassVar[About] = About(
        family="contrastive",
        title="Triplet",
        source='Schroff et al., "FaceNet", CVPR 2015, arXiv:1503.03832',
        needs="negatives that are mined from the batch, and from a memory if wanted",
        choose="where distances themselves are used later, as in retrieval",
    )
    rates: ClassVar[Rates] = Rates(adamw=4e-3, sgd=0.06, lars=0.3)
    queue_field: ClassVar[str | None] = "memory_size"

    name: Literal["triplet"] = "triplet"
    head_dims: HeadDims = Field((512, 128), description="layers after the encoder; paper 128")
    margin: float = Field(0.2, gt=0, le=2, description="of distances at length 1; paper 0.2")
    mining: Mining = Field("semihard", description="negatives; paper semihard")
    memory_size: int = Field(
        0, ge=0, description="past projections as negatives, a batch or more; 0 for none"
    )

    def build(self, encoder: nn.Module, feature_dim: int) -> ViewMethod:
        """See `MethodSection.build`."""
        student = Branch(encoder, projection_mlp([feature_dim, *self.head_dims]))
        memory = None
        if self.memory_size:
            memory = FeatureQueue(self.memory_size, self.head_dims[-1])
        return Triplet(student, triplet_objective(margin=self.margin, mining=self.mining), memory)


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
    loss = TripletMarginLoss(margin=margin, distance=distance)
    return AlignedViews(loss, triplet_miner(mining, distance))


def triplet_miner(mining: Mining, distance: nn.Module) -> nn.Module:
    """Build what chooses for each row its farthest partner and one negative, near by `distance`."""
    miner: nn.Module = BatchEasyHardMiner("hard", mining, distance=distance)
    return miner


class Triplet(ViewMethod):
    """Project both views and compare them by `objective`, if wanted also with past projections.

    Source:
        The memory is that of Wang et al., "Cross-batch memory", CVPR 2020, arXiv:1912.06798. It is
        a `FeatureQueue` and not pytorch-metric-learning's `CrossBatchMemory`, whose position is
        not in the state dict and which changes within the forward pass. Past projections of the
        samples of a batch are left out, if it has ids: they are no negatives.
    """

    def __init__(
        self, student: Branch, objective: AlignedViews, memory: FeatureQueue | None = None
    ) -> None:
        """Join a branch and an objective.

        Args:
            student: From a view to projections.
            objective: Such as `triplet_objective`.
            memory: As wide as the projections.
        """
        super().__init__()
        self.student = student
        self.objective = objective
        self.memory = memory

    def forward(self, batch: ViewBatch[Any]) -> StepOutput:
        """Compare two views; see `Method.forward`.

        Raises:
            ShapeError: If the batch has segments and the method a memory.
        """
        if batch.segments and self.memory is not None:
            raise ShapeError("the triplet method has one memory and cannot keep segments apart")
        z = [self.student(view) for view in all_views(batch)]
        negatives = None
        if self.memory is not None:
            ids = None if batch.ids is None else gather_rows(batch.ids)
            negatives = self.memory.of_others(ids)
            self.memory.stage(*z[:2], ids=batch.ids)

        def compare(z_a: Tensor, z_b: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            result: tuple[Tensor, dict[str, Tensor]] = self.objective(
                gather_rows(z_a), gather_rows(z_b), negatives
            )
            return result

        return average(
            [
                per_segment(compare, z[full], z[other], batch.segments)
                for full, other in view_pairs(len(z))
            ]
        )

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Remember the projections of this step, of all processes."""
        if self.memory is not None:
            self.memory.push_staged()
