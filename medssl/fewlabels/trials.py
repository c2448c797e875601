"""All models on all label draws: what each says about the test images, and one that is kept."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lightning_fabric import Fabric
from sklearn.preprocessing import StandardScaler

from medssl.backbones import Backbone
from medssl.config import FinetuneConfig
from medssl.fewlabels.classifier import Classifier
from medssl.fewlabels.evaluation import Outcome
from medssl.fewlabels.label_budget import LabelBudget, list_budgets
from medssl.fewlabels.labelled_images import Features, LabelledImages
from medssl.fewlabels.metrics import FloatArray, IntArray, Predictions
from medssl.fewlabels.probe import (
    Examples,
    FeatureArray,
    LinearProbe,
    class_shares,
    decide,
    fit_linear_probe,
    fit_scaler,
    knn_probabilities,
)
from medssl.fewlabels.split import Split
from medssl.fewlabels.supervised import (
    Labelled,
    predict,
    train_classifier,
)
from medssl.fewlabels.training import TrainingPlan
from sslcore.console import Progress
from sslcore.random import seeded
from sslcore.training.loop import StepRecord


@dataclass(frozen=True, slots=True)
class Bench:
    """Everything that all trials share.

    Attributes:
        images: For training networks.
        features: For the probes.
        splits: Rows of the parts, all of them readable; draws take one after the other.
        codes: Class of every row of the manifest, from 0.
        num_classes: How many there are.
        patients: Group of every row of the manifest; images of unknown patients are one each.
        pretrained: The encoder's network.
        build_untrained: Makes the same network with random weights, from torch's random state.
        fabric: Device and precision.
    """

    images: LabelledImages
    features: Features
    splits: tuple[Split, ...]
    codes: IntArray
    num_classes: int
    patients: IntArray
    pretrained: Backbone
    build_untrained: Callable[[], Backbone]
    fabric: Fabric


@dataclass(frozen=True, slots=True)
class Kept:
    """The network that is worth keeping: the main model of the first draw with the most labels.

    Attributes:
        model: One of `MODELS`: finetuned, or linear_probe where nothing else was trained.
        network: Its weights.
        budget: How many labels it had.
        train: The labels it learnt from.
        val: The labels that chose it.
    """

    model: str
    network: Classifier
    budget: LabelBudget
    train: Labelled
    val: Labelled


def run_trials(
    bench: Bench, config: FinetuneConfig, progress: Progress
) -> tuple[list[Outcome], Kept]:
    """Train and test every model on every draw of every budget."""
    budgets = list_budgets(config)
    networks = 2 if config.mode == "full" else 1
    draws = sum(budget.draws(config.repeats, folds=config.folds) for budget in budgets)
    progress.expect(draws * networks * config.steps, unit="steps")
    standards = [_Standard(bench.features, split) for split in bench.splits]
    outcomes: list[Outcome] = []
    kept: Kept | None = None
    for budget in budgets:
        for draw in range(budget.draws(config.repeats, folds=config.folds)):
            standard = standards[draw % len(standards)]
            trial = _Trial(bench, standard, config, budget, draw, progress)
            outcomes.extend(trial.outcomes())
            if draw == 0 and (kept is None or len(trial.kept().train.rows) > len(kept.train.rows)):
                kept = trial.kept()
    if kept is None:
        raise ValueError("no number of labels to try")
    return outcomes, kept


class _Standard:
    """A split, with mean and deviation of its training images' features, which need no label."""

    def __init__(self, features: Features, split: Split) -> None:
        self.split = split
        every = features.at(split.train)
        self.pretrained = fit_scaler(every.pretrained)
        self.untrained = fit_scaler(every.untrained)
        self.pixels = fit_scaler(every.pixels)


class _Trial:
    """One draw of labels."""

    def __init__(
        self,
        bench: Bench,
        standard: _Standard,
        config: FinetuneConfig,
        budget: LabelBudget,
        draw: int,
        progress: Progress,
    ) -> None:
        split, codes = standard.split, bench.codes
        drawn = budget.draw(codes[split.train], codes[split.val], seed=config.seed, draw=draw)
        train, val = split.train[drawn.train], split.val[drawn.val]
        self._bench = bench
        self._test = split.test
        self._standard = standard
        self._config = config
        self._budget = budget
        self._draw = draw
        self._progress = progress
        self._train = Labelled(train, codes[train])
        self._val = Labelled(val, codes[val])
        self._main: Classifier | None = None

    def kept(self) -> Kept:
        """Return the main model, once `outcomes` came to its end."""
        if self._main is None:
            raise RuntimeError("no network has been trained yet")
        model = "finetuned" if self._config.mode == "full" else "linear_probe"
        return Kept(model, self._main, self._budget, self._train, self._val)

    def outcomes(self) -> Iterator[Outcome]:
        train, val, test = (
            self._bench.features.at(rows) for rows in (self._train.rows, self._val.rows, self._test)
        )
        knn = knn_probabilities(
            train.pretrained,
            self._train.codes,
            test.pretrained,
            self._bench.num_classes,
            neighbours=self._config.neighbours,
        )
        yield self._outcome("knn", knn)
        probe = self._probe(train.pretrained, val.pretrained, self._standard.pretrained)
        yield self._outcome("linear_probe", probe.probabilities(test.pretrained))
        self._main = self._start(probe)
        if self._config.mode == "full":
            yield self._outcome("finetuned", self._train_network(self._main, "finetuned"))
        with seeded(self._config.seed + self._draw):
            scratch = self._start(None)
        yield self._outcome("scratch", self._train_network(scratch, "scratch"))
        probe = self._probe(train.untrained, val.untrained, self._standard.untrained)
        yield self._outcome("untrained_probe", probe.probabilities(test.untrained))
        probe = self._probe(train.pixels, val.pixels, self._standard.pixels)
        yield self._outcome("pixels_probe", probe.probabilities(test.pixels))

    def _probe(self, train: FeatureArray, val: FeatureArray, scaler: StandardScaler) -> LinearProbe:
        patients = self._bench.patients
        return fit_linear_probe(
            Examples(train, self._train.codes, patients[self._train.rows]),
            Examples(val, self._val.codes, patients[self._val.rows]),
            scaler,
        )

    def _train_network(self, classifier: Classifier, name: str) -> FloatArray:
        """Train in place, and return the probabilities of the test images."""
        done = 0

        def on_step(record: StepRecord) -> None:
            nonlocal done
            done = record.step
            self._progress.advance(labels=str(self._budget), model=name, loss=f"{record.loss:.3f}")

        plan = TrainingPlan(
            steps=self._config.steps,
            batch_size=self._config.batch_size,
            learning_rate=self._config.learning_rate,
            seed=self._config.seed + self._draw,
        )
        with seeded(plan.seed):
            train_classifier(
                classifier,
                self._bench.images,
                self._train,
                self._val,
                plan,
                fabric=self._bench.fabric,
                on_step=on_step,
            )
        self._progress.advance(plan.steps - done)  # stopped early
        return predict(classifier, self._bench.images, self._test)

    def _start(self, probe: LinearProbe | None) -> Classifier:
        if probe is None:
            return Classifier(self._bench.build_untrained(), self._bench.num_classes)
        backbone = copy.deepcopy(self._bench.pretrained)
        classifier = Classifier(backbone, self._bench.num_classes, keep_statistics=True)
        classifier.begin_at(probe)
        return classifier

    def _outcome(self, model: str, probabilities: FloatArray) -> Outcome:
        shares = class_shares(self._train.codes, self._bench.num_classes)
        return Outcome(
            budget=self._budget,
            draw=self._draw,
            model=model,
            num_labels=len(self._train.rows),
            num_val_labels=len(self._val.rows),
            rows=self._test,
            predictions=Predictions(probabilities, decide(probabilities, shares)),
        )
