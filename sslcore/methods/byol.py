"""BYOL: predict a slowly moving teacher's projection of the other view."""

from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from sslcore.diagnostics import spread
from sslcore.methods.method import StepOutput, ViewMethod, all_views, average, directed_pairs
from sslcore.methods.settings import About, HeadDims, MethodSection, Rates
from sslcore.modules.branch import Branch
from sslcore.modules.ema import EmaTeacher
from sslcore.modules.heads import prediction_mlp, projection_mlp
from sslcore.objectives.regression import normalised_distance
from sslcore.schedules import cosine_ramp
from sslcore.views import ViewBatch, per_segment


class ByolConfig(MethodSection):
    """BYOL: predict a teacher's projection of the other view."""

    about: ClassVar[About] = About(
        family="non-contrastive",
        title="BYOL",
        source='Grill et al., "Bootstrap your own latent", NeurIPS 2020, arXiv:2006.07733',
        needs="a teacher, a predictor, batch norm in the heads; no negatives",
        choose="for small batches, with a few thousand steps or more",
    )
    rates: ClassVar[Rates] = Rates(adamw=4e-3, sgd=0.06, lars=0.2)

    name: Literal["byol"] = "byol"
    head_dims: HeadDims = Field((512, 128), description="layers after the encoder; paper 4096, 256")
    predictor_dim: PositiveInt = Field(512, description="hidden layer; paper 4096")
    momentum: float = Field(
        0.99, ge=0, lt=1, description="of the teacher at first, rising to 1; paper 0.996"
    )

    def build(self, encoder: nn.Module, feature_dim: int) -> ViewMethod:
        """See `MethodSection.build`."""
        student = Branch(encoder, projection_mlp([feature_dim, *self.head_dims]))
        predictor = prediction_mlp(self.head_dims[-1], self.predictor_dim)
        return Byol(student, predictor, momentum=self.momentum)


class Byol(ViewMethod):
    """Student with a predictor against an averaged teacher, in both directions.

    Source:
        Grill et al., "Bootstrap your own latent", NeurIPS 2020, arXiv:2006.07733. The loss is the
        sum of both directions, 0 to 8.
    """

    def __init__(self, student: Branch, predictor: nn.Module, *, momentum: float = 0.996) -> None:
        """Start the teacher as a copy of the student.

        Args:
            student: Encodes the view that predicts.
            predictor: From projections to projections.
            momentum: Of the teacher's weights at the start of the run, 0 to 1.
        """
        super().__init__()
        self.student = student
        self.predictor = predictor
        self.teacher = EmaTeacher(self.student)
        self.momentum = momentum

    def forward(self, batch: ViewBatch[Any]) -> StepOutput:
        """Predict the teacher's full views from all other views; see `Method.forward`."""
        views = all_views(batch)
        z = [self.student(view) for view in views]
        p = [self.predictor(each) for each in z]
        targets = [self.teacher(view) for view in views[:2]]
        loss, logs = average(
            [
                per_segment(_compare, p[other], targets[full], batch.segments)
                for full, other in directed_pairs(len(views))
            ]
        )
        return StepOutput(2 * loss, {**logs, "spread": spread(z[0].detach())})

    def after_step(self, progress: float) -> None:
        """Move the teacher; its momentum rises to 1 at the end of the run."""
        momentum = cosine_ramp(progress, start=self.momentum, end=1.0)
        self.teacher.update(self.student, momentum=momentum)


def _compare(prediction: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    distance = normalised_distance(prediction, target)
    return distance, {"positive_similarity": 1 - distance / 2}
