"""SimSiam: predict the other view's projection, without teacher and without negatives."""

from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from sslcore.diagnostics import spread
from sslcore.methods.method import StepOutput, ViewMethod, all_views, average, directed_pairs
from sslcore.methods.settings import About, HeadDims, MethodSection, Rates
from sslcore.modules.branch import Branch
from sslcore.modules.heads import prediction_mlp, projection_mlp
from sslcore.objectives.regression import negative_cosine
from sslcore.views import ViewBatch, per_segment


class SimSiamConfig(MethodSection):
    """SimSiam: predict the other view's projection, without a teacher."""

    about: ClassVar[About] = About(
        family="non-contrastive",
        title="SimSiam",
        source='Chen, He, "SimSiam", CVPR 2021, arXiv:2011.10566',
        needs="a predictor and batch norm in the heads; no negatives, no teacher",
        choose="as the simplest of its kind; on little data it collapses sooner than others",
    )
    rates: ClassVar[Rates] = Rates(adamw=5e-4, sgd=0.05, lars=0.1)

    name: Literal["simsiam"] = "simsiam"
    head_dims: HeadDims = Field(
        (512, 512, 512), description="layers after the encoder; paper 2048, 2048, 2048"
    )
    predictor_dim: PositiveInt = Field(
        128, description="hidden layer, narrower than the projection; paper 512"
    )

    def build(self, encoder: nn.Module, feature_dim: int) -> ViewMethod:
        """See `MethodSection.build`."""
        head = projection_mlp([feature_dim, *self.head_dims], final_norm=True)
        predictor = prediction_mlp(self.head_dims[-1], self.predictor_dim)
        return SimSiam(Branch(encoder, head), predictor)


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
        """Predict the full views from all other views; see `Method.forward`."""
        z = [self.student(view) for view in all_views(batch)]
        p = [self.predictor(each) for each in z]
        loss, logs = average(
            [
                per_segment(_compare, p[other], z[full].detach(), batch.segments)
                for full, other in directed_pairs(len(z))
            ]
        )
        return StepOutput(loss, {**logs, "spread": spread(z[0].detach())})


def _compare(prediction: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    loss = negative_cosine(prediction, target)
    return loss, {"positive_similarity": -loss}
