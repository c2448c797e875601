"""BYOL: predict a slowly moving teacher's projection of the other view."""

from typing import Any

from torch import Tensor, nn

from sslcore.diagnostics import spread
from sslcore.methods.method import StepOutput, ViewMethod, detached, two_views
from sslcore.modules.branch import Branch
from sslcore.modules.ema import EmaTeacher
from sslcore.objectives.regression import normalised_distance
from sslcore.schedules import cosine_ramp
from sslcore.views import ViewBatch, per_segment


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
        """Compare two views crosswise; see `Method.forward`."""
        view_a, view_b = two_views(batch)
        z_a, z_b = self.student(view_a), self.student(view_b)
        p_a, p_b = self.predictor(z_a), self.predictor(z_b)
        a_to_b, terms = per_segment(_compare, p_a, self.teacher(view_b), batch.segments)
        b_to_a, _ = per_segment(_compare, p_b, self.teacher(view_a), batch.segments)
        return StepOutput(a_to_b + b_to_a, detached(terms) | {"spread": spread(z_a.detach())})

    def after_step(self, progress: float) -> None:
        """Move the teacher; its momentum rises to 1 at the end of the run."""
        momentum = cosine_ramp(progress, start=self.momentum, end=1.0)
        self.teacher.update(self.student, momentum=momentum)


def _compare(prediction: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    distance = normalised_distance(prediction, target)
    return distance, {"positive_similarity": 1 - distance / 2}
