"""Probes learn what is linearly there, choose their penalty on validation, and stay honest."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from medssl.fewlabels.metrics import IntArray
from medssl.fewlabels.probe import (
    ENOUGH_VAL,
    STRENGTHS,
    Examples,
    FeatureArray,
    _balanced_log_losses,
    _folds,
    choose_penalty,
    class_shares,
    decide,
    fit_linear_probe,
    fit_scaler,
    knn_probabilities,
)


def examples(features: FeatureArray, codes: IntArray) -> Examples:
    """Give each image a patient of its own."""
    return Examples(features, codes, np.arange(len(codes)))


def blobs(
    seed: int, counts: list[int], *, dim: int = 6, gap: float = 2.0
) -> tuple[FeatureArray, IntArray]:
    """Draw one Gaussian per class, on axes of very different scale and place."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(len(counts)), counts)
    features = rng.normal(size=(len(codes), dim)) + gap * np.eye(len(counts), dim)[codes]
    return (100 + features * 10.0 ** np.arange(dim)).astype(np.float32), codes


@pytest.mark.parametrize("classes", [2, 3])
def test_a_probe_separates_what_is_separable(classes: int) -> None:
    train, codes = blobs(0, [30] * classes)
    probe = fit_linear_probe(
        examples(train, codes), examples(*blobs(1, [20] * classes)), fit_scaler(train)
    )
    queries, truth = blobs(2, [100] * classes)
    chances = probe.probabilities(queries)
    assert chances.sum(1) == pytest.approx(1)
    score = chances[:, 1] if classes == 2 else chances
    assert roc_auc_score(truth, score, multi_class="ovr") > 0.88


@pytest.mark.parametrize("classes", [2, 3])
def test_a_probe_is_scikit_learns_with_the_chosen_penalty(classes: int) -> None:
    train, codes = blobs(0, [30] * classes)
    scaler = fit_scaler(train)
    probe = fit_linear_probe(examples(train, codes), examples(*blobs(1, [20] * classes)), scaler)
    queries, _ = blobs(2, [10] * classes)
    direct = LogisticRegression(C=probe.strength, max_iter=1000)
    direct.fit(scaler.transform(train), codes)
    expected = direct.predict_proba(scaler.transform(queries))
    assert probe.probabilities(queries) == pytest.approx(expected, abs=5e-3)


def test_validation_chooses_the_penalty() -> None:
    train, codes = blobs(0, [40, 40])
    scaler = fit_scaler(train)
    learnt = examples(train, codes)
    many = (np.tile(train, (5, 1)), np.tile(codes, 5))
    assert len(many[1]) >= ENOUGH_VAL
    agreeing, contrary = examples(*many), examples(many[0], 1 - many[1])
    assert fit_linear_probe(learnt, agreeing, scaler).strength >= 0.1
    assert fit_linear_probe(learnt, contrary, scaler).strength == STRENGTHS[0]


@pytest.mark.parametrize(("excess", "chosen"), [(0.5, 1), (1.5, 2)])
def test_the_strongest_penalty_within_a_standard_error_of_the_best_is_chosen(
    excess: float, chosen: int
) -> None:
    # Balanced classes; the losses of the best entry are 0.1 and 0.3 in turn, so its standard
    # error is 0.1 / sqrt(100) = 0.01.
    best = np.tile([0.1, 0.3], 50)
    losses = np.stack([best + 0.5, best + excess * 0.01, best, best + 0.001])
    codes = np.repeat([0, 1], 50)
    own = np.exp(-losses)
    chances = np.where(codes[:, None] == [0, 1], own[..., None], 1 - own[..., None])
    assert choose_penalty(chances, codes) == chosen


def test_a_handful_of_validation_images_does_not_choose_alone() -> None:
    train, codes = blobs(0, [40, 40])
    contrary = examples(train[[0, 79]], np.array([1, 0]))
    probe = fit_linear_probe(examples(train, codes), contrary, fit_scaler(train))
    assert probe.strength > STRENGTHS[0]


def test_held_out_images_are_of_other_patients_and_all_come_once() -> None:
    train, codes = blobs(0, [12, 12])
    learnt = Examples(train, codes, np.arange(24) // 3 * 7)
    seen: list[int] = []
    for rest, held_out in _folds(learnt):
        assert not set(rest.groups) & set(held_out.groups)
        seen.extend(held_out.groups)
    assert sorted(seen) == learnt.groups.tolist()


def test_a_class_on_one_patient_cannot_be_held_out() -> None:
    train, codes = blobs(0, [6, 6])
    assert list(_folds(Examples(train, codes, np.repeat([0, 1, 2], [6, 3, 3])))) == []


def test_all_classes_weigh_the_same_in_the_choice() -> None:
    # The rare class is said to be certain and wrong, which must not drown in the common one.
    codes = np.repeat([0, 1], [90, 10])
    chances = np.array([[[0.99, 0.01]] * 100, [[0.5, 0.5]] * 100])
    first, second = _balanced_log_losses(chances, codes).mean(1)
    assert first == pytest.approx(-(np.log(0.99) + np.log(0.01)) / 2)
    assert second == pytest.approx(np.log(2))


def test_a_constant_feature_does_no_harm() -> None:
    train, codes = blobs(0, [10, 10])
    train[:, 3] = 7
    probe = fit_linear_probe(examples(train, codes), examples(train, codes), fit_scaler(train))
    assert np.isfinite(probe.probabilities(train)).all()


def test_neighbours_vote_by_similarity() -> None:
    train = np.array([[1, 0], [0.9, 0.1], [0, 1]], np.float32)
    queries = np.array([[1, 0.05], [0, 2]], np.float32)
    chances = knn_probabilities(train, np.array([0, 0, 1]), queries, 2, neighbours=50)
    assert chances.argmax(1).tolist() == [0, 1]
    assert chances.sum(1) == pytest.approx(1)
    assert (chances > 0).all()


def test_a_rare_class_is_decided_on_where_it_is_more_likely_than_usual() -> None:
    codes = np.repeat([0, 1], [90, 10])
    assert decide(np.array([[0.8, 0.2], [0.95, 0.05]]), class_shares(codes, 2)).tolist() == [1, 0]


def test_with_equal_class_shares_the_likeliest_class_is_decided_on() -> None:
    chances = np.random.default_rng(0).dirichlet(np.ones(3), 50)
    assert (decide(chances, class_shares(np.tile([0, 1, 2], 4), 3)) == chances.argmax(1)).all()


def test_the_decision_finds_a_rare_class_that_the_likeliest_class_would_miss() -> None:
    train, codes = blobs(0, [190, 10], gap=1.5)
    probe = fit_linear_probe(
        examples(train, codes), examples(*blobs(1, [95, 5], gap=1.5)), fit_scaler(train)
    )
    queries, truth = blobs(2, [190, 10], gap=1.5)
    chances = probe.probabilities(queries)
    ours = balanced_accuracy_score(truth, decide(chances, class_shares(codes, 2)))
    assert ours > balanced_accuracy_score(truth, chances.argmax(1)) + 0.1
