"""All networks on all draws of masks: how each outlines the test cases, and one that is kept."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from lightning_fabric import Fabric
from torch.optim import Optimizer

from medssl.backbone import Backbone
from medssl.config import SegmentConfig
from medssl.fewlabels.groups import IntArray
from medssl.fewlabels.label_budget import LabelBudget, list_budgets
from medssl.fewlabels.split import Split
from medssl.fewlabels.training import Step, TrainingPlan, build_adamw, train_best
from medssl.segmentation.cases import Counts, Outcome
from medssl.segmentation.masked_images import MaskedImages
from medssl.segmentation.network import MaskedBatch, Segmenter, segmenter_of
from sslcore.console import Progress
from sslcore.random import seeded
from sslcore.training.health import evaluating
from sslcore.training.loop import StepRecord

UNIT = "cases"


@dataclass(frozen=True, slots=True)
class Bench:
    """Everything that all trials share.

    Attributes:
        images: With their masks.
        split: Rows of the parts.
        cases: Number of the case of every row.
        pretrained: The encoder's network.
        build_untrained: Makes the same network with random weights, from torch's random state.
        fabric: Device and precision.
    """

    images: MaskedImages
    split: Split
    cases: IntArray
    pretrained: Backbone
    build_untrained: Callable[[], Backbone]
    fabric: Fabric

    @property
    def tested(self) -> IntArray:
        """Numbers of the test cases, ascending."""
        return np.unique(self.cases[self.split.test])

    def case_of(self, row: int) -> int:
        """Return the place of a test row's case among `tested`."""
        return int(np.searchsorted(self.tested, self.cases[row]))


@dataclass(frozen=True, slots=True)
class Kept:
    """The network that is worth keeping: that of the first draw with the most masks.

    Attributes:
        model: finetuned or frozen.
        network: Its weights.
        budget: How many masks it had.
        train: Rows it learnt from.
        val: Rows that chose its weights.
        counts: Of its outlines of the test cases.
    """

    model: str
    network: Segmenter
    budget: LabelBudget
    train: IntArray
    val: IntArray
    counts: Counts


def run_trials(
    bench: Bench, config: SegmentConfig, progress: Progress
) -> tuple[list[Outcome], Kept]:
    """Train and test the pretrained network and that from scratch on every draw of every budget."""
    budgets = list_budgets(config, unit=UNIT)
    draws = sum(budget.draws(config.repeats) for budget in budgets)
    progress.expect(2 * draws * config.steps, unit="steps")
    outcomes: list[Outcome] = []
    kept: Kept | None = None
    for budget in budgets:
        for draw in range(budget.draws(config.repeats)):
            trial = _Trial(bench, config, budget, draw, progress)
            network = trial.network(pretrained=True)
            found = trial.outcome(network, trial.main_model)
            outcomes.append(found)
            if draw == 0 and (kept is None or len(trial.train) > len(kept.train)):
                parts = (trial.train, trial.val)
                kept = Kept(trial.main_model, network, budget, *parts, found.counts)
            outcomes.append(trial.outcome(trial.network(pretrained=False), "scratch"))
    if kept is None:
        raise ValueError("no number of masks to try")
    return outcomes, kept


class _Trial:
    """One draw of masks."""

    def __init__(
        self,
        bench: Bench,
        config: SegmentConfig,
        budget: LabelBudget,
        draw: int,
        progress: Progress,
    ) -> None:
        cases = bench.cases
        train, val = (np.unique(cases[rows]) for rows in (bench.split.train, bench.split.val))
        drawn = budget.draw(np.zeros_like(train), np.zeros_like(val), seed=config.seed, draw=draw)
        self._bench, self._config, self._progress = bench, config, progress
        self._budget, self._draw = budget, draw
        self._num_train, self._num_val = len(drawn.train), len(drawn.val)
        self.train = _rows_of(bench.split.train, cases, train[drawn.train])
        self.val = _rows_of(bench.split.val, cases, val[drawn.val])
        self.main_model = "finetuned" if config.mode == "full" else "frozen"

    def network(self, *, pretrained: bool) -> Segmenter:
        """Train a network on the masks of this draw."""
        config, bench = self._config, self._bench
        spec = bench.images.spec
        plan = TrainingPlan(
            steps=config.steps,
            batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            seed=config.seed + self._draw,
        )
        with seeded(plan.seed):
            network = segmenter_of(
                copy.deepcopy(bench.pretrained) if pretrained else bench.build_untrained(),
                spec,
                len(bench.images.classes.names),
                frozen=pretrained and config.mode == "frozen",
            )
            bench.fabric.to_device(network)
            rate = plan.learning_rate * (config.encoder_rate if pretrained else 1)
            optimizer = _optimizer(network, plan.learning_rate, rate)
            self._fit(network, optimizer, plan, self.main_model if pretrained else "scratch")
        return network

    def outcome(self, network: Segmenter, model: str) -> Outcome:
        """Outline the test cases."""
        bench = self._bench
        counts = Counts.none(len(bench.tested), len(bench.images.classes.names))
        for found in bench.images.outline(network, bench.split.test):
            counts.add(bench.case_of(found.row), found.codes, bench.images.truth(found.row))
        return Outcome(self._budget, self._draw, model, self._num_train, self._num_val, counts)

    def _fit(
        self, network: Segmenter, optimizer: Optimizer, plan: TrainingPlan, model: str
    ) -> None:
        images, fabric = self._bench.images, self._bench.fabric
        done = 0

        def on_step(record: StepRecord) -> None:
            nonlocal done
            done = record.step
            self._progress.advance(masks=str(self._budget), model=model, loss=f"{record.loss:.3f}")

        def prepare(step: Step) -> MaskedBatch:
            return images.augmented(step.rows, seed=plan.seed, epoch=step.epoch)

        train_best(
            network,
            self.train,
            plan,
            optimizer,
            prepare=prepare,
            val_loss=lambda: _val_loss(network, images, self.val, plan.batch_size),
            may_stay=False,
            fabric=fabric,
            on_step=on_step,
        )
        self._progress.advance(plan.steps - done)  # stopped early


def _optimizer(network: Segmenter, rate: float, encoder_rate: float) -> Optimizer:
    """Return AdamW with a rate for the decoder and one for the backbone."""
    optimizer = build_adamw(network.decoder, rate)
    for group in build_adamw(network.backbone, encoder_rate).param_groups:
        if group["params"]:
            optimizer.add_param_group(group)
    return optimizer


def _rows_of(rows: IntArray, cases: IntArray, chosen: IntArray) -> IntArray:
    return np.asarray(rows[np.isin(cases[rows], chosen)])


@torch.no_grad()
def _val_loss(network: Segmenter, images: MaskedImages, rows: IntArray, size: int) -> float:
    """Return the mean loss of the rows as they are."""
    total = 0.0
    with evaluating(network):
        for first in range(0, len(rows), size):
            part = rows[first : first + size]
            batch = images.plain(part)
            total += len(part) * float(network.loss(network.logits(batch.pixels), batch.codes))
    return total / len(rows)
