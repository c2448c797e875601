"""DINO: give each view the assignment that a teacher gives another one."""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from sslcore.errors import ShapeError
from sslcore.methods.method import StepOutput, ViewMethod, all_views
from sslcore.methods.self_distillation import Schedule, SelfDistillationSection, distil
from sslcore.methods.settings import About, Rates, ViewNeeds
from sslcore.modules.branch import Branch
from sslcore.modules.center import Centering, RunningCenter
from sslcore.modules.distillation_head import DistillationHead
from sslcore.modules.ema import EmaTeacher
from sslcore.modules.progress import Progress
from sslcore.views import ViewBatch


class DinoConfig(SelfDistillationSection):
    """DINO: give each view the assignment that a teacher gives another one."""

    about: ClassVar[About] = About(
        family="self-distillation",
        title="DINO",
        source='Caron et al., "DINO", ICCV 2021, arXiv:2104.14294',
        needs="a teacher and smaller crops; no negatives; many steps",
        choose="for vision transformers, and where neighbours of a feature count most",
    )
    rates: ClassVar[Rates] = Rates(adamw=5e-4, sgd=0.03, lars=0.2)
    views: ClassVar[ViewNeeds] = ViewNeeds(local_views=4)

    name: Literal["dino"] = "dino"
    head_norm: bool = Field(True, description="batch norm in the head; paper without")

    def build(self, encoder: nn.Module, feature_dim: int) -> ViewMethod:
        """See `MethodSection.build`."""
        dims = [feature_dim, *self.head_dims]
        head = DistillationHead(dims, self.num_prototypes, hidden_norm=self.head_norm)
        center = RunningCenter(self.num_prototypes)
        return Dino(Branch(encoder, head), center, schedule=self.schedule())


class Dino(ViewMethod):
    """Student against the assignments of an averaged teacher, which sees full views only.

    Source:
        Caron et al., "DINO", ICCV 2021, arXiv:2104.14294, section 3.1 and algorithm 1. The loss is
        the mean over all pairs of a full view of the teacher and another view of the student.
    """

    def __init__(
        self, student: Branch, centering: Centering, *, schedule: Schedule | None = None
    ) -> None:
        """Start the teacher as a copy of the student.

        Args:
            student: Its head is a `DistillationHead`.
            centering: From the teacher's scores to assignments.
            schedule: See there for the default.
        """
        super().__init__()
        self.student = student
        self.teacher = EmaTeacher(student)
        self.centering = centering
        self.progress = Progress()
        self.schedule = schedule or Schedule()

    def forward(self, batch: ViewBatch[Any]) -> StepOutput:
        """Predict the teacher's assignment of the full views; see `Method.forward`.

        Raises:
            ShapeError: If the batch has segments.
        """
        if batch.segments:
            raise ShapeError("DINO has one center and cannot keep segments apart")
        views, schedule, done = all_views(batch), self.schedule, self.progress.value
        frozen = done < schedule.frozen_until
        scores = [self.student.head(self.student.encode(view), frozen=frozen) for view in views]
        theirs = torch.cat([self.teacher(view) for view in views[:2]])
        targets = self.centering(theirs, temperature=schedule.temperature_at(done))
        return distil(scores, targets.chunk(2), temperature=schedule.student_temperature)

    def after_step(self, progress: float) -> None:
        """Move the center and the teacher; its momentum rises to 1 at the end of the run."""
        self.progress.move(progress)
        self.centering.update()
        self.teacher.update(self.student, momentum=self.schedule.momentum_at(progress))
