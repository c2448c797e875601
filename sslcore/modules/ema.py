"""The teacher: a copy of the student whose weights are a running average."""

import copy
from typing import Any

import torch
from torch import nn


class EmaTeacher(nn.Module):
    """Frozen copy of `student`; `update` moves it a step towards the student.

    Weights are averaged; buffers, such as batch-norm statistics, are copied. The copy is part of
    the state dict, so a resumed run continues with the same teacher.
    """

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(student).requires_grad_(False)

    @torch.no_grad()
    def update(self, student: nn.Module, *, momentum: float) -> None:
        """Set `teacher = momentum * teacher + (1 - momentum) * student`.

        Args:
            student: The module this one was made from, or of the same structure.
            momentum: 0 copies the student, 1 leaves the teacher as it is.
        """
        for mine, theirs in zip(self.module.parameters(), student.parameters(), strict=True):
            mine.lerp_(theirs.to(mine.dtype), 1 - momentum)
        for kept, current in zip(self.module.buffers(), student.buffers(), strict=True):
            kept.copy_(current)

    @torch.no_grad()
    def forward(self, view: Any) -> Any:
        """Apply the teacher without gradients."""
        return self.module(view)
