"""SimCLR, VICReg, Barlow Twins: one encoder, two views, one objective without state."""

from typing import Any

from torch import Tensor, nn

from sslcore.distributed import gather_rows
from sslcore.methods.method import StepOutput, ViewMethod, detached, two_views
from sslcore.modules.branch import Branch
from sslcore.views import ViewBatch, per_segment


class JointEmbedding(ViewMethod):
    """Project both views and hand them to `objective`."""

    def __init__(self, student: Branch, objective: nn.Module) -> None:
        """Join a branch and an objective.

        Args:
            student: From a view to projections.
            objective: From two aligned `[batch, dim]` tensors to a scalar loss and its terms.
        """
        super().__init__()
        self.student = student
        self.objective = objective

    def forward(self, batch: ViewBatch[Any]) -> StepOutput:
        """Compare two views; see `Method.forward`."""
        view_a, view_b = two_views(batch)
        z_a, z_b = self.student(view_a), self.student(view_b)
        loss, terms = per_segment(self._compare, z_a, z_b, batch.segments)
        return StepOutput(loss, detached(terms))

    def _compare(self, z_a: Tensor, z_b: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        result: tuple[Tensor, dict[str, Tensor]] = self.objective(
            gather_rows(z_a), gather_rows(z_b)
        )
        return result
