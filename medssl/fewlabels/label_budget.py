"""Few labels: which of the training images have one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medssl.config import FewLabelConfig
from medssl.fewlabels.groups import IntArray

MIN_VAL_PER_CLASS = 2
DEFAULT_FRACTIONS = (0.01, 0.1, 1.0)


@dataclass(frozen=True, slots=True)
class LabelBudget:
    """A share of all training labels, or a number per class; exactly one is set."""

    fraction: float | None = None
    shots: int | None = None
    unit: str = "per class"

    def __str__(self) -> str:
        return f"{self.shots} {self.unit}" if self.fraction is None else f"{100 * self.fraction:g}%"

    def draws(self, repeats: int, *, folds: int = 1) -> int:
        """Return how many draws are worth making: all labels can be drawn in one way only."""
        return folds if self.fraction == 1 else folds * repeats

    def draw(self, train: IntArray, val: IntArray, *, seed: int, draw: int) -> "LabelDraw":
        """Choose labelled images, stratified by class.

        Draws of one number are nested over fractions, and over shots: what 1 % contains, 10 %
        contains too. The
        validation labels shrink in the same proportion, to no fewer than `MIN_VAL_PER_CLASS` a
        class, because whoever has ten labels to train on has no thousand to choose settings with.

        Args:
            train: Class of each training image, from 0; every class occurs.
            val: Likewise for the validation part.
            seed: Of the run.
            draw: Number of the draw.

        Returns:
            Positions in `train` and in `val`.
        """
        have = np.bincount(train)
        if self.fraction is not None:
            wanted = _apportion(have, self.fraction)
        else:
            wanted = np.minimum(have, self.shots or 0)
        share = wanted.sum() / len(train)
        available = np.bincount(val, minlength=len(have))
        chosen = np.maximum(_apportion(available, share), MIN_VAL_PER_CLASS)
        return LabelDraw(
            _first_of_each(train, wanted, seed=(seed, draw, 0)),
            _first_of_each(val, np.minimum(chosen, available), seed=(seed, draw, 1)),
        )


def list_budgets(config: FewLabelConfig, *, unit: str = "per class") -> list[LabelBudget]:
    """Return the numbers of labels to try, in rising order of each kind."""
    fractions = config.fractions
    if fractions is None:
        fractions = () if config.shots else DEFAULT_FRACTIONS
    return [LabelBudget(fraction=share) for share in sorted(set(fractions))] + [
        LabelBudget(shots=count, unit=unit) for count in sorted(set(config.shots))
    ]


@dataclass(frozen=True, slots=True)
class LabelDraw:
    """Positions in the train and in the val part that have a label, ascending."""

    train: IntArray
    val: IntArray


def _apportion(have: IntArray, share: float) -> IntArray:
    """Round `share` of each class on its own, to at least one: never less for a larger share."""
    taken = np.maximum(np.rint(have * share), 1).astype(np.int64)
    return np.asarray(np.minimum(taken, have))


def _first_of_each(codes: IntArray, wanted: IntArray, *, seed: Sequence[int]) -> IntArray:
    chosen = [
        np.random.default_rng([*seed, kind]).permutation(np.flatnonzero(codes == kind))[:count]
        for kind, count in enumerate(wanted)
    ]
    return np.sort(np.concatenate(chosen))
