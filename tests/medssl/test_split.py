"""Splits keep patients whole, classes present and shares as asked; they refuse what cannot be."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.errors import DataError
from medssl.fewlabels.folds import fold_rows
from medssl.fewlabels.groups import groups_by, joined_groups
from medssl.fewlabels.split import (
    Split,
    assign_groups,
    patients_on_two_sides,
    split_rows,
)

SHARES = {"test_share": 0.3, "val_share": 0.15}


def table(
    labels: list[str],
    *,
    patients: list[str | None] | None = None,
    contents: list[str] | None = None,
    parts: list[str | None] | None = None,
    sites: list[str | None] | None = None,
    studies: list[str | None] | None = None,
) -> pl.DataFrame:
    count = len(labels)
    names = ("patient", "content", "label", "split", "site", "volume", "study")
    return pl.DataFrame(
        {
            "patient": patients or [None] * count,
            "content": contents or [f"c{row}" for row in range(count)],
            "label": labels,
            "split": parts or [None] * count,
            "site": sites or [None] * count,
            "volume": [None] * count,
            "study": studies or [None] * count,
        },
        schema=dict.fromkeys(names, pl.String),
    )


def hospital(seed: int, *, patients: int, classes: int = 2) -> pl.DataFrame:
    """Make patients with 1 to 9 images; every class at four patients or more."""
    rng = np.random.default_rng(seed)
    keys, labels = [], []
    for patient in range(patients):
        for image in range(int(rng.integers(1, 10))):
            kind = patient % classes if image == 0 else int(rng.integers(classes))
            keys.append(f"p{patient}")
            labels.append(f"k{kind}")
    return table(labels, patients=keys)


def by_patient(rows: pl.DataFrame, seed: int = 0) -> Split:
    return split_rows(rows, how="auto", seed=seed, **SHARES)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), patients=st.integers(12, 40), classes=st.integers(2, 3))
def test_each_image_is_in_one_part_and_each_patient_too(
    seed: int, patients: int, classes: int
) -> None:
    rows = hospital(seed, patients=patients, classes=classes)
    split = by_patient(rows, seed)
    together = np.concatenate(list(split.parts().values()))
    assert sorted(together) == list(range(len(rows)))
    assert patients_on_two_sides(rows, split) == []
    for part in split.parts().values():
        assert rows["label"].gather(part).n_unique() == classes


def test_shares_hold_for_patients_and_for_each_class() -> None:
    rows = hospital(0, patients=100)
    split = by_patient(rows)
    for share, part in ((0.55, split.train), (0.15, split.val), (0.3, split.test)):
        assert rows["patient"].gather(part).n_unique() == pytest.approx(100 * share, abs=2)
        for kind in ("k0", "k1"):
            of_kind = (rows["label"] == kind).sum()
            assert (rows["label"].gather(part) == kind).sum() / of_kind == pytest.approx(
                share, abs=0.02
            )


def test_equal_seeds_give_equal_splits_and_other_seeds_others() -> None:
    rows = hospital(0, patients=30)
    assert (by_patient(rows, 3).test == by_patient(rows, 3).test).all()
    assert any(list(by_patient(rows, 3).test) != list(by_patient(rows, s).test) for s in (4, 5))


def test_one_large_patient_goes_where_there_is_room() -> None:
    labels = ["a", "b"] * 50 + ["a", "b"] * 20
    patients: list[str | None] = ["big"] * 100 + [f"p{row}" for row in range(20) for _ in "xy"]
    rows = table(labels, patients=patients)
    assert "big" in rows["patient"].gather(by_patient(rows).train).to_list()


def test_a_rare_class_reaches_every_part() -> None:
    labels = ["rare"] * 3 + ["common"] * 57
    rows = table(labels, patients=[f"p{row}" for row in range(60)])
    for part in by_patient(rows).parts().values():
        assert (rows["label"].gather(part) == "rare").sum() == 1


def test_copies_of_an_image_and_the_patients_that_share_one_stay_together() -> None:
    labels = ["a", "b"] * 20
    contents = [f"c{row}" for row in range(40)]
    contents[39] = contents[0]
    rows = table(labels, patients=[f"p{row}" for row in range(40)], contents=contents)
    for seed in range(5):
        part_of = {
            row: name for name, part in by_patient(rows, seed).parts().items() for row in part
        }
        assert part_of[0] == part_of[39]


def test_keys_join_rows_through_others() -> None:
    groups = joined_groups(["p", "p", "q", None, "r"], ["1", "2", "2", "3", "4"])
    assert groups[0] == groups[1] == groups[2]
    assert len({groups[0], groups[3], groups[4]}) == 3


def test_groups_can_be_assigned_by_the_thousand() -> None:
    counts = np.eye(2, dtype=np.int64)[np.arange(4000) % 2]
    parts = assign_groups(counts, (0.55, 0.15, 0.3), seed=0)
    assert np.bincount(parts).tolist() == [2200, 600, 1200]


def test_images_without_patients_are_refused_with_both_ways_out() -> None:
    with pytest.raises(DataError, match=r"40 of 40 .* --patient-pattern.*--split image"):
        by_patient(table(["a", "b"] * 20))


def test_a_few_images_without_a_patient_are_refused_too() -> None:
    rows = table(["a", "b"] * 3, patients=["p", "q", "r", "s", "t", None])
    with pytest.raises(DataError, match="1 of 6 labelled images have no patient"):
        by_patient(rows)


def test_images_are_split_when_asked_for() -> None:
    split = split_rows(table(["a", "b"] * 50), how="image", seed=0, **SHARES)
    assert [len(part) for part in split.parts().values()] == [55, 15, 30]
    assert split.how == "image"


def test_one_class_is_refused() -> None:
    with pytest.raises(DataError, match=r"all 3 .* one class, \['a'\]"):
        by_patient(table(["a"] * 3, patients=["p", "q", "r"]))


def test_fewer_patients_than_parts_are_refused() -> None:
    with pytest.raises(DataError, match="too few patients for 3 parts: 2, "):
        by_patient(table(["a", "b"] * 2, patients=["p", "p", "q", "q"]))


def test_a_class_with_too_few_patients_is_refused_by_name() -> None:
    patients: list[str | None] = [f"p{row}" for row in range(12)]
    with pytest.raises(DataError, match=r"'b' has images of too few patients, 2"):
        by_patient(table(["a"] * 10 + ["b"] * 2, patients=patients))


STUDIES: list[str | None] = [f"s{row // 4}" for row in range(48)]


def test_a_split_by_study_keeps_studies_whole_where_patients_are_not_known() -> None:
    labels = [["a", "b"][row // 4 % 2] for row in range(48)]
    rows = table(labels, studies=STUDIES)
    with pytest.raises(DataError, match="keep studies whole, where they are known, with --split"):
        by_patient(rows)
    split = split_rows(rows, how="study", seed=0, **SHARES)
    parts = [set(rows["study"].gather(part)) for part in split.parts().values()]
    assert split.how == "study"
    assert sum(map(len, parts)) == len(set().union(*parts)) == 12
    for fold in fold_rows(rows, how="study", folds=3, rounds=1, val_share=0.2, seed=0):
        parts = [set(rows["study"].gather(part)) for part in fold.parts().values()]
        assert sum(map(len, parts)) == 12


def test_studies_of_one_known_patient_and_copies_stay_together() -> None:
    patients: list[str | None] = ["p"] * 8 + [None] * 40
    contents = [f"c{row}" for row in range(47)] + ["c8"]
    rows = table(["a"] * 48, patients=patients, contents=contents, studies=STUDIES)
    groups = groups_by(rows, "study")
    assert len(set(groups[:8])) == 1
    assert groups[8] == groups[47] == groups[44]
    assert len(set(groups)) == 12 - 2
    unknown = rows.with_columns(study=pl.when(pl.int_range(pl.len()) != 20).then("study"))
    with pytest.raises(DataError, match="1 of 48 labelled images have neither patient nor study"):
        groups_by(unknown, "study")


def test_the_val_part_of_a_given_split_is_cut_by_study_where_patients_are_not_known() -> None:
    parts: list[str | None] = ["train"] * 32 + ["test"] * 16
    labels = [["a", "b"][row // 4 % 2] for row in range(48)]
    split = split_rows(table(labels, parts=parts, studies=STUDIES), how="auto", seed=0, **SHARES)
    assert "cut from train by study" in split.notes[0]
    assert not {STUDIES[row] for row in split.train} & {STUDIES[row] for row in split.val}


def given_rows(*, patients: list[str | None] | None = None, val: bool = True) -> pl.DataFrame:
    parts: list[str | None] = ["train"] * 16 + ["val" if val else "train"] * 4 + ["test"] * 4
    return table(["a", "b"] * 12, patients=patients, parts=parts)


def test_the_datas_own_split_is_kept() -> None:
    split = by_patient(given_rows())
    assert split.how == "given"
    assert [len(part) for part in split.parts().values()] == [16, 4, 4]
    assert list(split.test) == [20, 21, 22, 23]


def test_a_missing_val_part_is_cut_from_train() -> None:
    split = by_patient(given_rows(val=False))
    assert [len(part) for part in split.parts().values()] == [17, 3, 4]
    assert "cut from train by image" in split.notes[0]


def test_a_missing_val_part_is_cut_by_patient_where_patients_are_known() -> None:
    patients: list[str | None] = [f"p{row // 2}" for row in range(24)]
    rows = given_rows(patients=patients, val=False)
    split = by_patient(rows)
    assert patients_on_two_sides(rows, split) == []
    assert "by patient" in split.notes[0]


def test_a_given_split_with_a_patient_on_both_sides_is_refused() -> None:
    patients: list[str | None] = [f"p{row}" for row in range(24)]
    patients[23] = "p0"
    with pytest.raises(DataError, match=r"1 patient\(s\) in more than one part.*--split patient"):
        by_patient(given_rows(patients=patients))


def test_a_given_split_without_test_images_is_refused() -> None:
    rows = table(["a", "b"] * 4, parts=["train"] * 6 + ["val"] * 2)
    with pytest.raises(DataError, match="6 labelled train and 0 labelled test"):
        by_patient(rows)


def test_images_outside_the_given_split_are_left_out_and_named() -> None:
    parts: list[str | None] = ["train"] * 8 + ["val"] * 4 + ["test"] * 4 + [None] * 2
    split = by_patient(table(["a", "b"] * 9, parts=parts))
    assert sum(len(part) for part in split.parts().values()) == 16
    assert "2 labelled images belong to no part" in split.notes[0]


def test_a_class_missing_in_the_given_test_part_is_refused() -> None:
    rows = table(["a", "b"] * 8 + ["a"] * 4, parts=["train"] * 8 + ["val"] * 8 + ["test"] * 4)
    with pytest.raises(DataError, match="no image of class 'b' in the test part"):
        by_patient(rows)


def at_sites(rows: pl.DataFrame, number: int) -> pl.DataFrame:
    """Say that patients `p0` and `p1` were seen at site `s0`, the next two at `s1`, and so on."""
    site = pl.col("patient").str.slice(1).cast(pl.Int64) // 2 % number
    return rows.with_columns(pl.format("s{}", site).alias("site"))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), sites=st.integers(2, 6))
def test_a_split_by_site_tests_on_sites_that_nothing_was_learnt_from(seed: int, sites: int) -> None:
    rows = at_sites(hospital(seed, patients=40), sites)
    split = split_rows(rows, how="site", seed=seed, **SHARES)
    at = {part: set(rows["site"].gather(found)) for part, found in split.parts().items()}
    assert not at["test"] & (at["train"] | at["val"])
    assert sum(map(len, split.parts().values())) == len(rows)
    assert not patients_on_two_sides(rows, split)
    assert split.how == "site"
    assert f"tested on {len(at['test'])} other site" in split.notes[0]


def test_sites_that_share_a_patient_are_one() -> None:
    rows = at_sites(hospital(0, patients=40), 4)
    moved = pl.when(pl.col("patient") == "p0").then(pl.lit("s1")).otherwise("site").alias("site")
    both = pl.concat([rows, rows.with_columns(moved, content=pl.col("content") + "x")])
    for seed in range(10):
        split = split_rows(both, how="site", seed=seed, **SHARES)
        tested = set(both["site"].gather(split.test))
        assert ("s0" in tested) == ("s1" in tested)


def test_a_split_by_site_needs_sites_and_more_than_one() -> None:
    rows = hospital(0, patients=40)
    with pytest.raises(DataError, match="have no site; use --split patient, or scan again"):
        split_rows(rows, how="site", seed=0, **SHARES)
    with pytest.raises(DataError, match="too few sites"):
        split_rows(at_sites(rows, 1), how="site", seed=0, **SHARES)
