"""Cheap classifiers on frozen embeddings: nearest neighbours and a linear probe."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from medssl.fewlabels.metrics import FloatArray, IntArray
from medssl.fewlabels.split import assign_groups
from sslcore.knn import knn_scores

FeatureArray = NDArray[np.float32]

STRENGTHS = tuple(10.0**power for power in range(-5, 2))  # C: inverse of the L2 penalty
ENOUGH_VAL = 200  # images
KNN_TEMPERATURE = 0.07

_MAX_ITERATIONS = 300
_FOLDS = 5
_FLOOR = 1e-6  # of a probability


@dataclass(frozen=True, slots=True)
class LinearProbe:
    """A fitted probe on features as they come, not standardised.

    Attributes:
        weight: `[classes, features]`.
        bias: `[classes]`.
        strength: The C that validation chose.
    """

    weight: FloatArray
    bias: FloatArray
    strength: float

    def probabilities(self, features: FeatureArray) -> FloatArray:
        """Return `[rows, classes]`."""
        return softmax(features @ self.weight.T + self.bias)


@dataclass(frozen=True, slots=True)
class Examples:
    """Labelled images, as a probe sees them.

    Attributes:
        features: `[rows, features]`.
        codes: Classes from 0.
        groups: Patient of each image, any integers; images of one are never on two sides.
    """

    features: FeatureArray
    codes: IntArray
    groups: IntArray


def fit_linear_probe(train: Examples, val: Examples, scaler: StandardScaler) -> LinearProbe:
    """Fit multinomial logistic regression on `train`; choose its penalty on validation images.

    The penalty is the strongest whose log loss, all classes weighing the same, lies within one
    standard error of the lowest (Breiman, Friedman, Olshen, Stone, "Classification and regression
    trees", 1984, section 3.4.3): what a few validation images can't tell apart, the simpler probe
    wins. Fewer than `ENOUGH_VAL` validation images would choose by luck; then predictions on
    training images join them, each made by a probe that did not see its patient.

    The fit itself does not reweight the classes, which would spoil calibration: the probabilities
    hold for the class shares of the training labels. `decide` corrects for them where a class has
    to be named.

    Args:
        train: Every class present.
        val: Chooses the penalty.
        scaler: Fitted on all training images: standardising needs no labels, and few images
            would make it noisy.
    """
    val_chances, weights, biases = _penalty_path(train, val.features, scaler)
    codes, chances = [val.codes], [val_chances]
    if len(val.codes) < ENOUGH_VAL:
        for rest, held_out in _folds(train):
            codes.append(held_out.codes)
            chances.append(_penalty_path(rest, held_out.features, scaler)[0])
    chosen = choose_penalty(np.concatenate(chances, axis=1), np.concatenate(codes))
    weight = weights[chosen] / scaler.scale_
    return LinearProbe(weight, biases[chosen] - weight @ scaler.mean_, STRENGTHS[chosen])


def choose_penalty(chances: FloatArray, codes: IntArray) -> int:
    """Return the first entry whose balanced log loss is within a standard error of the lowest.

    Args:
        chances: Probabilities, `[entries, rows, classes]`; the strongest penalty first.
        codes: Classes of the rows.
    """
    losses = _balanced_log_losses(chances, codes)
    means = losses.mean(1)
    best = int(means.argmin())
    error = losses[best].std() / np.sqrt(len(codes))
    return int(np.flatnonzero(means <= means[best] + error)[0])


def _penalty_path(
    train: Examples, queries: FeatureArray, scaler: StandardScaler
) -> tuple[FloatArray, list[FloatArray], list[FloatArray]]:
    """Return, for each of `STRENGTHS`, probabilities of the queries, weights and biases."""
    standard, standard_queries = scaler.transform(train.features), scaler.transform(queries)
    probe = LogisticRegression(max_iter=_MAX_ITERATIONS, warm_start=True)
    chances, weights, biases = [], [], []
    for strength in STRENGTHS:
        probe.set_params(C=strength)
        with warnings.catch_warnings():  # a stop before the optimum is one more regularisation
            warnings.simplefilter("ignore", ConvergenceWarning)
            probe.fit(standard, train.codes)
        weight, bias = probe.coef_.copy(), probe.intercept_.copy()
        if len(weight) == 1:  # two classes share one row; split it evenly
            weight, bias = np.vstack([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        chances.append(softmax(standard_queries @ weight.T + bias))
        weights.append(weight)
        biases.append(bias)
    return np.stack(chances), weights, biases


def _folds(train: Examples) -> Iterator[tuple[Examples, Examples]]:
    """Hold out each patient once; nothing if a class is on one patient only."""
    _, groups = np.unique(train.groups, return_inverse=True)
    counts = np.zeros((int(groups.max()) + 1, int(train.codes.max()) + 1), np.int64)
    np.add.at(counts, (groups, train.codes), 1)
    number = min(_FOLDS, int((counts > 0).sum(0).min()))
    if number < 2:
        return
    folds = assign_groups(counts, [1 / number] * number, seed=0)[groups]
    for fold in range(number):
        rest, held_out = folds != fold, folds == fold
        if len(np.unique(train.codes[rest])) == counts.shape[1]:
            yield _where(train, rest), _where(train, held_out)


def _where(examples: Examples, chosen: NDArray[np.bool_]) -> Examples:
    return Examples(examples.features[chosen], examples.codes[chosen], examples.groups[chosen])


def _balanced_log_losses(chances: FloatArray, codes: IntArray) -> FloatArray:
    """Return the log loss `[entries, rows]`, weighted so that all classes weigh the same."""
    weights = 1.0 / np.bincount(codes)[codes]
    own = np.log(np.maximum(chances[:, np.arange(len(codes)), codes], _FLOOR))
    return np.asarray(-own * weights / weights.mean())


def knn_probabilities(
    features: FeatureArray,
    codes: IntArray,
    queries: FeatureArray,
    num_classes: int,
    *,
    neighbours: int,
) -> FloatArray:
    """Let the most similar training images vote, weighted by cosine similarity.

    Args:
        features: Of the labelled training images.
        codes: Their classes.
        queries: Images to classify, `[rows, features]`.
        num_classes: Columns of the result.
        neighbours: Voters, at most; all training images if there are fewer.

    Returns:
        `[rows, num_classes]`, rows sum to one; no class gets exactly zero.
    """
    scores = knn_scores(
        torch.from_numpy(features),
        torch.from_numpy(codes),
        torch.from_numpy(queries),
        num_classes=num_classes,
        k=min(neighbours, len(features)),
        temperature=KNN_TEMPERATURE,
    )
    votes = scores.double().numpy() + _FLOOR
    return np.asarray(votes / votes.sum(1, keepdims=True))


def fit_scaler(features: FeatureArray) -> StandardScaler:
    """Return the mean and deviation of all training images, for `fit_linear_probe`."""
    return StandardScaler().fit(features.astype(np.float64))


def class_shares(codes: IntArray, num_classes: int) -> FloatArray:
    """Return the share of each class among labels, `[classes]`."""
    return np.bincount(codes, minlength=num_classes) / len(codes)


def decide(probabilities: FloatArray, shares: FloatArray) -> IntArray:
    """Name the class whose probability most exceeds its share of the training labels.

    This is the decision that maximises balanced accuracy if the probabilities are right; simply
    taking the likeliest class would never find a rare disease.

    Args:
        probabilities: `[rows, classes]`.
        shares: Of each class among the training labels, each above 0; see `class_shares`.
    """
    return np.asarray((probabilities / shares).argmax(1), np.int64)


def softmax(logits: FloatArray) -> FloatArray:
    """Turn rows of logits into probabilities."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))
