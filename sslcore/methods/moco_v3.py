"""MoCo v3: contrast with a teacher's keys of the same batch, without a queue."""

from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from sslcore.distributed import gather_rows
from sslcore.methods.method import StepOutput, ViewMethod, all_views, average, directed_pairs
from sslcore.methods.settings import About, HeadDims, MethodSection, Pooling, Rates
from sslcore.modules.branch import Branch
from sslcore.modules.ema import EmaTeacher
from sslcore.modules.heads import prediction_mlp, projection_mlp
from sslcore.objectives.info_nce import info_nce_loss
from sslcore.objectives.regression import negative_cosine
from sslcore.schedules import cosine_ramp
from sslcore.views import ViewBatch, per_segment


class MoCoV3Config(MethodSection):
    """MoCo v3: contrast with a teacher's keys of the batch, in both directions."""

    about: ClassVar[About] = About(
        family="contrastive",
        title="MoCo v3",
        source='Chen et al., "MoCo v3", ICCV 2021, arXiv:2104.02057',
        needs="a teacher, a predictor, a large batch",
        choose="for vision transformers, where contrast is wanted",
    )
    rates: ClassVar[Rates] = Rates(adamw=4e-3, sgd=0.06, lars=0.3)
    pooling: ClassVar[Pooling] = "class"

    name: Literal["moco_v3"] = "moco_v3"
    head_dims: HeadDims = Field(
        (512, 512, 128), description="layers after the encoder; paper 4096, 4096, 256"
    )
    predictor_dim: PositiveInt = Field(512, description="hidden layer; paper 4096")
    predictor_norm: bool = Field(
        False, description="batch norm at its end; paper: for transformers, not for ResNet-50"
    )
    momentum: float = Field(
        0.99, ge=0, lt=1, description="of the teacher at first, rising to 1; paper 0.99"
    )
    temperature: float = Field(0.2, gt=0, description="paper 0.2 (transformers), 1 (ResNet-50)")

    def build(self, encoder: nn.Module, feature_dim: int) -> ViewMethod:
        """See `MethodSection.build`."""
        head = projection_mlp([feature_dim, *self.head_dims], final_norm=True)
        predictor = prediction_mlp(
            self.head_dims[-1], self.predictor_dim, final_norm=self.predictor_norm
        )
        return MoCoV3(
            Branch(encoder, head),
            predictor,
            momentum=self.momentum,
            temperature=self.temperature,
        )


class MoCoV3(ViewMethod):
    """Predictions of the student against the teacher's keys of all samples of the batch.

    Source:
        Chen et al., "MoCo v3", ICCV 2021, arXiv:2104.02057, algorithm 1. The loss is the sum of
        both directions, each with the factor `2 * temperature` of that algorithm.
    """

    def __init__(
        self,
        student: Branch,
        predictor: nn.Module,
        *,
        momentum: float = 0.99,
        temperature: float = 0.2,
    ) -> None:
        """Start the teacher as a copy of the student.

        Args:
            student: Encodes queries.
            predictor: From projections to projections.
            momentum: Of the teacher's weights at the start of the run, 0 to 1.
            temperature: See `info_nce_loss`.
        """
        super().__init__()
        self.student = student
        self.predictor = predictor
        self.teacher = EmaTeacher(self.student)
        self.momentum = momentum
        self.temperature = temperature

    def forward(self, batch: ViewBatch[Any]) -> StepOutput:
        """Find the teacher's full views from all other views; see `Method.forward`."""
        views = all_views(batch)
        queries = [self.predictor(self.student(view)) for view in views]
        keys = [self.teacher(view) for view in views[:2]]
        loss, logs = average(
            [
                per_segment(self._compare, queries[other], keys[full], batch.segments)
                for full, other in directed_pairs(len(views))
            ]
        )
        return StepOutput(2 * loss, logs)

    def _compare(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss = info_nce_loss(gather_rows(queries), gather_rows(keys), temperature=self.temperature)
        similarity = -negative_cosine(queries, keys)
        return 2 * self.temperature * loss, {"positive_similarity": similarity}

    def after_step(self, progress: float) -> None:
        """Move the teacher; its momentum rises to 1 at the end of the run."""
        momentum = cosine_ramp(progress, start=self.momentum, end=1.0)
        self.teacher.update(self.student, momentum=momentum)
