"""Label draws are stratified, nested and repeatable, and validation shrinks with them."""

from itertools import pairwise

import numpy as np
import pytest

from medssl.fewlabels.label_budget import LabelBudget

TRAIN = np.repeat([0, 1, 2], [600, 300, 100])
VAL = np.repeat([0, 1, 2], [120, 60, 20])


@pytest.mark.parametrize(
    ("fraction", "counts"), [(0.01, [6, 3, 1]), (0.1, [60, 30, 10]), (1.0, [600, 300, 100])]
)
def test_a_fraction_keeps_the_shares_of_the_classes(fraction: float, counts: list[int]) -> None:
    drawn = LabelBudget(fraction=fraction).draw(TRAIN, VAL, seed=0, draw=0)
    assert np.bincount(TRAIN[drawn.train]).tolist() == counts


def test_every_class_is_drawn_however_rare() -> None:
    drawn = LabelBudget(fraction=0.001).draw(TRAIN, VAL, seed=0, draw=0)
    assert np.bincount(TRAIN[drawn.train]).tolist() == [1, 1, 1]


def test_shots_are_per_class_and_end_with_the_images() -> None:
    drawn = LabelBudget(shots=200).draw(TRAIN, VAL, seed=0, draw=0)
    assert np.bincount(TRAIN[drawn.train]).tolist() == [200, 200, 100]


def test_validation_labels_shrink_in_proportion_but_not_below_two_per_class() -> None:
    few = LabelBudget(fraction=0.01).draw(TRAIN, VAL, seed=0, draw=0)
    assert np.bincount(VAL[few.val]).tolist() == [2, 2, 2]
    more = LabelBudget(fraction=0.5).draw(TRAIN, VAL, seed=0, draw=0)
    assert np.bincount(VAL[more.val]).tolist() == [60, 30, 10]
    every = LabelBudget(fraction=1.0).draw(TRAIN, VAL, seed=0, draw=0)
    assert len(every.val) == len(VAL)


def test_smaller_budgets_are_contained_in_larger_ones() -> None:
    small, large = (
        LabelBudget(fraction=share).draw(TRAIN, VAL, seed=3, draw=1) for share in (0.01, 0.1)
    )
    assert set(small.train) <= set(large.train)


def test_a_larger_fraction_contains_every_smaller_one() -> None:
    # With largest remainders, the fourth class of these lost an image between two fractions.
    train = np.repeat(np.arange(6), [38, 31, 16, 19, 3, 5])
    drawn = [
        LabelBudget(fraction=percent / 100).draw(train, train, seed=0, draw=0)
        for percent in range(1, 101)
    ]
    for small, large in pairwise(drawn):
        assert set(small.train) <= set(large.train)
        assert set(small.val) <= set(large.val)


def test_draws_differ_and_repeat() -> None:
    budget = LabelBudget(shots=10)
    first, again, other = (budget.draw(TRAIN, VAL, seed=0, draw=draw) for draw in (0, 0, 1))
    assert first.train.tolist() == again.train.tolist()
    assert first.train.tolist() != other.train.tolist()


def test_all_labels_are_drawn_once() -> None:
    assert LabelBudget(fraction=1.0).draws(5) == 1
    assert LabelBudget(fraction=0.1).draws(5) == 5


def test_budgets_have_names() -> None:
    assert [str(LabelBudget(fraction=share)) for share in (0.01, 0.005, 1.0)] == [
        "1%",
        "0.5%",
        "100%",
    ]
    assert str(LabelBudget(shots=10)) == "10 per class"
