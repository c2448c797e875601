"""DICOMDIRs: told from images, and what they list is counted where it is not there."""

import io
import os
import struct
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydicom import uid
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID

from medssl.errors import Reason, UnreadableFileError
from medssl.scanning import listed_files as counting
from medssl.scanning.scan import scan
from medssl.scanning.settings import ScanConfig
from medssl.scanning.summary import ScanSummary
from medssl.sources.dicom import open_dicom
from medssl.sources.dicomdir import DETAIL, DICOMDIR, MOST_BYTES, listed_files
from tests.medssl.make import ramp, write_dicom

SYNTAXES = (uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian)


def write_dicomdir(path: Path, names: Sequence[list[str]], syntax: UID = SYNTAXES[0]) -> Path:
    """Write a list as media have it: its class stands in the file meta information only.

    Each record leads back to the first one, in a circle.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(DICOMDIR)
    meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    meta.TransferSyntaxUID = syntax
    data = FileDataset(
        "",
        {},
        file_meta=meta,
        preamble=bytes(128),
        is_implicit_VR=syntax.is_implicit_VR,
        is_little_endian=syntax.is_little_endian,
    )
    data.DirectoryRecordSequence = [record_of(name) for name in names]
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about names that are wrong on purpose
        data.save_as(path, enforce_file_format=True)
    return path


def record_of(name: list[str]) -> Dataset:
    record = Dataset()
    record.OffsetOfTheNextDirectoryRecord = 368
    record.OffsetOfReferencedLowerLevelDirectoryEntity = 368
    record.DirectoryRecordType = "IMAGE"
    record.ReferencedFileID = name
    record.InstanceNumber = 1
    return record


def scanned(root: Path) -> ScanSummary:
    return scan(root, root.parent / "m.parquet", ScanConfig(workers=1))


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_dicomdir_is_told_by_its_file_meta_and_what_it_lists_is_counted(
    tmp_path: Path, syntax: UID
) -> None:
    root = tmp_path / "d"
    write_dicom(root / "cd" / "pat1" / "im1", ramp())  # as media are copied: in small letters
    names = [["PAT1", "IM1"], ["PAT1", "IM2"], ["PAT1", "IM2"], ["PAT2", "A", "IM3"]]
    write_dicomdir(root / "cd" / "DICOMDIR", names, syntax)
    write_dicomdir(root / "cd" / "DICOMDIR.bak", names, syntax)
    summary = scanned(root)
    rejected = pl.read_parquet(tmp_path / "m.rejected.parquet")
    assert rejected.select("reason", "detail").rows() == [(Reason.NO_PIXELS, DETAIL)] * 2
    assert summary.missing == 2
    assert "DICOMDIR    lists 2 files that are not here" in summary.table()
    (root / "cd" / "PAT2" / "A").mkdir(parents=True)
    write_dicom(root / "cd" / "PAT2" / "A" / "IM3", ramp())
    assert scanned(root).missing == 1  # though the list itself is not new


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_names_are_as_long_as_the_list_says(tmp_path: Path, syntax: UID) -> None:
    """With spaces and signs in them; what is padded to an even length is not part of a name."""
    names = [["PAT 1", "IM 1"], ["PAT(1)", "IM+2"], ["A-1", "B_2.X", "C"], ["A", "~1"], ["IM"]]
    listing = write_dicomdir(tmp_path / "DICOMDIR", names, syntax)
    assert list(listed_files(listing)) == ["PAT 1/IM 1", "PAT(1)/IM+2", "A-1/B_2.X/C", "IM"]


def test_files_with_spaces_and_with_an_ending_gained_are_there(tmp_path: Path) -> None:
    root = tmp_path / "d"
    for name in ("PAT 1/IM 1", "PAT 1/IM2.dcm", "PAT 1/IM3.DCM"):
        write_dicom(root / name, ramp())
    listed = [["PAT 1", "IM 1"], ["PAT 1", "IM2"], ["PAT 1", "IM3"], ["PAT 1", "IM4"], ["IM2"]]
    write_dicomdir(root / "DICOMDIR", listed)
    assert scanned(root).missing == 2


OUTSIDE = [["..", "SECRET"], ["", "SECRET"], ["A", "..", "..", "SECRET"], ["/SECRET"], [".", "A"],
           ["C:", "SECRET"], ["..."], ["A", "", "B"], ["A/../../SECRET"], ["~", "B"]]  # fmt: skip


def test_names_out_of_the_root_are_not_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "SECRET").touch()
    root = tmp_path / "d"
    write_dicom(root / "A", ramp())
    listing = write_dicomdir(root / "DICOMDIR", OUTSIDE)
    assert list(listed_files(listing)) == []
    asked: list[str] = []

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def ask(path: object, *args: Any, **more: Any) -> Any:
            asked.append(str(path))
            return function(path, *args, **more)

        return ask

    for module, name in ((os, "stat"), (os, "lstat"), (os, "scandir"), (io, "open")):
        monkeypatch.setattr(module, name, watched(getattr(module, name)))
    assert scanned(root).missing == 0
    assert any("DICOMDIR" in name for name in asked)
    assert not any("SECRET" in name for name in asked)


def test_a_list_behind_a_link_out_of_the_root_is_not_read(tmp_path: Path) -> None:
    write_dicomdir(tmp_path / "out" / "DICOMDIR", [["IM1"]])
    write_dicom(tmp_path / "d" / "A", ramp())
    (tmp_path / "d" / "DICOMDIR").symlink_to(tmp_path / "out" / "DICOMDIR")
    assert scanned(tmp_path / "d").missing == 0


def test_a_million_entries_and_sequences_without_end_are_read_in_one_pass(tmp_path: Path) -> None:
    """Nothing is taken apart, so that neither depth nor offsets nor lengths matter."""
    listing = write_dicomdir(tmp_path / "d" / "DICOMDIR", [])
    deep = (struct.pack("<HH2sHI", 0x0004, 0x1220, b"SQ", 0, 0xFFFFFFFF) + b"\xfe\xff\0\xe0") * 9999
    entries = b"".join(
        struct.pack("<HH2sH8s", 0x0004, 0x1500, b"CS", 8, b"%08d" % number)
        for number in range(1_000_000)
    )
    assert len(entries) < MOST_BYTES
    with listing.open("ab") as file:
        file.write(deep + entries + struct.pack("<HH2sH", 0x0004, 0x1500, b"CS", 0xFFFF))
    with pytest.raises(UnreadableFileError, match=DETAIL), open_dicom(listing):
        pass
    assert sum(1 for _ in listed_files(listing)) == 1_000_000


def test_what_is_looked_for_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dicomdir(tmp_path / "d" / "DICOMDIR", [[f"IM{number}"] for number in range(9)])
    write_dicom(tmp_path / "d" / "A", ramp())
    monkeypatch.setattr(counting, "MOST_NAMES", 5)
    assert scanned(tmp_path / "d").missing == 5
    monkeypatch.setattr("medssl.sources.dicomdir.MOST_BYTES", 200)
    assert scanned(tmp_path / "d").missing == 0
