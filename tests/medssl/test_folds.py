"""Folds test every patient once per round, keep patients whole, and average over models."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.errors import DataError
from medssl.fewlabels.evaluation import Outcome, TestSet
from medssl.fewlabels.folds import fold_rows
from medssl.fewlabels.label_budget import LabelBudget
from medssl.fewlabels.metrics import METRICS, Predictions, mean_of_draws, weighted_metrics
from medssl.fewlabels.split import Split, patients_on_two_sides
from tests.medssl.test_split import hospital, table

TEN = LabelBudget(shots=10)


def people(patients: int) -> pl.DataFrame:
    rows = hospital(0, patients=patients)
    return rows.with_columns(pl.format("s{}", pl.int_range(pl.len())).alias("sample"))


def divided(seed: int, *, patients: int = 20, folds: int = 4, rounds: int = 2) -> tuple[Split, ...]:
    rows = hospital(0, patients=patients)
    return fold_rows(rows, how="auto", folds=folds, rounds=rounds, val_share=0.15, seed=seed)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), patients=st.integers(14, 40), folds=st.integers(2, 4))
def test_every_image_is_tested_once_in_each_round(seed: int, patients: int, folds: int) -> None:
    splits = divided(seed, patients=patients, folds=folds, rounds=2)
    rows = hospital(0, patients=patients)
    assert len(splits) == 2 * folds
    for first in (0, folds):
        tested = np.concatenate([split.test for split in splits[first : first + folds]])
        assert sorted(tested) == list(range(len(rows)))
    for split in splits:
        assert sorted(np.concatenate(list(split.parts().values()))) == list(range(len(rows)))
        assert patients_on_two_sides(rows, split) == []
        for part in split.parts().values():
            assert rows["label"].gather(part).n_unique() == 2


def test_rounds_divide_the_patients_anew_and_equal_seeds_alike() -> None:
    splits, again = divided(0), divided(0)
    rounds = [{tuple(split.test) for split in part} for part in (splits[:4], splits[4:])]
    assert rounds[0] != rounds[1]
    assert [split.test.tolist() for split in splits] == [split.test.tolist() for split in again]


def test_a_given_split_is_not_divided() -> None:
    rows = table(["a", "b"] * 6, parts=["train"] * 6 + ["test"] * 6)
    with pytest.raises(DataError, match="--split patient, or --folds 1"):
        fold_rows(rows, how="auto", folds=2, rounds=1, val_share=0.2, seed=0)


def test_images_of_unknown_patients_are_divided_only_by_image() -> None:
    rows = table(["a", "b"] * 10)
    with pytest.raises(DataError, match="--split image"):
        fold_rows(rows, how="auto", folds=2, rounds=1, val_share=0.2, seed=0)
    splits = fold_rows(rows, how="image", folds=2, rounds=1, val_share=0.2, seed=0)
    assert {split.how for split in splits} == {"image"}


def said(scores: np.ndarray) -> Predictions:
    return Predictions(np.stack([1 - scores, scores], axis=1), (scores > 0.5).astype(np.int64))


def test_scores_of_different_models_are_never_ranked_together() -> None:
    rows = people(20)
    test = TestSet(rows, np.arange(len(rows)), ["k0", "k1"], resamples=100, seed=0)
    outcomes = []
    for draw, split in enumerate(divided(0, rounds=1)):
        # each model is perfect, but what is high for one is low for the next
        scores = 0.2 * test.truth[split.test] + 0.1 + 0.2 * draw
        outcomes.append(Outcome(TEN, draw, "knn", 20, 4, split.test, said(scores)))
    (result,), _ = test.evaluate(outcomes)
    auroc = result["metrics"]["auroc"]
    assert (auroc["value"], auroc["low"], auroc["high"]) == (1.0, 1.0, 1.0)
    assert result["draws"] == 4
    assert np.sum(result["confusion"]) == len(rows)
    listed = test.predictions_table(outcomes)["sample"].to_list()
    assert sorted(listed) == sorted(rows["sample"].to_list())


def test_folds_give_the_interval_of_all_patients() -> None:
    rows = people(40)
    everyone = TestSet(rows, np.arange(len(rows)), ["k0", "k1"], resamples=400, seed=0)
    scores = 1 / (1 + np.exp(-np.random.default_rng(0).normal(size=len(rows)) - everyone.truth))
    whole = Outcome(TEN, 0, "knn", 20, 4, np.arange(len(rows)), said(scores))
    parts = [
        Outcome(TEN, draw, "knn", 20, 4, split.test, said(scores[split.test]))
        for draw, split in enumerate(divided(0, patients=40, rounds=1))
    ]
    widths = []
    for outcomes in ([whole], parts):
        auroc = everyone.evaluate(outcomes)[0][0]["metrics"]["auroc"]
        widths.append(auroc["high"] - auroc["low"])
    assert widths[1] == pytest.approx(widths[0], rel=0.35)


def test_a_resample_without_a_class_has_no_value_and_does_not_count() -> None:
    truth = np.array([0, 1, 0, 1])
    weights = np.array([[1, 1], [1, 0], [1, 2], [1, 0]], np.uint16)
    found = weighted_metrics(truth, said(np.array([0.1, 0.9, 0.2, 0.8])), weights)
    for name in METRICS:
        assert np.isnan(found[name]).tolist() == [False, True], name
    averaged = mean_of_draws([np.array([0.5, np.nan, np.nan]), np.array([1.0, 0.7, np.nan])])
    assert averaged[:2].tolist() == [0.75, 0.7]
    assert np.isnan(averaged[2])


def test_all_labels_are_drawn_once_in_each_fold() -> None:
    assert LabelBudget(fraction=1.0).draws(3, folds=5) == 5
    assert TEN.draws(3, folds=5) == 15
