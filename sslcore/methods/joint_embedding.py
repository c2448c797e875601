"""One encoder, two views or more, one objective without state."""

from typing import Any

from torch import Tensor, nn

from sslcore.distributed import gather_rows
from sslcore.methods.method import StepOutput, ViewMethod, all_views, average, view_pairs
from sslcore.modules.branch import Branch
from sslcore.views import ViewBatch, per_segment


class JointEmbedding(ViewMethod):
    """Project all views and hand pairs of them to `objective`; SimCLR, Barlow Twins, VICReg."""

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
        """Compare each view with each full view; see `Method.forward`."""
        return self._compare_all([self.student(view) for view in all_views(batch)], batch)

    def _compare_all(self, z: list[Tensor], batch: ViewBatch[Any]) -> StepOutput:
        return average(
            [
                per_segment(self._compare, z[full], z[other], batch.segments)
                for full, other in view_pairs(len(z))
            ]
        )

    def _compare(self, z_a: Tensor, z_b: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        result: tuple[Tensor, dict[str, Tensor]] = self.objective(
            gather_rows(z_a), gather_rows(z_b)
        )
        return result
