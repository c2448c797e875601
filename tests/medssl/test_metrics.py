"""Weighted metrics agree with scikit-learn; resampling respects patients and classes."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    roc_auc_score,
)
from sklearn.metrics import confusion_matrix as confusion_by_scikit_learn

from medssl.errors import DataError
from medssl.fewlabels.metrics import (
    METRICS,
    FloatArray,
    IntArray,
    Interval,
    Predictions,
    compare,
    confusion_matrix,
    join_blocks,
    resample_groups,
    share_intervals,
    summarise,
    weighted_metrics,
)


def example(
    seed: int, *, images: int = 60, classes: int = 3, levels: int | None = None
) -> tuple[IntArray, Predictions]:
    rng = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(classes), rng.integers(classes, size=images - classes)])
    chances = rng.dirichlet(np.ones(classes), images)
    if levels:  # many equal scores
        chances = np.round(chances * levels) + 0.01
        chances /= chances.sum(1, keepdims=True)
    return truth, Predictions(chances, rng.integers(classes, size=images))


def resamples(
    groups: IntArray, truth: IntArray, num_classes: int, *, count: int, seed: int
) -> np.ndarray:
    return np.hstack(list(resample_groups(groups, truth, num_classes, count=count, seed=seed)))


def ones(images: int) -> np.ndarray:
    return np.ones((images, 1), np.uint16)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    classes=st.integers(2, 4),
    levels=st.sampled_from([None, 2, 5]),
)
def test_every_column_agrees_with_scikit_learn(seed: int, classes: int, levels: int | None) -> None:
    truth, said = example(seed, classes=classes, levels=levels)
    weights = resamples(np.arange(60) // 3, truth, classes, count=3, seed=seed)
    ours = weighted_metrics(truth, said, weights)
    for column in range(3):
        expected = by_scikit_learn(truth, said, weights[:, column])
        for name, value in expected.items():
            assert ours[name][column] == pytest.approx(value, abs=1e-12), name


def by_scikit_learn(truth: IntArray, said: Predictions, weight: np.ndarray) -> dict[str, float]:
    kinds = range(said.probabilities.shape[1])
    scores = said.probabilities
    return {
        "auroc": np.mean(
            [roc_auc_score(truth == k, scores[:, k], sample_weight=weight) for k in kinds]
        ),
        "average_precision": np.mean(
            [average_precision_score(truth == k, scores[:, k], sample_weight=weight) for k in kinds]
        ),
        "balanced_accuracy": balanced_accuracy_score(truth, said.decided, sample_weight=weight),
        "accuracy": accuracy_score(truth, said.decided, sample_weight=weight),
    }


def test_weights_are_the_same_as_repeating_images() -> None:
    truth, said = example(1)
    weights = resamples(np.arange(60), truth, 3, count=1, seed=1)
    rows = np.repeat(np.arange(60), weights[:, 0])
    repeated = Predictions(said.probabilities[rows], said.decided[rows])
    ours = weighted_metrics(truth, said, weights)
    theirs = weighted_metrics(truth[rows], repeated, ones(len(rows)))
    for name in METRICS:
        assert ours[name] == pytest.approx(theirs[name], abs=1e-12), name


def test_calibration_error_follows_its_definition() -> None:
    truth, said = example(2, classes=2)
    confidence = said.probabilities.max(1)
    correct = said.probabilities.argmax(1) == truth
    expected = 0.0
    for number in range(15):
        inside = (confidence > number / 15) & (confidence <= (number + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    ours = weighted_metrics(truth, said, ones(60))["calibration_error"][0]
    assert ours == pytest.approx(expected, abs=1e-12)


def test_a_perfect_model_has_perfect_metrics() -> None:
    truth = np.array([0, 1, 2, 1])
    said = Predictions(np.eye(3)[truth], truth)
    values = weighted_metrics(truth, said, ones(4))
    assert {name: value[0] for name, value in values.items()} == {
        "auroc": 1.0,
        "balanced_accuracy": 1.0,
        "average_precision": 1.0,
        "calibration_error": 0.0,
        "accuracy": 1.0,
    }


def test_equal_scores_for_all_have_auroc_one_half() -> None:
    truth = np.array([0, 1, 1, 0, 1])
    said = Predictions(np.full((5, 2), 0.5), np.zeros(5, np.int64))
    assert weighted_metrics(truth, said, ones(5))["auroc"][0] == 0.5


def test_metrics_do_not_depend_on_how_many_resamples_are_asked_for() -> None:
    truth, said = example(3)
    many = resamples(np.arange(60), truth, 3, count=150, seed=0)
    alone = weighted_metrics(truth, said, many[:, 100:101])
    assert weighted_metrics(truth, said, many)["auroc"][100] == pytest.approx(alone["auroc"][0])


def test_blocks_give_the_metrics_of_all_resamples_at_once() -> None:
    truth, said = example(3)
    blocks = list(resample_groups(np.arange(60), truth, 3, count=150, seed=0))
    assert [block.shape for block in blocks] == [(60, 64), (60, 64), (60, 22)]
    joined = join_blocks([weighted_metrics(truth, said, block) for block in blocks])
    whole = weighted_metrics(truth, said, np.hstack(blocks))
    for name in METRICS:
        np.testing.assert_allclose(joined[name], whole[name], rtol=1e-12)


def test_the_memory_of_resampling_does_not_grow_with_their_number() -> None:
    truth = np.tile([0, 1], 1000)
    peaks = []
    for count in (64, 640):
        tracemalloc.start()
        for _ in resample_groups(np.arange(2000), truth, 2, count=count, seed=0):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_images_of_one_patient_are_drawn_together() -> None:
    truth = np.tile([0, 1], 10)
    groups = np.repeat(np.arange(5), 4)
    weights = resamples(groups, truth, 2, count=50, seed=0).astype(int)
    for patient in range(5):
        assert (np.ptp(weights[groups == patient], axis=0) == 0).all()
    assert (weights.sum(0) == 20).all()


def test_every_resample_holds_every_class() -> None:
    truth = np.array([1, *[0] * 9])
    weights = resamples(np.arange(10), truth, 2, count=300, seed=0)
    assert (weights[0] > 0).all()
    assert (weights[1:].sum(0) > 0).all()


def test_a_class_that_no_image_has_is_refused() -> None:
    with pytest.raises(DataError, match="resampling misses it"):
        resamples(np.arange(4), np.zeros(4, np.int64), 2, count=2, seed=0)


def test_equal_seeds_give_equal_resamples() -> None:
    truth = np.tile([0, 1], 10)
    first, second, other = (
        resamples(np.arange(20), truth, 2, count=5, seed=seed) for seed in (4, 4, 5)
    )
    assert (first == second).all()
    assert (first != other).any()


def test_confusion_matrix_agrees_with_scikit_learn_for_any_weights() -> None:
    truth, said = example(5)
    rng = np.random.default_rng(5)
    weights = rng.integers(0, 4, (len(truth), 3)).astype(np.uint16)
    found = confusion_matrix(truth, said.decided, weights, 3)
    for column in range(3):
        expected = confusion_by_scikit_learn(truth, said.decided, sample_weight=weights[:, column])
        assert (found[..., column] == expected).all()


def test_a_share_is_of_its_row_and_its_interval_is_that_of_the_resamples() -> None:
    points = np.array([[30.0, 10.0], [0.0, 20.0]])
    resampled = np.stack([points, points[:, ::-1]], axis=-1)
    shares = share_intervals(points, resampled)
    assert shares["value"] == [[0.75, 0.25], [0.0, 1.0]]
    assert shares["low"] == pytest.approx(np.array([[0.2625, 0.2625], [0.025, 0.025]]))
    assert shares["high"] == pytest.approx(np.array([[0.7375, 0.7375], [0.975, 0.975]]))


def measured(values: list[float]) -> dict[str, FloatArray]:
    return dict.fromkeys(METRICS, np.array(values))


def test_an_interval_averages_draws_within_each_resample() -> None:
    resampled = [measured([0.0, 0.4, 1.0]), measured([1.0, 0.6, 0.0])]
    interval = summarise([measured([0.2]), measured([0.6])], resampled)["auroc"]
    assert interval.value == pytest.approx(0.4)
    assert (interval.low, interval.high) == pytest.approx((0.5, 0.5))
    assert interval.sd == pytest.approx(np.std([0.2, 0.6], ddof=1))


def test_one_draw_has_no_deviation() -> None:
    assert summarise([measured([0.2])], [measured([0.1, 0.3])])["auroc"].sd is None


def test_a_difference_is_measured_on_the_same_resamples() -> None:
    ours, theirs = Interval(0.9, 0.5, 1.0, None), Interval(0.8, 0.4, 0.9, None)
    difference = compare(ours, theirs, np.full(10, 0.1))
    assert difference == pytest.approx({"value": 0.1, "low": 0.1, "high": 0.1})


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    # 40 studies of 30 patients with 4 images each, whose correctness they share.
    inside = 0
    for study in range(40):
        rng = np.random.default_rng(study)
        correct = np.repeat(rng.random(30) < 0.7, 4)
        truth = np.tile([0, 1], 60)
        decided = np.where(correct, truth, 1 - truth)
        said = Predictions(np.eye(2)[decided], decided)
        weights = resamples(np.repeat(np.arange(30), 4), truth, 2, count=200, seed=study)
        low, high = np.percentile(weighted_metrics(truth, said, weights)["accuracy"], (2.5, 97.5))
        inside += low <= 0.7 <= high
    assert 34 <= inside <= 40
