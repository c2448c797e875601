"""Training a whole network on labels: from a pretrained encoder, or from scratch.

Both start points get the same recipe, so that a difference is the encoder's: AdamW, linear
warm-up and cosine, light augmentation, and the weights that validation liked best.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.optim import Optimizer

from medssl.fewlabels.classifier import Classifier, LabelledBatch
from medssl.fewlabels.metrics import FloatArray, IntArray
from sslcore.schedules import warmup_cosine
from sslcore.training.loop import LoopSettings, StepRecord, fit
from sslcore.training.optimizers import build_optimizer
from sslcore.training.settings import OptimConfig

_CHECKS = 10  # of the validation loss, in the second half of the schedule
_PATIENCE = 4  # checks without improvement
_FINETUNING_RATE = 0.1  # of the learning rate, for weights that are already good
_WARMUP = 0.1  # part of the steps
_WEIGHT_DECAY = 0.01
_EVAL_BATCH = 256


class Images(Protocol):
    """Gives the images of manifest rows as a network takes them, on the device."""

    def augmented(self, rows: IntArray, *, seed: int, epoch: int) -> Tensor:
        """Return one randomly changed view of each row; a pure function of its arguments."""

    def plain(self, rows: IntArray) -> Tensor:
        """Return each row as it is."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """Rows of a manifest and their classes, from 0."""

    rows: IntArray
    codes: IntArray


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """How one network is trained.

    Attributes:
        steps: Optimiser steps, at most.
        batch_size: Images per step; all of them if there are fewer.
        learning_rate: Peak, not scaled with the batch.
        seed: Of order and augmentation.
    """

    steps: int
    batch_size: int
    learning_rate: float
    seed: int


def train_classifier(
    classifier: Classifier,
    images: Images,
    train: Labelled,
    val: Labelled,
    plan: TrainingPlan,
    *,
    fabric: Fabric,
    on_step: Callable[[StepRecord], None],
) -> int:
    """Train in place, and leave the weights of the lowest validation loss.

    The validation loss weighs all classes the same. It is looked at in the second half of the
    schedule: before, while the learning rate is high, it jumps, and a handful of validation
    images would pick a network by luck. A network that begins at a probe may also stay as it was.
    Training ends early once the loss has not improved for a while.

    Args:
        classifier: Moved to the device of `fabric`.
        images: Where rows become images.
        train: What is learnt from, at least one image per class.
        val: What chooses the weights.
        plan: See `TrainingPlan`.
        fabric: Brings device and precision.
        on_step: Receives every step's record.

    Returns:
        The step the weights are from; 0 is the start.

    Raises:
        DivergedError: The loss stopped being finite.
    """
    fabric.to_device(classifier)
    watch = _Watch(classifier, images, val, plan.steps)

    def after_step(record: StepRecord) -> None:
        on_step(record)
        watch.look(record.step)

    rate = plan.learning_rate * (_FINETUNING_RATE if classifier.is_fitted else 1)
    optimizer = build_classifier_optimizer(classifier, rate)
    try:
        if classifier.is_fitted:
            watch.look(0)
        fit(
            classifier,
            _steps(train, plan),
            optimizer,
            LoopSettings(steps=plan.steps, batch_size=min(plan.batch_size, len(train.rows))),
            fabric=fabric,
            prepare=lambda step: _read(step, images, plan.seed, fabric.device),
            schedule=classifier_schedule,
            on_step=after_step,
        )
    except _NoImprovementError:
        pass
    return watch.restore_best()


def build_classifier_optimizer(classifier: Classifier, learning_rate: float) -> Optimizer:
    """Return AdamW for a classifier; the rate is not scaled with the batch."""
    settings = OptimConfig(name="adamw", weight_decay=_WEIGHT_DECAY)
    return build_optimizer(classifier, settings, batch_size=256, default_rate=learning_rate)


def classifier_schedule(progress: float) -> float:
    """Return the share of the peak learning rate after a share of the steps."""
    return warmup_cosine(progress, warmup=_WARMUP)


@torch.no_grad()
def predict(classifier: Classifier, images: Images, rows: IntArray) -> FloatArray:
    """Return the probabilities of `rows`, `[rows, classes]`, from one plain view each."""
    was_training = classifier.training
    classifier.eval()
    parts = [
        classifier.logits(images.plain(rows[start : start + _EVAL_BATCH])).double().softmax(1).cpu()
        for start in range(0, len(rows), _EVAL_BATCH)
    ]
    classifier.train(was_training)
    return np.asarray(torch.cat(parts).numpy())


@dataclass(frozen=True, slots=True)
class _Step:
    rows: IntArray
    codes: IntArray
    epoch: int


def _steps(train: Labelled, plan: TrainingPlan) -> Iterator[_Step]:
    """Go through all images in a new order each epoch; a short rest is left to later epochs."""
    size = min(plan.batch_size, len(train.rows))
    per_epoch = len(train.rows) // size
    for step in range(plan.steps):
        epoch, position = divmod(step, per_epoch)
        order = np.random.default_rng([plan.seed, epoch]).permutation(len(train.rows))
        picked = order[position * size : (position + 1) * size]
        yield _Step(train.rows[picked], train.codes[picked], epoch)


def _read(step: _Step, images: Images, seed: int, device: torch.device) -> LabelledBatch:
    pixels = images.augmented(step.rows, seed=seed, epoch=step.epoch)
    return LabelledBatch(pixels, torch.from_numpy(step.codes).to(device))


class _NoImprovementError(Exception):
    """Ends training from within a step; never leaves this file."""


class _Watch:
    """Remembers the weights of the lowest validation loss."""

    def __init__(self, classifier: Classifier, images: Images, val: Labelled, steps: int) -> None:
        self._classifier = classifier
        self._images = images
        self._val = val
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
            state = self._classifier.state_dict()
            self._best = {name: tensor.detach().clone() for name, tensor in state.items()}
        if self._since > _PATIENCE:
            raise _NoImprovementError

    def restore_best(self) -> int:
        self._classifier.load_state_dict(self._best)
        return self._best_step

    def _loss(self) -> float:
        codes = self._val.codes
        chances = predict(self._classifier, self._images, self._val.rows)
        own = np.log(np.maximum(chances[np.arange(len(codes)), codes], 1e-12))
        weights = 1.0 / np.bincount(codes)[codes]
        return -float((own * weights).sum() / weights.sum())
