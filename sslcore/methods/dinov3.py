"""DINOv3: DINOv2 whose patches are held, late in the run, to how alike they once were."""

import math
from typing import Any, ClassVar, Literal, NamedTuple, Self, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from sslcore.methods.dinov2 import DinoV2, Masking, TokenBranch, TokenDistillationSection, Weights
from sslcore.methods.method import StepOutput, ViewMethod, all_views
from sslcore.methods.self_distillation import Schedule
from sslcore.methods.settings import About
from sslcore.modules.center import Centering
from sslcore.modules.ema import EmaTeacher
from sslcore.modules.tokens import TokenEncoder
from sslcore.objectives.gram import gram_loss
from sslcore.views import ViewBatch


class Anchoring(NamedTuple):
    """When patches are held to those of an earlier teacher; shares of the run are 0 to 1.

    Attributes:
        weight: Of the term.
        kept_at: Share of the run at which the teacher is kept for the first time.
        start: Share of the run from which patches are held.
        every: Share of the run after which the teacher is kept again, counted from `start`.
    """

    weight: float = 2.0
    kept_at: float = 0.3
    start: float = 0.6
    every: float = 0.1

    def times_kept(self, progress: float) -> int:
        """Return how often the teacher is kept up to `progress`."""
        if progress < self.kept_at:
            return 0
        return 1 + max(0, math.floor((progress - self.start) / self.every))


class DinoV3Config(TokenDistillationSection):
    """DINOv3: DINOv2 with patches held to how alike they once were."""

    about: ClassVar[About] = About(
        family="self-distillation",
        title="DINOv3",
        source='Simeoni et al., "DINOv3", 2025, arXiv:2508.10104',
        needs="what DINOv2 needs, and a third encoder in memory",
        choose="for long runs, in which patches get worse while whole images get better",
    )

    name: Literal["dinov3"] = "dinov3"
    gram_weight: float = Field(2.0, ge=0, description="of held patches; paper 2")
    gram_kept_at: float = Field(
        0.3, ge=0, le=1, description="share of the run at which the teacher is kept; paper 0.1-0.2"
    )
    gram_from: float = Field(
        0.6, ge=0, le=1, description="share of the run from which patches are held; paper 0.84"
    )
    gram_every: float = Field(
        0.1, gt=0, le=1, description="share of the run after which it is kept anew; paper 0.008"
    )

    @model_validator(mode="after")
    def _keeps_before_it_holds(self) -> Self:
        if self.gram_kept_at > self.gram_from:
            raise ValueError(f"gram_kept_at {self.gram_kept_at:g} > gram_from {self.gram_from:g}")
        return self

    def build(self, encoder: nn.Module, feature_dim: int) -> ViewMethod:
        """See `MethodSection.build`."""
        return DinoV3(
            self.new_student(encoder),
            (self.new_centering(), self.new_centering()),
            schedule=self.schedule(),
            masking=self.masking(),
            weights=self.weights(),
            anchoring=Anchoring(
                self.gram_weight, self.gram_kept_at, self.gram_from, self.gram_every
            ),
        )


class DinoV3(DinoV2):
    """DINOv2 with Gram anchoring.

    Source:
        Simeoni et al., "DINOv3", 2025, arXiv:2508.10104, section 4: all patches of the student's
        full views, masked or not, against those of an earlier teacher on the same views. The paper
        shows that teacher larger images in a last variant; here it sees the same.
    """

    def __init__(
        self,
        student: TokenBranch,
        centerings: tuple[Centering, Centering],
        *,
        schedule: Schedule | None = None,
        masking: Masking | None = None,
        weights: Weights | None = None,
        anchoring: Anchoring | None = None,
    ) -> None:
        """Start the kept teacher as a copy of the student.

        Args:
            student: See `DinoV2`, like all others but the last.
            centerings: From the teacher's scores to assignments, of views and of patches.
            schedule: See there for the default.
            masking: That of the paper by default.
            weights: Likewise.
            anchoring: See there for the default.
        """
        super().__init__(student, centerings, schedule=schedule, masking=masking, weights=weights)
        self.teacher_kept = EmaTeacher(student.encoder)
        self.anchoring = anchoring or Anchoring()

    def forward(self, batch: ViewBatch[Any]) -> StepOutput:
        """Add the term of held patches to those of `DinoV2.forward`, which see."""
        views = all_views(batch)
        full = self._full_views(batch)
        loss, logs = self._loss(full, views[2:])
        gram = loss.new_zeros(())
        if self.progress.value >= self.anchoring.start:
            gram = gram_loss(full.patches, self._kept_patches(views[:2]))
        return StepOutput(loss + self.anchoring.weight * gram, {**logs, "gram": gram.detach()})

    @torch.no_grad()
    def _kept_patches(self, views: tuple[Any, ...]) -> Tensor:
        encoder = cast("TokenEncoder", self.teacher_kept.module)
        return torch.cat([encoder.tokens(view).patches for view in views])

    def after_step(self, progress: float) -> None:
        """Do as `DinoV2.after_step`, then keep the teacher if it is time."""
        before = self.anchoring.times_kept(self.progress.value)
        super().after_step(progress)
        if self.anchoring.times_kept(self.progress.value) > before:
            self.teacher_kept.update(self._teacher_branch.encoder, momentum=0.0)
