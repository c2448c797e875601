"""LeJEPA: agree across views, with projections that are normally distributed."""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from sslcore.distributed import gather_rows
from sslcore.methods.method import StepOutput, ViewMethod, all_views, average
from sslcore.methods.settings import About, HeadDims, MethodSection, Rates
from sslcore.modules.branch import Branch
from sslcore.modules.heads import projection_mlp
from sslcore.numerics import in_full_precision
from sslcore.objectives.regression import negative_cosine
from sslcore.objectives.sigreg import sigreg_loss
from sslcore.random import SampleRandom, derive_keys
from sslcore.views import ViewBatch


class LeJepaConfig(MethodSection):
    """LeJEPA: agree across views, with projections that are normally distributed."""

    about: ClassVar[About] = About(
        family="non-contrastive",
        title="LeJEPA",
        source='Balestriero, LeCun, "LeJEPA", 2025, arXiv:2511.08544',
        needs="one weight to choose; no negatives, no teacher, no predictor",
        choose="where collapse must be ruled out by the loss itself, with little to tune",
    )
    rates: ClassVar[Rates] = Rates(adamw=4e-3, sgd=0.03, lars=0.2)

    name: Literal["lejepa"] = "lejepa"
    head_dims: HeadDims = Field(
        (512, 512, 64), description="layers after the encoder; authors 2048, 2048, 16 to 128"
    )
    weight: float = Field(
        0.05, gt=0, lt=1, description="of the distribution; agreement has the rest; paper 0.05"
    )
    directions: PositiveInt = Field(
        256, description="along which it is judged in a step; paper 1024, authors' example 256"
    )

    def build(self, encoder: nn.Module, feature_dim: int) -> ViewMethod:
        """See `MethodSection.build`."""
        student = Branch(encoder, projection_mlp([feature_dim, *self.head_dims]))
        return LeJepa(student, weight=self.weight, directions=self.directions)


class LeJepa(ViewMethod):
    """All views near the mean of the full views, and each view's projections normal.

    Source:
        Balestriero, LeCun, "LeJEPA", 2025, arXiv:2511.08544, section 5.1 and algorithm 2. Both
        terms are means over the views; nothing is detached.
    """

    steps: Tensor

    def __init__(self, student: Branch, *, weight: float = 0.05, directions: int = 256) -> None:
        """Take a branch from a view to projections; see `LeJepaConfig` for the rest."""
        super().__init__()
        self.student = student
        self.weight = weight
        self.directions = directions
        self.register_buffer("steps", torch.zeros(1, dtype=torch.int64))

    def forward(self, batch: ViewBatch[Any]) -> StepOutput:
        """Compare all views with the full ones; see `Method.forward`."""
        z = [self.student(view) for view in all_views(batch)]
        parts = (each.split(list(batch.segments) or len(each)) for each in z)
        return average(
            [
                self._compare([gather_rows(each) for each in part])
                for part in zip(*parts, strict=True)
            ]
        )

    def _compare(self, z: list[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        agreement = _agreement(*z)
        lines = self._draw(z[0])
        normality = torch.stack([sigreg_loss(each, lines) for each in z]).mean()
        loss = (1 - self.weight) * agreement + self.weight * normality
        terms = {"agreement": agreement, "normality": normality}
        return loss, {**terms, "positive_similarity": -negative_cosine(z[0], z[1])}

    def _draw(self, z: Tensor) -> Tensor:
        """Return directions, `[dim, directions]`, other ones in each step, the same everywhere."""
        random = SampleRandom(derive_keys(self.steps))
        (lines,) = random.normal(shape=(z.shape[1], self.directions))
        wide = torch.promote_types(z.dtype, torch.float32)  # bfloat16 is no length 1
        return F.normalize(lines.to(z.device, wide), dim=0)

    def after_step(self, progress: float) -> None:
        """Draw other directions in the next step."""
        self.steps += 1


@in_full_precision
def _agreement(*z: Tensor) -> Tensor:
    """Return the mean squared distance of all views from the centre of the two full ones."""
    center = (z[0] + z[1]) / 2
    return torch.stack([F.mse_loss(each, center) for each in z]).mean()
