"""What the training loop knows about a method, and nothing more."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from sslcore.errors import ShapeError
from sslcore.modules.branch import Branch
from sslcore.views import ViewBatch

BatchT = TypeVar("BatchT")


class StepOutput(NamedTuple):
    """Loss to differentiate, and detached scalars for the log.

    A tuple, since the wrappers for mixed precision and several processes look for tensors in it.
    """

    loss: Tensor
    logs: Mapping[str, Tensor] = MappingProxyType({})


class Method(nn.Module, ABC, Generic[BatchT]):
    """Everything between a batch and a scalar loss."""

    @property
    @abstractmethod
    def encoder(self) -> nn.Module:
        """What a run produces."""

    @abstractmethod
    def forward(self, batch: BatchT) -> StepOutput:
        """Return the loss of one batch.

        Teacher, queue and centre move in `after_step` only. What may change here is what training
        mode is for: the running statistics of batch norms, and the keys or projections of this
        batch, which are held until `after_step` puts them into the queue.
        """

    def after_step(self, progress: float) -> None:
        """Move what gradients do not train: teacher, queue, centre.

        The loop calls it once after each optimiser step.

        Args:
            progress: Completed part of the run, 0 to 1.
        """


class ViewMethod(Method[ViewBatch[Any]]):
    """A method that compares views of the same samples.

    It never looks inside a view, only hands it to `student`. That is why one method serves
    images, volumes and graphs. With several processes each of them has a part of the batch; a
    method that compares rows gathers their projections, so that the loss is that of the whole.

    Attributes:
        student: The branch that gradients train.
    """

    student: Branch

    @property
    def encoder(self) -> nn.Module:
        """The student's encoder."""
        return self.student.encoder


def all_views(batch: ViewBatch[Any]) -> tuple[Any, ...]:
    """Return the two full views of a batch and then its smaller crops, if it has any.

    Raises:
        ShapeError: If there are fewer than two.
    """
    if len(batch.views) < 2:
        raise ShapeError(f"expected two views of each sample, got {len(batch.views)}")
    return batch.views


def view_pairs(count: int) -> list[tuple[int, int]]:
    """Return which of `count` views are compared: every pair with a full view in it.

    The first of a pair is one of the two full views, the second the other one or a smaller crop.

    Source:
        Caron et al., "SwAV", NeurIPS 2020, arXiv:2006.09882, section 3.3: crops of low resolution
        are compared with full views only.
    """
    return [(0, 1), *((full, crop) for crop in range(2, count) for full in (0, 1))]


def directed_pairs(count: int) -> list[tuple[int, int]]:
    """Return `view_pairs`, and the two full views the other way round too."""
    return [(1, 0), *view_pairs(count)]


def average(results: Sequence[tuple[Tensor, Mapping[str, Tensor]]]) -> StepOutput:
    """Return the mean of several losses, and of their terms for the log."""
    losses, terms = zip(*results, strict=True)
    means = {name: torch.stack([each[name] for each in terms]).mean() for name in terms[0]}
    return StepOutput(torch.stack(losses).mean(), detached(means))


def two_views(batch: ViewBatch[Any]) -> tuple[Any, Any]:
    """Return the views of a batch.

    Raises:
        ShapeError: If there are not two of them.
    """
    if len(batch.views) != 2:
        raise ShapeError(f"expected two views of each sample, got {len(batch.views)}")
    view_a, view_b = batch.views
    return view_a, view_b


def detached(terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Cut the terms of an objective from the graph, for the log."""
    return {name: term.detach() for name, term in terms.items()}
