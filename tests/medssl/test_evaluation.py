"""Predictions become results with intervals, paired comparisons and a table of every image."""

import json

import numpy as np
import polars as pl
import pytest

from medssl.fewlabels.evaluation import PREDICTIONS_SCHEMA, Outcome, TestSet, encode_labels
from medssl.fewlabels.label_budget import LabelBudget
from medssl.fewlabels.metrics import METRICS, Predictions

TENTH, TEN = LabelBudget(fraction=0.1), LabelBudget(shots=10)


def make_rows(*, patients: bool = True) -> pl.DataFrame:
    count = 60
    return pl.DataFrame(
        {
            "sample": [f"s{row}" for row in range(count)],
            "patient": [f"p{row // 3}" if patients else None for row in range(count)],
            "volume": None,
            "study": None,
            "label": ["a", "b", "b"] * 20,
        },
        schema=dict.fromkeys(("sample", "patient", "volume", "study", "label"), pl.String),
    )


def make_test(rows: pl.DataFrame | None = None) -> TestSet:
    rows = make_rows() if rows is None else rows
    return TestSet(rows, np.arange(len(rows)), ["a", "b"], resamples=200, seed=0)


def outcome(test: TestSet, model: str, draw: int, *, skill: float, budget: LabelBudget) -> Outcome:
    logit = np.random.default_rng(draw).normal(size=len(test.truth)) + skill * test.truth
    chance = 1 / (1 + np.exp(-logit))
    said = Predictions(np.stack([1 - chance, chance], axis=1), (chance > 0.5).astype(np.int64))
    return Outcome(budget, draw, model, 20, 4, np.arange(len(test.truth)), said)


def outcomes(test: TestSet) -> list[Outcome]:
    return [
        outcome(test, model, draw, skill=skill, budget=budget)
        for budget in (TENTH, TEN)
        for draw in range(2)
        for model, skill in (("linear_probe", 3.0), ("scratch", 1.0))
    ]


def test_each_model_and_budget_has_one_result_over_all_draws() -> None:
    test = make_test()
    results, _ = test.evaluate(outcomes(test))
    assert [(one["labels"], one["model"]) for one in results] == [
        ("10%", "linear_probe"),
        ("10%", "scratch"),
        ("10 per class", "linear_probe"),
        ("10 per class", "scratch"),
    ]
    first = results[0]
    assert (first["fraction"], first["shots"], first["draws"]) == (0.1, None, 2)
    assert (first["num_labels"], first["num_val_labels"]) == (20, 4)
    assert set(first["metrics"]) == set(METRICS)
    for metric in first["metrics"].values():
        assert metric["low"] <= metric["value"] <= metric["high"]
        assert metric["sd"] > 0
    assert np.sum(first["confusion"]) == 2 * 60
    assert np.sum(first["confusion"], axis=1).tolist() == [40, 80]
    shares = {name: np.array(each) for name, each in first["confusion_share"].items()}
    assert shares["value"] == pytest.approx(np.array(first["confusion"]) / [[40], [80]])
    assert (shares["low"] <= shares["value"]).all()
    assert (shares["value"] <= shares["high"]).all()
    assert shares["low"][0, 0] < shares["high"][0, 0]
    recall = shares["value"].trace() / 2
    assert recall == pytest.approx(first["metrics"]["balanced_accuracy"]["value"])
    json.dumps(results)


def test_a_comparison_is_narrower_than_the_intervals_it_compares() -> None:
    test = make_test()
    results, comparisons = test.evaluate(outcomes(test))
    assert [(one["labels"], one["model"], one["against"]) for one in comparisons] == [
        ("10%", "linear_probe", "scratch"),
        ("10 per class", "linear_probe", "scratch"),
    ]
    ours, theirs = (one["metrics"]["auroc"] for one in results[:2])
    difference = comparisons[0]["difference"]
    assert difference["value"] == pytest.approx(ours["value"] - theirs["value"])
    assert 0 < difference["low"] < difference["value"] < difference["high"]
    width = difference["high"] - difference["low"]
    assert width < (ours["high"] - ours["low"]) + (theirs["high"] - theirs["low"])


def test_a_model_compared_with_its_equal_differs_by_nothing() -> None:
    test = make_test()
    pair = [outcome(test, m, 0, skill=1, budget=TEN) for m in ("scratch", "knn")]
    difference = test.evaluate(pair)[1][0]["difference"]
    assert difference == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_every_prediction_is_listed_once() -> None:
    test = make_test()
    table = test.predictions_table(outcomes(test))
    assert table.schema == PREDICTIONS_SCHEMA
    assert len(table) == 8 * 60
    assert len(table.unique(["labels", "model", "draw", "sample"])) == 8 * 60
    assert table["probabilities"].list.sum().to_list() == pytest.approx([1] * len(table))


def test_intervals_are_over_patients_and_say_so() -> None:
    about = make_test().describe_interval()
    assert about["unit"] == "patient"
    assert about["note"].startswith("20 test patients")


def test_intervals_over_images_say_that_they_may_be_too_narrow() -> None:
    about = make_test(make_rows(patients=False)).describe_interval()
    assert about["unit"] == "image"
    assert "too narrow" in about["note"]


@pytest.mark.parametrize(
    ("unit", "images", "held"), [("study", 6, "10 test studies"), ("volume", 4, "15 test volumes")]
)
def test_images_of_one_study_or_volume_are_one_unit_where_patients_are_not_known(
    unit: str, images: int, held: str
) -> None:
    named = pl.format(f"{unit}{{}}", pl.int_range(pl.len()) // images).alias(unit)
    about = make_test(make_rows(patients=False).with_columns(named)).describe_interval()
    assert about["unit"] == unit
    assert about["note"].startswith(held)
    assert f"too narrow if {held.rsplit(maxsplit=1)[-1]} share a patient" in about["note"]


def test_one_image_without_a_patient_counts_as_one_patient() -> None:
    rows = make_rows().with_columns(
        pl.when(pl.int_range(pl.len()) == 0).then(None).otherwise("patient").alias("patient")
    )
    about = make_test(rows).describe_interval()
    assert about["unit"] == "patient"
    assert about["note"].startswith("21 test patients")
    assert "images of unknown patients (1) count as one each" in about["note"]


def test_equal_seeds_give_equal_results() -> None:
    first, second = (make_test().evaluate(outcomes(make_test())) for _ in range(2))
    assert first == second


def test_few_patients_are_said_to_be_few() -> None:
    assert "rough" in make_test(make_rows()[:30]).describe_interval()["note"]


def test_intervals_of_patients_are_wider_than_those_of_images() -> None:
    # Each patient's images are all right or all wrong, so they are one observation, not three.
    right = np.repeat(np.random.default_rng(0).random(20) < 0.7, 3)
    truth = encode_labels(make_rows()["label"], ["a", "b"])
    decided = np.where(right, truth, 1 - truth)
    said = Predictions(np.eye(2)[decided] * 0.8 + 0.1, decided)
    widths = []
    for patients in (True, False):
        test = make_test(make_rows(patients=patients))
        results, _ = test.evaluate([Outcome(TEN, 0, "knn", 20, 4, np.arange(60), said)])
        accuracy = results[0]["metrics"]["accuracy"]
        widths.append(accuracy["high"] - accuracy["low"])
    assert widths[0] > 1.3 * widths[1]
