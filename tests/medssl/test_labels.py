"""Labels from tables and folders."""

from pathlib import Path

import polars as pl
import pytest

from medssl.errors import DataError
from medssl.identity import SiteKey
from medssl.labels import folder_labels, folder_splits, join_labels, require_labels
from medssl.manifest import SCHEMA, Manifest

KEY = SiteKey(b"k")


def manifest(root: Path) -> Manifest:
    rows = [
        {"path": "x/a.dcm", "frame": 0, "patient": KEY.patient("P1"), "sample": "s0"},
        {"path": "x/a.dcm", "frame": 1, "patient": KEY.patient("P1"), "sample": "s1"},
        {"path": "x/b.dcm", "frame": 0, "patient": KEY.patient("P2"), "sample": "s2"},
        {"path": "y/b.dcm", "frame": 0, "study": KEY.study("1.2"), "sample": "s3"},
    ]
    return Manifest(pl.from_dicts(rows, schema=SCHEMA), root)


def join(tmp_path: Path, text: str) -> pl.DataFrame:
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    return join_labels(manifest(tmp_path), tmp_path / "labels.csv", KEY).manifest.rows


def labels(tmp_path: Path, text: str) -> list[str | None]:
    return join(tmp_path, text)["label"].to_list()


def refusal(tmp_path: Path, text: str) -> str:
    with pytest.raises(DataError) as caught:
        join(tmp_path, text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("path,label\nx/a.dcm,1\ny/b.dcm,2\n", ["1", "1", None, "2"]),
        ("file,label\na.dcm,1\n", ["1", "1", None, None]),
        ("patient,label\nP2,sick\nP1,well\nP9,sick\n", ["well", "well", "sick", None]),
        ("study;label\n1.2;1\n", [None, None, None, "1"]),
        ("sample\tlabel\ns1\t007\n", [None, "007", None, None]),
        ("path,frame,label\nx/a.dcm,1,b\nx/a.dcm,0,a\n", ["a", "b", None, None]),
        ("path,frame,label\nx/a.dcm,,all\nx/a.dcm,0,one\n", ["one", "all", None, None]),
        ("\ufeffLabel , Path\n 1 , ./x/a.dcm \n", ["1", "1", None, None]),
        ("path,label\nx\\a.dcm,1\n", ["1", "1", None, None]),
        ("path,label\nx/a.dcm,\nx/b.dcm,1\nx/a.dcm,2\n", ["2", "2", "1", None]),
        ("path,label\nx/a.dcm,1\nx/a.dcm,1\n", ["1", "1", None, None]),
    ],
)
def test_labels_are_joined_by_any_key(
    tmp_path: Path, text: str, expected: list[str | None]
) -> None:
    assert labels(tmp_path, text) == expected


@pytest.mark.parametrize(
    ("text", "unused"),
    [
        ("path,label\nx/a.dcm,1\nx/b.dcm,1\n", 0),
        ("path,label\nx/a.dcm,1\nx/c.dcm,1\nx/d.dcm,\n", 1),
        ("path,frame,label\nx/a.dcm,0,1\nx/a.dcm,7,1\nx/c.dcm,0,1\n", 2),
        ("patient,label\nP2,sick\nP9,sick\n", 1),
    ],
)
def test_labels_that_fit_no_image_are_counted(tmp_path: Path, text: str, unused: int) -> None:
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    assert join_labels(manifest(tmp_path), tmp_path / "labels.csv", KEY).unused == unused


def test_absolute_paths_and_hashed_patients_are_understood(tmp_path: Path) -> None:
    assert labels(tmp_path, f"path,label\n{tmp_path}/x/b.dcm,1\n")[2] == "1"
    assert labels(tmp_path, f"patient,label\n{KEY.patient('P2')},1\n")[2] == "1"


def test_splits_are_taken_where_given(tmp_path: Path) -> None:
    rows = join(tmp_path, "path,label,split\nx/a.dcm,1,Training\nx/b.dcm,,test\n")
    assert rows["split"].to_list() == ["train", "train", "test", None]
    assert rows["label"].to_list() == ["1", "1", None, None]
    assert rows.schema == SCHEMA


def test_labels_that_name_no_image_show_the_shape_of_both_sides(tmp_path: Path) -> None:
    message = refusal(tmp_path, "path,label\nq/1.png,1\nq/2.png,1\nDoe_Jane/31.png,2\n")
    assert (
        "its 3 names are like a/9.aaa and aaa_aaaa/99.aaa, the 3 of the images like a/a.aaa"
        in message
    )
    assert "Doe" not in message


def test_people_are_named_by_hash_only(tmp_path: Path) -> None:
    message = refusal(tmp_path, "patient,label\nJaneDoe,1\n")
    assert "JaneDoe" not in message
    assert KEY.patient("JaneDoe") in message
    message = refusal(tmp_path, "patient,label\nJaneDoe,1\nJaneDoe,2\n")
    assert "JaneDoe" not in message
    assert "two labels" in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,label\nx/a.dcm,1\nx/a.dcm,2\n", "two labels, the first in rows 1, 2"),
        ("path,label,split\nx/a.dcm,1,train\nx/a.dcm,1,test\n", "two splits"),
        ("path,class\nx/a.dcm,1\n", "without a column 'label'; it has: path, class"),
        ("name,label\nx/a.dcm,1\n", "one column of path, file, patient"),
        ("path,label\nx/a.dcm,\n", "'label' is empty"),
        ("path,frame,label\nx/a.dcm,first,1\n", "whole numbers"),
        ("path,split,label\nx/a.dcm,dev,1\n", "train, val or test"),
        ("file,label\nb.dcm,1\n", "stand in several folders"),
        ("series,label\n1.2,1\n", "no image has a series"),
        ("path,Label , label\nx/a.dcm,1,2\n", "columns 2 and 3 are called the same"),
        ("path,label\nx/a.dcm,1\nx/b.dcm,1,Doe\n", "line 3 has 3 fields, the header 2"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(tmp_path: Path, text: str, words: str) -> None:
    assert words in refusal(tmp_path, text)


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"\xff\xfe\0\x01", b'path,label\n"unclosed'):
        (tmp_path / "t.csv").write_bytes(content)
        with pytest.raises(DataError):
            require_labels(tmp_path / "t.csv")
    with pytest.raises(DataError, match="no such file"):
        require_labels(tmp_path / "missing.csv")


def test_the_folder_of_an_image_names_its_label() -> None:
    assert folder_labels(["a.png", "sick/b.png", "x/well/c.png"]) == [None, "sick", "well"]


def test_folders_name_splits_only_if_there_are_several() -> None:
    paths = ["Training/a/1", "test/b/2", "c/validation/3", "4", "train/test/5"]
    assert folder_splits(paths) == ["train", "test", "val", None, "train"]
    for lone in (["test/1", "2"], ["train/1", "2"], ["test/1", "val/2"], []):
        assert folder_splits(lone) == [None] * len(lone)


@pytest.mark.parametrize(
    "first",
    ["Mueller^Hans^19430712,4711-0815,pneumonia", "Mueller,Hans,Mueller", "path,Mueller^Hans"],
)
def test_the_words_of_a_table_without_a_header_stay_unsaid(tmp_path: Path, first: str) -> None:
    message = refusal(tmp_path, f"{first}\nx/a.dcm,b,c\n")
    for word in ("mueller", "hans", "1943", "4711", "pneumonia"):
        assert word not in message.lower()


def test_misspelt_columns_are_shown(tmp_path: Path) -> None:
    message = refusal(tmp_path, "patients,lable,born\nP1,a,1943\n")
    assert "it has: patients, lable, 1 called otherwise; is line 1 the header?" in message


def test_names_of_samples_that_fit_none_are_shown_by_their_shape(tmp_path: Path) -> None:
    message = refusal(tmp_path, "sample,label\nMueller-1943,1\n")
    assert "aaaaaaa-9999" in message
    assert "ueller" not in message


@pytest.mark.parametrize("by", ["series", "study"])
def test_a_series_or_study_that_two_patients_share_has_no_label(tmp_path: Path, by: str) -> None:
    hashed = KEY.series if by == "series" else KEY.study
    rows = [
        {"path": "a", "patient": KEY.patient("P1"), by: hashed("1.2")},
        {"path": "b", "patient": KEY.patient("P2"), by: hashed("1.2")},
        {"path": "c", "patient": KEY.patient("P2"), by: hashed("1.3")},
    ]
    (tmp_path / "labels.csv").write_text(f"{by},label\n1.2,tumour\n1.3,none\n")
    shared = Manifest(pl.from_dicts(rows, schema=SCHEMA), tmp_path)
    labelled = join_labels(shared, tmp_path / "labels.csv", KEY)
    assert labelled.manifest.rows["label"].to_list() == [None, None, "none"]
    assert labelled.unused == 1
