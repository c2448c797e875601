"""NNCLR: the nearest neighbour among past projections stands in for the other view."""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from sslcore.distributed import gather_rows
from sslcore.errors import ShapeError
from sslcore.methods.method import StepOutput, ViewMethod, all_views, average, directed_pairs
from sslcore.methods.settings import About, HeadDims, MethodSection, Rates
from sslcore.modules.branch import Branch
from sslcore.modules.heads import prediction_mlp, projection_mlp
from sslcore.modules.queue import FeatureQueue
from sslcore.numerics import in_full_precision, unit_rows
from sslcore.objectives.info_nce import info_nce_loss
from sslcore.objectives.regression import negative_cosine
from sslcore.views import ViewBatch


class NNCLRConfig(MethodSection):
    """NNCLR: the nearest past projection of a view is the partner of the other view."""

    about: ClassVar[About] = About(
        family="contrastive",
        title="NNCLR",
        source='Dwibedi et al., "NNCLR", ICCV 2021, arXiv:2104.14548',
        needs="a queue of past projections, a predictor, a large batch",
        choose="where augmentation alone does not show what two images have in common",
    )
    rates: ClassVar[Rates] = Rates(adamw=4e-3, sgd=0.06, lars=0.3)
    queue_field: ClassVar[str | None] = "queue_size"

    name: Literal["nnclr"] = "nnclr"
    head_dims: HeadDims = Field(
        (512, 512, 128), description="layers after the encoder; paper 2048, 2048, 256"
    )
    predictor_dim: PositiveInt = Field(512, description="hidden layer; paper 4096")
    queue_size: int = Field(1024, gt=0, description="projections, a batch or more; paper 98304")
    temperature: float = Field(0.2, gt=0, description="paper 0.1")

    def build(self, encoder: nn.Module, feature_dim: int) -> ViewMethod:
        """See `MethodSection.build`."""
        width = self.head_dims[-1]
        return NNCLR(
            Branch(encoder, projection_mlp([feature_dim, *self.head_dims], final_norm=True)),
            prediction_mlp(width, self.predictor_dim),
            FeatureQueue(self.queue_size, width),
            temperature=self.temperature,
        )


class NNCLR(ViewMethod):
    """One branch, a predictor and a queue of the first view's projections.

    Source:
        Dwibedi et al., "NNCLR", ICCV 2021, arXiv:2104.14548, equation 4 and its symmetric form.
        Added is that a sample's own past projections are no neighbours of it, if the batch has
        ids: of few samples they would be the nearest.
    """

    def __init__(
        self,
        student: Branch,
        predictor: nn.Module,
        queue: FeatureQueue,
        *,
        temperature: float = 0.1,
    ) -> None:
        """Join the parts.

        Args:
            student: From a view to projections.
            predictor: From projections to projections.
            queue: Among which neighbours are looked for, as wide as the projections.
            temperature: See `info_nce_loss`.
        """
        super().__init__()
        self.student = student
        self.predictor = predictor
        self.queue = queue
        self.temperature = temperature

    def forward(self, batch: ViewBatch[Any]) -> StepOutput:
        """Compare neighbours of the full views with all other views; see `Method.forward`.

        Raises:
            ShapeError: If the batch has segments.
        """
        if batch.segments:
            raise ShapeError("nnclr has one queue and cannot keep segments apart")
        z = [self.student(view) for view in all_views(batch)]
        p = [self.predictor(each) for each in z]
        own = self.queue.owned(batch.ids)
        neighbours = [_nearest(full.detach(), self.queue.keys, excluded=own) for full in z[:2]]
        self.queue.stage(z[0], ids=batch.ids)
        return average(
            [self._compare(neighbours[full], p[other]) for full, other in directed_pairs(len(z))]
        )

    def _compare(self, neighbours: Tensor, p: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss = info_nce_loss(gather_rows(neighbours), gather_rows(p), temperature=self.temperature)
        return loss, {"positive_similarity": -negative_cosine(neighbours, p)}

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Queue the projections of this step, of all processes."""
        self.queue.push_staged()


@in_full_precision
def _nearest(z: Tensor, keys: Tensor, *, excluded: Tensor | None) -> Tensor:
    """Return the nearest of `keys` to each row; bfloat16 could not tell look-alikes apart."""
    similarity = unit_rows(z) @ keys.T
    if excluded is not None:
        similarity = similarity.masked_fill(excluded, -torch.inf)
    return keys[similarity.argmax(dim=1)]
