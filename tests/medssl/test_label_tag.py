"""Labels from DICOM attributes: of a short list, with known words, told when not."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from medssl.cli import app
from medssl.errors import DataError
from medssl.identity import SiteKey
from medssl.manifest import read_manifest
from medssl.scanning.scan import scan
from medssl.scanning.settings import ScanConfig
from medssl.scanning.summary import ScanSummary
from medssl.sources.label_terms import TERMS, as_term
from sslcore.config import resolve_config
from sslcore.errors import ConfigError
from tests.medssl.make import colours, ramp, write_dicom, write_png

KEY = SiteKey(b"test")


def run(folder: Path, out: Path, **options: Any) -> ScanSummary:
    return scan(folder, out, ScanConfig(workers=1, **options), key=KEY)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    root = tmp_path / "in"
    write_dicom(root / "a" / "1", ramp(), BodyPartExamined="CHEST", ViewPosition="PA")
    write_dicom(root / "a" / "2", ramp(top=99), BodyPartExamined="C-Spine", ViewPosition="LL")
    write_dicom(root / "b" / "3", ramp(top=88), BodyPartExamined="DOE JANE")
    write_dicom(root / "b" / "4", ramp(top=77))
    write_png(root / "b" / "5.png", colours())
    return root


@pytest.mark.slow
def test_known_words_are_labels_and_others_are_told(tmp_path: Path, archive: Path) -> None:
    out = tmp_path / "manifest.parquet"
    summary = run(archive, out, label_tag="BodyPartExamined")
    assert summary.labels == {"CHEST": 1, "CSPINE": 1}
    told = "3 images without a known word in BodyPartExamined"
    assert told in summary.table()
    assert read_manifest(out).rows["label"].to_list() == ["CHEST", "CSPINE", None, None, None]
    assert "DOE" not in out.read_bytes().decode("latin-1")
    other = run(archive, out, label_tag="ViewPosition")  # read anew: it was not kept
    assert (other.reused, other.labels) == (0, {"LL": 1, "PA": 1})
    assert run(archive, out, label_tag="ViewPosition").reused == 5
    plain = run(archive, out, class_folders=True)
    assert plain.labels == {"a": 2, "b": 3}
    assert "known word" not in plain.table()


@pytest.mark.slow
def test_an_attribute_that_no_image_has_is_an_error(tmp_path: Path, archive: Path) -> None:
    with pytest.raises(DataError, match="--label-tag Laterality: none of 5 images"):
        run(archive, tmp_path / "manifest.parquet", label_tag="Laterality")


@pytest.mark.parametrize(
    "keyword",
    ["PatientName", "PatientSex", "StudyDate", "SeriesInstanceUID", "SeriesDescription", "x"],
)
def test_attributes_that_may_identify_are_refused_with_those_that_may_not(keyword: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_config(ScanConfig, options={"label_tag": keyword})
    text = str(caught.value)
    assert repr(keyword) in text
    assert all(allowed in text for allowed in TERMS)


@pytest.mark.parametrize("other", [{"labels": "x.csv"}, {"class_folders": True}])
def test_labels_have_one_source(other: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="label_tag excludes labels and class_folders"):
        resolve_config(ScanConfig, options={"label_tag": "Modality", **other})


def test_terms_are_found_however_they_are_written() -> None:
    assert as_term("BodyPartExamined", "t_spine ") == "TSPINE"
    assert as_term("ImageLaterality", "u") == "U"
    assert as_term("Modality", "MR") == "MR"
    assert as_term("ViewPosition", "Jane") is None
    assert as_term("Laterality", "") is None


def test_the_command_line_takes_a_keyword(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["scan", str(tmp_path), "--label-tag", "PatientName"])
    assert done.exit_code == 2
    assert "BodyPartExamined" in done.output
