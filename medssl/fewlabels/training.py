"""Training a network on labelled rows, and keeping the weights that validation liked best.

All networks get the same recipe, so that a difference is that of where they begin: AdamW, linear
warm-up and cosine, and the weights of the lowest validation loss.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from medssl.fewlabels.metrics import IntArray
from sslcore.methods.method import Method
from sslcore.schedules import warmup_cosine
from sslcore.training.loop import LoopSettings, StepRecord, fit
from sslcore.training.optimizers import build_optimizer
from sslcore.training.settings import OptimConfig

BatchT = TypeVar("BatchT")

_CHECKS = 10  # of the validation loss, in the second half of the schedule
_PATIENCE = 4  # checks without improvement
_WARMUP = 0.1  # part of the steps
_WEIGHT_DECAY = 0.01


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """How one network is trained.

    Attributes:
        steps: Optimiser steps, at most.
        batch_size: Samples per step; all of them if there are fewer.
        learning_rate: Peak, not scaled with the batch.
        seed: Of order and augmentation.
    """

    steps: int
    batch_size: int
    learning_rate: float
    seed: int


class Step(NamedTuple):
    """The rows of one step, and how often all were gone through before."""

    rows: IntArray
    epoch: int


def train_best(  # noqa: PLR0913 - the parts of a training, each named at the call
    network: Method[BatchT],
    rows: IntArray,
    plan: TrainingPlan,
    optimizer: Optimizer,
    *,
    prepare: Callable[[Step], BatchT],
    val_loss: Callable[[], float],
    may_stay: bool,
    fabric: Fabric,
    on_step: Callable[[StepRecord], None],
) -> int:
    """Train in place, and leave the weights of the lowest validation loss.

    The loss is looked at in the second half of the schedule: before, while the learning rate is
    high, it jumps, and a handful of validation samples would pick a network by luck. Training ends
    early once it has not improved for a while.

    Args:
        network: On the device of `fabric`.
        rows: What is learnt from.
        plan: See `TrainingPlan`.
        optimizer: Of `network`, see `build_adamw`.
        prepare: From rows to a batch.
        val_loss: Of the network as it is now.
        may_stay: Whether the network may stay as it was before.
        fabric: Brings device and precision.
        on_step: Receives every step's record.

    Returns:
        The step the weights are from; 0 is the start.

    Raises:
        DivergedError: The loss stopped being finite.
    """
    watch = _Watch(network, val_loss, plan.steps)

    def after_step(record: StepRecord) -> None:
        on_step(record)
        watch.look(record.step)

    try:
        if may_stay:
            watch.look(0)
        fit(
            network,
            _steps(rows, plan),
            optimizer,
            LoopSettings(steps=plan.steps, batch_size=min(plan.batch_size, len(rows))),
            fabric=fabric,
            prepare=prepare,
            schedule=warmed_up,
            on_step=after_step,
        )
    except _NoImprovementError:
        pass
    return watch.restore_best()


def build_adamw(network: nn.Module, learning_rate: float) -> Optimizer:
    """Return AdamW for a network that learns from labels; the rate is not scaled with the batch."""
    settings = OptimConfig(name="adamw", weight_decay=_WEIGHT_DECAY)
    return build_optimizer(network, settings, batch_size=256, default_rate=learning_rate)


def warmed_up(progress: float) -> float:
    """Return the share of the peak learning rate after a share of the steps."""
    return warmup_cosine(progress, warmup=_WARMUP)


def _steps(rows: IntArray, plan: TrainingPlan) -> Iterator[Step]:
    """Go through all rows in a new order each epoch; a short rest is left to later epochs."""
    size = min(plan.batch_size, len(rows))
    per_epoch = len(rows) // size
    for step in range(plan.steps):
        epoch, position = divmod(step, per_epoch)
        order = np.random.default_rng([plan.seed, epoch]).permutation(len(rows))
        yield Step(rows[order[position * size : (position + 1) * size]], epoch)


class _NoImprovementError(Exception):
    """Ends training from within a step; never leaves this file."""


class _Watch:
    """Remembers the weights of the lowest validation loss."""

    def __init__(self, network: nn.Module, loss: Callable[[], float], steps: int) -> None:
        self._network = network
        self._loss = loss
        self._steps = steps
        self._every = max(1, steps // (2 * _CHECKS))
        self._lowest = float("inf")
        self._best_step = 0
        self._best: dict[str, Tensor] = {}
        self._since = 0

    def look(self, step: int) -> None:
        """Measure if it is time; raise `_NoImprovementError` when it has been long enough."""
        is_due = step % self._every == 0 and (step == 0 or step > self._steps / 2)
        if not is_due and step != self._steps:
            return
        loss = self._loss()
        self._since += 1
        if loss < self._lowest:
            self._lowest, self._best_step, self._since = loss, step, 0
            state = self._network.state_dict()
            self._best = {name: tensor.detach().clone() for name, tensor in state.items()}
        if self._since > _PATIENCE:
            raise _NoImprovementError

    def restore_best(self) -> int:
        self._network.load_state_dict(self._best)
        return self._best_step
