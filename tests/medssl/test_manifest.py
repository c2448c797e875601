"""The manifest as a file, and names that are no text."""

import os
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medssl.errors import DataError
from medssl.manifest import (
    REJECTED_SCHEMA,
    SCHEMA,
    Manifest,
    read_manifest,
    read_notes,
    rejected_path,
    write_manifest,
    write_rejected,
)
from medssl.manifest_paths import decode_path, encode_path


def manifest(root: Path) -> Manifest:
    rows = pl.DataFrame({"path": ["a", "b"], "patient": ["p", None]})
    columns = [pl.lit(None, kind).alias(name) for name, kind in SCHEMA.items()]
    empty = pl.DataFrame({"path": ["a", "b"]}).with_columns(columns)
    return Manifest(empty.with_columns(rows["path"], rows["patient"]).select(SCHEMA.names()), root)


def test_a_manifest_comes_back_with_root_and_notes(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    write_manifest(manifest(tmp_path), path, about={"note": "x"})
    found = read_manifest(path)
    assert found.rows.equals(manifest(tmp_path).rows)
    assert found.root == tmp_path
    assert found.file("a/b") == tmp_path / "a/b"
    assert read_notes(path)["note"] == "x"
    assert len(found.where(pl.col("patient") == "p")) == 1


def test_a_moved_folder_is_given_or_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    write_manifest(manifest(tmp_path / "gone"), path)
    with pytest.raises(DataError, match="does not exist; scan the folder where it is now"):
        read_manifest(path)
    assert read_manifest(path, root=tmp_path).root == tmp_path


def test_other_files_are_no_manifest(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    path.write_text("label,path\n")
    with pytest.raises(DataError, match="Parquet"):
        read_manifest(path)
    pl.DataFrame({"a": [1]}).write_parquet(path)
    with pytest.raises(DataError, match="medssl scan"):
        read_manifest(path)
    with pytest.raises(DataError):
        read_notes(tmp_path / "missing")


def test_rejected_files_stand_beside_the_manifest(tmp_path: Path) -> None:
    assert rejected_path(Path("run/manifest.parquet")) == Path("run/rejected.parquet")
    assert rejected_path(Path("ct.parquet")) == Path("ct.rejected.parquet")
    aside = ("a", "segmentation", "words", None, ["key"])
    rows = pl.DataFrame([aside], schema=REJECTED_SCHEMA, orient="row")
    write_rejected(rows, tmp_path / "r.parquet", about={})
    assert pl.read_parquet(tmp_path / "r.parquet").equals(rows)


@given(st.binary(min_size=1).filter(lambda name: b"\0" not in name))
def test_every_file_name_survives_as_text(name: bytes) -> None:
    path = os.fsdecode(name)
    text = encode_path(path)
    assert text.encode("utf-8")
    assert decode_path(text) == path


def test_valid_names_stand_as_they_are() -> None:
    for name in ("a/b c%20.png", "Ä/日本.dcm"):
        assert encode_path(name) == name
    assert encode_path("percent:a").startswith("percent:percent")
