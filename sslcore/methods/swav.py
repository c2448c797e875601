"""SwAV: predict from one view the prototypes to which another was assigned."""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from sslcore.distributed import own_part
from sslcore.errors import ShapeError
from sslcore.methods.method import StepOutput, ViewMethod, all_views, average, directed_pairs
from sslcore.methods.settings import About, HeadDims, MethodSection, Rates, ViewNeeds
from sslcore.modules.branch import Branch
from sslcore.modules.heads import projection_mlp
from sslcore.modules.progress import Progress
from sslcore.modules.prototypes import Prototypes
from sslcore.modules.queue import FeatureQueue
from sslcore.objectives.regression import negative_cosine
from sslcore.objectives.self_distillation import assignment_loss, mean_entropy
from sslcore.objectives.sinkhorn import sinkhorn
from sslcore.views import ViewBatch


class SwavConfig(MethodSection):
    """SwAV: predict the prototypes to which another view was assigned."""

    about: ClassVar[About] = About(
        family="clustering",
        title="SwAV",
        source='Caron et al., "SwAV", NeurIPS 2020, arXiv:2006.09882',
        needs="fewer prototypes than samples in batch and queue; no teacher, no negatives",
        choose="where images fall into groups, and where smaller crops make sense",
    )
    rates: ClassVar[Rates] = Rates(adamw=1e-3, sgd=0.06, lars=0.3)
    queue_field: ClassVar[str | None] = "queue_size"
    views: ClassVar[ViewNeeds] = ViewNeeds(local_views=4)

    name: Literal["swav"] = "swav"
    head_dims: HeadDims = Field((512, 128), description="layers after the encoder; paper 2048, 128")
    num_prototypes: int = Field(
        128, gt=1, description="about ten times the classes that one expects; paper 3000"
    )
    temperature: float = Field(0.1, gt=0, description="paper 0.1")
    epsilon: float = Field(
        0.03,
        gt=0,
        description="of the Sinkhorn step; paper 0.05, with which small data of much the same looks"
        " ends in one point: assignments are even, and there is nothing to learn",
    )
    queue_size: int = Field(
        1024, ge=0, description="past views that are assigned too; 0 for none; paper 3840 samples"
    )
    queue_from: float = Field(
        0.1, ge=0, le=1, description="share of the run before the queue is used; paper 0.04"
    )
    frozen_until: float = Field(
        0.02, ge=0, le=1, description="share of the run with fixed prototypes; paper 0.0025"
    )

    def build(self, encoder: nn.Module, feature_dim: int) -> ViewMethod:
        """See `MethodSection.build`."""
        dim = self.head_dims[-1]
        return Swav(
            Branch(encoder, projection_mlp([feature_dim, *self.head_dims])),
            Prototypes(self.num_prototypes, dim),
            FeatureQueue(self.queue_size, dim) if self.queue_size else None,
            temperature=self.temperature,
            epsilon=self.epsilon,
            queue_from=self.queue_from,
            frozen_until=self.frozen_until,
        )


class Swav(ViewMethod):
    """One branch and prototypes; the full views are assigned, all views predict.

    Source:
        Caron et al., "SwAV", NeurIPS 2020, arXiv:2006.09882. The loss is the mean over all pairs
        of an assigned full view and another view that predicts. The authors' code has one queue
        for each full view, and uses it once it is full; here both share one, of which as much is
        used as there is.
    """

    def __init__(
        self,
        student: Branch,
        prototypes: Prototypes,
        queue: FeatureQueue | None = None,
        *,
        temperature: float = 0.1,
        epsilon: float = 0.05,
        queue_from: float = 0.0,
        frozen_until: float = 0.0,
    ) -> None:
        """Join a branch and prototypes.

        Args:
            student: From a view to projections.
            prototypes: As wide as the projections.
            queue: Of past projections of full views, as wide as they are.
            temperature: See `assignment_loss`.
            epsilon: See `sinkhorn`.
            queue_from: Completed part of the run at which the queue is used, 0 to 1. It is filled
                from the start.
            frozen_until: Completed part of the run at which prototypes start to move.
        """
        super().__init__()
        self.student = student
        self.prototypes = prototypes
        self.queue = queue
        self.progress = Progress()
        self.temperature = temperature
        self.epsilon = epsilon
        self.queue_from = queue_from
        self.frozen_until = frozen_until

    def forward(self, batch: ViewBatch[Any]) -> StepOutput:
        """Predict the assignment of the full views from all other views; see `Method.forward`.

        Raises:
            ShapeError: If the batch has segments.
        """
        if batch.segments:
            raise ShapeError("SwAV has one set of prototypes and cannot keep segments apart")
        done = self.progress.value
        z = [self.student(view) for view in all_views(batch)]
        scores = [self.prototypes(each, frozen=done < self.frozen_until) for each in z]
        if self.queue is not None:
            self.queue.stage(*z[:2])
        past = self._past(done)
        targets = [self._assign(each.detach(), past) for each in scores[:2]]
        terms = {
            "positive_similarity": -negative_cosine(z[0], z[1]),
            "target_entropy": mean_entropy(torch.cat(targets)),
        }
        return average(
            [
                (
                    assignment_loss(scores[other], targets[full], temperature=self.temperature),
                    terms,
                )
                for full, other in directed_pairs(len(z))
            ]
        )

    @torch.no_grad()
    def _past(self, done: float) -> list[Tensor]:
        """Return the scores of this process's part of the queue, if it is used."""
        if self.queue is None or done < self.queue_from:
            return []
        return [self.prototypes(own_part(self.queue.pushed))]

    def _assign(self, scores: Tensor, past: list[Tensor]) -> Tensor:
        """Assign the samples of this step, beside those of the queue if there are any."""
        return sinkhorn(torch.cat([scores, *past]), epsilon=self.epsilon)[: len(scores)]

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Queue the projections of this step, of all processes."""
        self.progress.move(progress)
        if self.queue is not None:
            self.queue.push_staged()
