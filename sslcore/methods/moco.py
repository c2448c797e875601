"""MoCo: contrast with a queue of keys from an averaged encoder."""

from typing import Any

import torch
from torch import Tensor

from sslcore.distributed import gather_rows
from sslcore.errors import ShapeError
from sslcore.methods.method import StepOutput, ViewMethod, two_views
from sslcore.modules.branch import Branch
from sslcore.modules.ema import EmaTeacher
from sslcore.modules.queue import FeatureQueue
from sslcore.numerics import unit_rows
from sslcore.objectives.info_nce import info_nce_loss
from sslcore.objectives.regression import negative_cosine
from sslcore.views import ViewBatch


class Moco(ViewMethod):
    """Query encoder against a teacher's keys, with past keys as negatives.

    Source:
        He et al., "Momentum contrast", CVPR 2020, arXiv:1911.05722; head, augmentation and
        schedule of version 2 in arXiv:2003.04297. Keys are not shuffled between processes before
        batch norm, which changes nothing on one process.
    """

    def __init__(
        self,
        student: Branch,
        queue: FeatureQueue,
        *,
        momentum: float = 0.999,
        temperature: float = 0.2,
    ) -> None:
        """Start the teacher as a copy of the student.

        Args:
            student: Encodes queries.
            queue: As wide as the projections; should hold fewer keys than there are samples, or
                a sample meets its own past keys as negatives.
            momentum: Of the teacher's weights, 0 to 1.
            temperature: See `info_nce_loss`.
        """
        super().__init__()
        self.student = student
        self.teacher = EmaTeacher(self.student)
        self.queue = queue
        self.momentum = momentum
        self.temperature = temperature
        self._pending: list[Tensor] = []

    def forward(self, batch: ViewBatch[Any]) -> StepOutput:
        """Compare the student's first view with the teacher's second; see `Method.forward`.

        Raises:
            ShapeError: If the batch has segments.
        """
        if batch.segments:
            raise ShapeError("MoCo has one queue and cannot keep segments apart")
        view_a, view_b = two_views(batch)
        queries, keys = self.student(view_a), unit_rows(self.teacher(view_b))
        loss = info_nce_loss(queries, keys, negatives=self.queue.keys, temperature=self.temperature)
        if self.training:
            self._pending = [keys]
        return StepOutput(loss, {"positive_similarity": -negative_cosine(queries.detach(), keys)})

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Queue the keys of this step, of all processes, and move the teacher."""
        for keys in self._pending:
            self.queue.push(gather_rows(keys))
        self._pending = []
        self.teacher.update(self.student, momentum=self.momentum)
