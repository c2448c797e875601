import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from medssl import doctor
from medssl.cli import app
from medssl.doctor import Diagnosis, Finding, examine
from medssl.sources.dicom_codecs import COMPRESSED, NATIVE


def remedies(diagnosis: Diagnosis) -> dict[str, str]:
    return {
        item.name: item.remedy
        for items in diagnosis.sections.values()
        for item in items
        if item.remedy
    }


def test_finds_every_transfer_syntax_that_the_reader_knows(tmp_path: Path) -> None:
    found = examine(tmp_path).sections["DICOM decoders"]
    assert [item.name for item in found] == [syntax.name for syntax in (*NATIVE, *COMPRESSED)]
    assert not any(item.remedy for item in found)


def test_this_environment_lacks_nothing() -> None:
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("all is well\n")


def test_a_missing_package_gets_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        doctor, "version_of", lambda name: None if name == "monai" else "1.0", raising=True
    )
    assert remedies(examine(tmp_path)) == {"monai": doctor.REINSTALL}


def test_a_broken_package_costs_its_own_section_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "medssl.sources.dicom_codecs", None)
    diagnosis = examine(tmp_path)
    assert list(remedies(diagnosis)) == ["medssl.sources.dicom_codecs"]
    assert diagnosis.sections["disk"][0].name == "free here"


def test_a_decoder_that_cannot_run_is_named_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = SimpleNamespace(available_plugins=(), is_available=True)
    monkeypatch.setattr("pydicom.pixels.decoders.base.get_decoder", lambda syntax: none)
    assert remedies(examine(tmp_path))["RLE Lossless"] == "pip install imagecodecs"


def test_every_missing_decoder_has_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = SimpleNamespace(is_available=False, available_plugins=())
    monkeypatch.setattr("pydicom.pixels.decoders.base.get_decoder", lambda syntax: nothing)
    decoders = examine(tmp_path).sections["DICOM decoders"]
    assert all(item.value == "missing" and item.remedy for item in decoders)


def test_a_full_disk_is_a_finding_and_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1e8))
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "! free here  0.1 GB  -> free 2 GB, or write elsewhere" in result.stdout
    assert result.stdout.endswith("something is missing: the lines marked !\n")


def test_shows_where_the_site_key_is_and_never_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "site.key"
    monkeypatch.setenv("MEDSSL_KEY_FILE", str(key))
    assert examine(tmp_path).sections["site key"] == [
        Finding(str(key), "the first scan will make it")
    ]
    key.write_text("5ec7e7" * 12)
    text = examine(tmp_path).text()
    assert f"{key}  present" in text
    assert "5ec7e7" not in text
