"""What DINO and its successors share: settings, the schedule of a run, and the loss of views."""

from abc import ABC
from typing import ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from sslcore.methods.method import StepOutput, average, directed_pairs
from sslcore.methods.settings import HeadDims, MethodSection, Pooling
from sslcore.objectives.self_distillation import assignment_loss, mean_entropy
from sslcore.schedules import cosine_ramp, linear_ramp


class Schedule(NamedTuple):
    """What changes over a run, or stays; shares of the run are 0 to 1.

    Attributes:
        momentum: Of the teacher's weights at first; it rises to 1 along half a cosine.
        student_temperature: Divides the student's scores.
        first_teacher_temperature: Divides the teacher's scores at first.
        teacher_temperature: Likewise from `teacher_warmup` on.
        teacher_warmup: Share of the run.
        frozen_until: Share of the run at which the prototypes start to move.
    """

    momentum: float = 0.996
    student_temperature: float = 0.1
    first_teacher_temperature: float = 0.04
    teacher_temperature: float = 0.07
    teacher_warmup: float = 0.3
    frozen_until: float = 0.0

    def temperature_at(self, progress: float) -> float:
        """Return the teacher's temperature."""
        return linear_ramp(
            progress,
            start=self.first_teacher_temperature,
            end=self.teacher_temperature,
            until=self.teacher_warmup,
        )

    def momentum_at(self, progress: float) -> float:
        """Return the momentum of the teacher's weights."""
        return cosine_ramp(progress, start=self.momentum, end=1.0)


class SelfDistillationSection(MethodSection, ABC):
    """Settings of DINO and its successors."""

    pooling: ClassVar[Pooling] = "class"

    name: str
    head_dims: HeadDims = Field(
        (512, 512, 64), description="layers before the prototypes; paper 2048, 2048, 256"
    )
    num_prototypes: int = Field(256, gt=1, description="paper 65536")
    momentum: float = Field(
        0.99, ge=0, lt=1, description="of the teacher at first, rising to 1; paper 0.992 to 0.996"
    )
    student_temperature: float = Field(0.1, gt=0, description="paper 0.1")
    first_teacher_temperature: float = Field(0.04, gt=0, description="paper 0.04")
    teacher_temperature: float = Field(0.07, gt=0, description="after the warm-up; paper 0.07")
    teacher_warmup: float = Field(
        0.3, ge=0, le=1, description="share of the run; paper 0.06 to 0.3"
    )
    frozen_until: float = Field(
        0.02, ge=0, le=1, description="share of the run with fixed prototypes; paper 0.002 to 0.01"
    )

    def schedule(self) -> Schedule:
        """Return what changes over a run."""
        return Schedule(**self.model_dump(include=set(Schedule._fields)))


def distil(scores: list[Tensor], targets: tuple[Tensor, ...], *, temperature: float) -> StepOutput:
    """Compare the student's views with the teacher's full views, but none with itself.

    Args:
        scores: Of the student, `[batch, prototypes]` for each view.
        targets: Assignments of the two full views, same shape.
        temperature: Of the student.
    """
    terms = {"target_entropy": mean_entropy(torch.cat(targets))}
    return average(
        [
            (assignment_loss(scores[other], targets[full], temperature=temperature), terms)
            for full, other in directed_pairs(len(scores))
        ]
    )
