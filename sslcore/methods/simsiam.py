"""SimSiam: predict the other view's projection, without teacher and without negatives."""

from typing import Any

from torch import Tensor, nn

from sslcore.diagnostics import spread
from sslcore.methods.method import StepOutput, ViewMethod, detached, two_views
from sslcore.modules.branch import Branch
from sslcore.objectives.regression import negative_cosine
from sslcore.views import ViewBatch, per_segment


class SimSiam(ViewMethod):
    """One branch with a predictor. Targets are detached, or all projections become one.

    Source:
        Chen, He, "SimSiam", CVPR 2021, arXiv:2011.10566, algorithm 1. The loss is the mean of both
        directions, -1 to 1.
    """

    def __init__(self, student: Branch, predictor: nn.Module) -> None:
        """Join a branch, whose head should end in a batch norm, and a predictor."""
        super().__init__()
        self.student = student
        self.predictor = predictor

    def forward(self, batch: ViewBatch[Any]) -> StepOutput:
        """Compare two views crosswise; see `Method.forward`."""
        view_a, view_b = two_views(batch)
        z_a, z_b = self.student(view_a), self.student(view_b)
        p_a, p_b = self.predictor(z_a), self.predictor(z_b)
        a_to_b, terms = per_segment(_compare, p_a, z_b.detach(), batch.segments)
        b_to_a, _ = per_segment(_compare, p_b, z_a.detach(), batch.segments)
        return StepOutput((a_to_b + b_to_a) / 2, detached(terms) | {"spread": spread(z_a.detach())})


def _compare(prediction: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    loss = negative_cosine(prediction, target)
    return loss, {"positive_similarity": -loss}
