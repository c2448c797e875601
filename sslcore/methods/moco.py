"""MoCo: contrast with a queue of keys from an averaged encoder."""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from sslcore.errors import ShapeError
from sslcore.methods.method import StepOutput, ViewMethod, all_views, average
from sslcore.methods.settings import About, HeadDims, MethodSection, Rates
from sslcore.modules.branch import Branch
from sslcore.modules.ema import EmaTeacher
from sslcore.modules.heads import projection_mlp
from sslcore.modules.queue import FeatureQueue
from sslcore.objectives.info_nce import info_nce_loss
from sslcore.objectives.regression import negative_cosine
from sslcore.views import ViewBatch


class MoCoConfig(MethodSection):
    """MoCo: contrast with a queue of past keys of a teacher, through one linear layer."""

    about: ClassVar[About] = About(
        family="contrastive",
        title="MoCo",
        source='He et al., "Momentum contrast", CVPR 2020, arXiv:1911.05722',
        needs="a teacher and a queue, which bring the negatives that a small batch lacks",
        choose="to compare with it; MoCo v2 is better nearly everywhere",
    )
    rates: ClassVar[Rates] = Rates(adamw=4e-3, sgd=0.03, lars=0.3)
    queue_field: ClassVar[str | None] = "queue_size"

    name: Literal["moco"] = "moco"
    head_dims: HeadDims = Field((128,), description="layers after the encoder; paper 128")
    queue_size: int = Field(1024, gt=0, description="keys, a batch or more; paper 65536")
    momentum: float = Field(0.99, ge=0, lt=1, description="of the teacher; paper 0.999")
    temperature: float = Field(0.2, gt=0, description="paper 0.07")

    def build(self, encoder: nn.Module, feature_dim: int) -> ViewMethod:
        """See `MethodSection.build`."""
        return _build(self, encoder, feature_dim)


class MoCoV2Config(MethodSection):
    """MoCo v2: contrast with a queue of past keys of a teacher."""

    about: ClassVar[About] = About(
        family="contrastive",
        title="MoCo v2",
        source='Chen et al., "MoCo v2", 2020, arXiv:2003.04297',
        needs="a teacher and a queue, which bring the negatives that a small batch lacks",
        choose="where memory allows small batches only",
    )
    rates: ClassVar[Rates] = Rates(adamw=4e-3, sgd=0.06, lars=0.3)
    queue_field: ClassVar[str | None] = "queue_size"

    name: Literal["moco_v2"] = "moco_v2"
    head_dims: HeadDims = Field((512, 128), description="layers after the encoder; paper 2048, 128")
    queue_size: int = Field(1024, gt=0, description="keys, a batch or more; paper 65536")
    momentum: float = Field(0.99, ge=0, lt=1, description="of the teacher; paper 0.999")
    temperature: float = Field(0.2, gt=0, description="paper 0.2")

    def build(self, encoder: nn.Module, feature_dim: int) -> ViewMethod:
        """See `MethodSection.build`."""
        return _build(self, encoder, feature_dim)


def _build(config: MoCoConfig | MoCoV2Config, encoder: nn.Module, feature_dim: int) -> ViewMethod:
    head = projection_mlp([feature_dim, *config.head_dims], hidden_norm=False)
    return Moco(
        Branch(encoder, head),
        FeatureQueue(config.queue_size, config.head_dims[-1]),
        momentum=config.momentum,
        temperature=config.temperature,
    )


class Moco(ViewMethod):
    """Query encoder against a teacher's keys, with past keys as negatives.

    Source:
        He et al., "Momentum contrast", CVPR 2020, arXiv:1911.05722; head, augmentation and
        schedule of version 2 in arXiv:2003.04297. Keys are not shuffled between processes: batch
        norm sees the keys of all of them, as it does on one process.
    """

    def __init__(
        self,
        student: Branch,
        queue: FeatureQueue,
        *,
        momentum: float = 0.999,
        temperature: float = 0.2,
    ) -> None:
        """Start the teacher as a copy of the student.

        Args:
            student: Encodes queries.
            queue: As wide as the projections.
            momentum: Of the teacher's weights, 0 to 1.
            temperature: See `info_nce_loss`.
        """
        super().__init__()
        self.student = student
        self.teacher = EmaTeacher(self.student)
        self.queue = queue
        self.momentum = momentum
        self.temperature = temperature

    def forward(self, batch: ViewBatch[Any]) -> StepOutput:
        """Compare the student's first view with the teacher's second; see `Method.forward`.

        Smaller crops, if there are any, are compared with the teacher's second view too. A sample
        is not compared with its own past keys, if the batch has ids.

        Raises:
            ShapeError: If the batch has segments.
        """
        if batch.segments:
            raise ShapeError("MoCo has one queue and cannot keep segments apart")
        view_a, view_b, *crops = all_views(batch)
        keys, own = self.teacher(view_b), self.queue.owned(batch.ids)
        self.queue.stage(keys, ids=batch.ids)
        return average([self._compare(self.student(view), keys, own) for view in (view_a, *crops)])

    def _compare(
        self, queries: Tensor, keys: Tensor, own: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        loss = info_nce_loss(
            queries,
            keys,
            negatives=self.queue.keys,
            excluded=own,
            temperature=self.temperature,
        )
        return loss, {"positive_similarity": -negative_cosine(queries, keys)}

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Queue the keys of this step, of all processes, and move the teacher."""
        self.queue.push_staged()
        self.teacher.update(self.student, momentum=self.momentum)
