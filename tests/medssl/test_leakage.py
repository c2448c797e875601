"""What crosses the split is counted, and copies of later parts leave the earlier ones."""

import numpy as np

from medssl.fewlabels.leakage import close_leaks
from medssl.fewlabels.split import Split, split_rows
from tests.medssl.test_split import hospital, table


def simple_split() -> Split:
    return Split(np.arange(0, 4), np.arange(4, 6), np.arange(6, 8), "given")


def test_copies_of_test_and_val_images_leave_the_earlier_parts() -> None:
    contents = ["T", "b", "V", "d", "V", "T", "T", "h"]
    clean, leakage = close_leaks(table(["a", "b"] * 4, contents=contents), simple_split())
    assert clean.train.tolist() == [1, 3]
    assert clean.val.tolist() == [4]
    assert clean.test.tolist() == [6, 7]
    assert leakage.duplicates_across_splits == 3
    assert "3 training or validation image(s)" in leakage.note


def test_nothing_is_dropped_without_copies() -> None:
    clean, leakage = close_leaks(table(["a", "b"] * 4), simple_split())
    assert clean.train.tolist() == [0, 1, 2, 3]
    assert leakage.duplicates_across_splits == 0


def test_patients_in_two_parts_are_counted() -> None:
    rows = table(["a", "b"] * 4, patients=[*"pqrstuvp"])
    _, leakage = close_leaks(rows, simple_split())
    assert leakage.patients_across_splits == 1
    assert "too good" in leakage.note


def test_unknown_patients_are_said_to_be_unknown() -> None:
    _, leakage = close_leaks(table(["a", "b"] * 4), simple_split())
    assert "not known" in leakage.note


def test_equal_images_with_different_labels_are_counted() -> None:
    contents = ["x", "x", "y", "z", "y", "5", "6", "7"]
    _, leakage = close_leaks(table(["a", "b"] * 4, contents=contents), simple_split())
    assert leakage.conflicting_duplicates == 1


def test_test_images_seen_in_pretraining_are_counted() -> None:
    _, leakage = close_leaks(table(["a", "b"] * 4), simple_split(), pretrained_on=["c6", "c1"])
    assert leakage.test_seen_in_pretraining == 1
    assert "saw 1 of 2 test images" in leakage.note


def test_own_splits_by_patient_leak_nothing() -> None:
    rows = hospital(0, patients=30)
    split = split_rows(rows, how="patient", seed=0, test_share=0.3, val_share=0.15)
    clean, leakage = close_leaks(rows, split)
    assert leakage.patients_across_splits == leakage.duplicates_across_splits == 0
    assert clean.train.tolist() == split.train.tolist()
