"""Training a whole network on labels: from a pretrained encoder, or from scratch.

Both start points get the same recipe, so that a difference is the encoder's: that of
`medssl.fewlabels.training`, and light augmentation.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from medssl.fewlabels.classifier import Classifier, LabelledBatch
from medssl.fewlabels.metrics import FloatArray, IntArray
from medssl.fewlabels.training import Step, TrainingPlan, build_adamw, train_best
from sslcore.training.loop import StepRecord

_FINETUNING_RATE = 0.1  # of the learning rate, for weights that are already good
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
    """Train in place, and leave the weights of the lowest validation loss; see `train_best`.

    The validation loss weighs all classes the same. A network that begins at a probe may also stay
    as it was.

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
    codes = np.zeros(int(train.rows.max()) + 1, np.int64)
    codes[train.rows] = train.codes

    def prepare(step: Step) -> LabelledBatch:
        pixels = images.augmented(step.rows, seed=plan.seed, epoch=step.epoch)
        return LabelledBatch(pixels, torch.from_numpy(codes[step.rows]).to(fabric.device))

    rate = plan.learning_rate * (_FINETUNING_RATE if classifier.is_fitted else 1)
    return train_best(
        classifier,
        train.rows,
        plan,
        build_adamw(classifier, rate),
        prepare=prepare,
        val_loss=lambda: _val_loss(classifier, images, val),
        may_stay=classifier.is_fitted,
        fabric=fabric,
        on_step=on_step,
    )


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


def _val_loss(classifier: Classifier, images: Images, val: Labelled) -> float:
    chances = predict(classifier, images, val.rows)
    own = np.log(np.maximum(chances[np.arange(len(val.codes)), val.codes], 1e-12))
    weights = 1.0 / np.bincount(val.codes)[val.codes]
    return -float((own * weights).sum() / weights.sum())
