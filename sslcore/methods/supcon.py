"""SupCon: contrast in which all images of a class are partners."""

from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from sslcore.distributed import gather_rows
from sslcore.errors import ShapeError
from sslcore.methods.method import StepOutput, ViewMethod, all_views, average, view_pairs
from sslcore.methods.settings import About, HeadDims, MethodSection, Rates
from sslcore.modules.branch import Branch
from sslcore.modules.heads import projection_mlp
from sslcore.objectives.regression import negative_cosine
from sslcore.objectives.sup_con import sup_con_loss
from sslcore.views import ViewBatch


class SupConConfig(MethodSection):
    """SupCon: all images of a class are partners; those without a label have their own views."""

    about: ClassVar[About] = About(
        family="contrastive",
        title="SupCon",
        source='Khosla et al., "Supervised contrastive learning", NeurIPS 2020, arXiv:2004.11362',
        needs="labels of some images, and a large batch",
        choose="where labels are many, and the embedding itself is what is wanted",
    )
    rates: ClassVar[Rates] = Rates(adamw=4e-3, sgd=0.06, lars=0.3)
    uses_labels: ClassVar[bool] = True

    name: Literal["supcon"] = "supcon"
    head_dims: HeadDims = Field((512, 128), description="layers after the encoder; paper 2048, 128")
    temperature: float = Field(0.1, gt=0, description="paper 0.1")

    def build(self, encoder: nn.Module, feature_dim: int) -> ViewMethod:
        """See `MethodSection.build`."""
        head = projection_mlp([feature_dim, *self.head_dims])
        return SupCon(Branch(encoder, head), temperature=self.temperature)


class SupCon(ViewMethod):
    """Project all views and contrast classes; see `sup_con_loss`."""

    def __init__(self, student: Branch, *, temperature: float = 0.1) -> None:
        """Take a branch from a view to projections, and the temperature of the loss."""
        super().__init__()
        self.student = student
        self.temperature = temperature

    def forward(self, batch: ViewBatch[Any]) -> StepOutput:
        """Compare each view with each full view; see `Method.forward`.

        Raises:
            ShapeError: If the batch has segments, whose labels would be of different things, or
                no labels.
        """
        if batch.segments:
            raise ShapeError("supcon has labels of one kind and cannot keep segments apart")
        if batch.labels is None:
            raise ShapeError("supcon learns from labels, and the batch brings none")
        labels = gather_rows(batch.labels)
        z = [gather_rows(self.student(view)) for view in all_views(batch)]
        return average(
            [self._compare(z[full], z[other], labels) for full, other in view_pairs(len(z))]
        )

    def _compare(
        self, z_a: Tensor, z_b: Tensor, labels: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        loss = sup_con_loss(z_a, z_b, labels=labels, temperature=self.temperature)
        return loss, {"positive_similarity": -negative_cosine(z_a, z_b)}
