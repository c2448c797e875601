"""Networks learn from labels, keep their best weights, repeat exactly, and start at the probe."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medssl.backbones import Backbone
from medssl.fewlabels.classifier import Classifier
from medssl.fewlabels.metrics import IntArray
from medssl.fewlabels.probe import LinearProbe
from medssl.fewlabels.supervised import (
    Labelled,
    predict,
    train_classifier,
)
from medssl.fewlabels.training import TrainingPlan
from sslcore.device import build_fabric
from sslcore.random import seeded
from sslcore.training.loop import StepRecord
from sslcore.training.settings import RunConfig

CODES = np.tile([0, 1], 40)


class Stripes:
    """Images of horizontal or vertical stripes, in noise."""

    def __init__(self, *, noise: float = 0.5) -> None:
        random = torch.Generator().manual_seed(0)
        stripes = torch.tensor([1.0, -1.0] * 4).expand(8, 8)
        both = torch.stack([stripes, stripes.T])[:, None]
        size = (len(CODES), 1, 8, 8)
        self.pixels = both[torch.from_numpy(CODES)] + noise * torch.randn(size, generator=random)
        self.asked: list[tuple[list[int], int]] = []

    def augmented(self, rows: IntArray, *, seed: int, epoch: int) -> Tensor:
        self.asked.append((rows.tolist(), epoch))
        return self.plain(rows)

    def plain(self, rows: IntArray) -> Tensor:
        return self.pixels[torch.from_numpy(rows)]


def small_classifier(seed: int = 0) -> Classifier:
    with seeded(seed):
        net = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )
        return Classifier(Backbone(net, 4), 2)


def labelled(rows: range) -> Labelled:
    picked = np.array(rows)
    return Labelled(picked, CODES[picked])


def plan(steps: int = 60, rate: float = 0.02, batch: int = 16) -> TrainingPlan:
    return TrainingPlan(steps=steps, batch_size=batch, learning_rate=rate, seed=3)


def train(
    classifier: Classifier,
    images: Stripes,
    *,
    how: TrainingPlan | None = None,
    rows: range = range(40),
    val: Labelled | None = None,
) -> tuple[int, list[StepRecord]]:
    records: list[StepRecord] = []
    best = train_classifier(
        classifier,
        images,
        labelled(rows),
        val or labelled(range(40, 60)),
        how or plan(),
        fabric=build_fabric(RunConfig(device="cpu")),
        on_step=records.append,
    )
    return best, records


def test_a_network_learns_what_the_labels_mean() -> None:
    classifier, images = small_classifier(), Stripes()
    train(classifier, images)
    chances = predict(classifier, images, np.arange(60, 80))
    assert chances.sum(1) == pytest.approx(1)
    assert (chances.argmax(1) == CODES[60:80]).mean() >= 0.95


def test_equal_seeds_give_equal_networks() -> None:
    results = []
    for _ in range(2):
        classifier, images = small_classifier(), Stripes()
        train(classifier, images, how=plan(10))
        results.append(predict(classifier, images, np.arange(60, 80)))
    assert (results[0] == results[1]).all()


def test_the_weights_of_the_lowest_validation_loss_are_kept() -> None:
    classifier, images = small_classifier(), Stripes()
    val = labelled(range(40, 60))
    best, _ = train(classifier, images, val=val)
    chances = predict(classifier, images, val.rows)
    loss = -np.log(chances[np.arange(20), val.codes]).mean()
    assert 30 < best <= 60
    assert loss < 0.3


def test_training_ends_when_validation_says_so() -> None:
    # Validation labels are the wrong way round, so training only makes it worse.
    classifier, images = small_classifier(), Stripes()
    val = labelled(range(40, 60))
    best, records = train(classifier, images, val=Labelled(val.rows, 1 - val.codes))
    assert 30 < best < 60
    assert len(records) < 60


def test_fine_tuning_keeps_the_probe_if_nothing_better_comes() -> None:
    classifier, images = small_classifier(), Stripes()
    classifier.begin_at(LinearProbe(np.zeros((2, 4)), np.zeros(2), 1.0))
    val = labelled(range(40, 60))
    best, _ = train(classifier, images, val=Labelled(val.rows, 1 - val.codes))
    assert best == 0
    assert predict(classifier, images, val.rows) == pytest.approx(0.5)


def test_a_network_from_scratch_is_never_left_untrained() -> None:
    classifier, images = small_classifier(), Stripes()
    val = labelled(range(40, 60))
    best, _ = train(classifier, images, how=plan(1), val=Labelled(val.rows, 1 - val.codes))
    assert best == 1


def test_every_image_comes_once_an_epoch_and_in_another_order() -> None:
    images = Stripes()
    train(small_classifier(), images, how=plan(4, batch=20))
    assert [epoch for _, epoch in images.asked] == [0, 0, 1, 1]
    epochs = [images.asked[0][0] + images.asked[1][0], images.asked[2][0] + images.asked[3][0]]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(40))
    assert epochs[0] != epochs[1]


def test_fewer_images_than_a_batch_are_one_batch() -> None:
    images = Stripes()
    train(small_classifier(), images, how=plan(3, batch=64), rows=range(6))
    assert [len(rows) for rows, _ in images.asked] == [6, 6, 6]


def test_fine_tuning_starts_at_the_probe() -> None:
    classifier, images = small_classifier(), Stripes()
    probe = LinearProbe(np.array([[1.0, -1, 2, 0], [0, 0.5, 1, 1]]), np.array([0.1, -0.2]), 1.0)
    classifier.begin_at(probe)
    rows = np.arange(10)
    classifier.eval()
    with torch.no_grad():
        features = classifier.backbone(images.plain(rows)).numpy()
    assert predict(classifier, images, rows) == pytest.approx(
        probe.probabilities(features), abs=1e-6
    )


def test_kept_statistics_do_not_move_in_training() -> None:
    moved = []
    for keep in (True, False):
        classifier = small_classifier()
        classifier = Classifier(classifier.backbone, 2, keep_statistics=keep)
        train(classifier, Stripes(), how=plan(2))
        mean = classifier.backbone.state_dict()["net.1.running_mean"]
        moved.append(bool((mean != 0).any()))
        assert classifier.training
    assert moved == [False, True]


def test_predicting_leaves_the_network_in_training_mode() -> None:
    classifier = small_classifier().train()
    predict(classifier, Stripes(), np.arange(4))
    assert classifier.training
