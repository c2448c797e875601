"""Small files that would unpack to large ones, or lead a parser down without end."""

import gzip
import struct
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from pydicom import uid
from pydicom.encaps import encapsulate

from medssl.errors import Reason
from medssl.identity import SiteKey
from medssl.scanning.walk import Found
from medssl.scanning.worker import read_file
from tests.medssl.make import dataset, nifti, write_dicom

SEQUENCE, ITEM = b"\x08\x00\x40\x11SQ\x00\x00\xff\xff\xff\xff", b"\xfe\xff\x00\xe0\xff\xff\xff\xff"


BROKEN = (Reason.CORRUPT, Reason.TRUNCATED, Reason.NO_PIXELS, Reason.NOT_AN_IMAGE)


def reason_of(path: Path) -> str | None:
    """Return why a scan sets a file aside."""
    outcome = read_file(path.parent, Found(path.name, ""), SiteKey(b"k"))
    return outcome.aside.reason if outcome.aside else None


@pytest.mark.parametrize("says", [16, 60_000])
def test_a_jpeg_2000_frame_that_is_larger_than_it_says_is_not_unpacked(
    tmp_path: Path, says: int
) -> None:
    small = bytes(imagecodecs.jpeg2k_encode(np.eye(16, dtype=np.uint8), codecformat="J2K"))
    at = (
        small.index(b"\xff\x51") + 6
    )  # of the image's and the tiles' sizes, after length and profile
    sizes = struct.pack(">8I", 60_000, 60_000, 0, 0, 60_000, 60_000, 0, 0)
    data = dataset(np.eye(16, dtype=np.uint8))
    data.Rows = data.Columns = says
    data.file_meta.TransferSyntaxUID = uid.JPEG2000Lossless
    data.PixelData = encapsulate([small[:at] + sizes + small[at + len(sizes) :]])
    data["PixelData"].is_undefined_length = True
    data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert reason_of(tmp_path / "a.dcm") in (Reason.TOO_LARGE, Reason.CORRUPT)


def test_a_packed_volume_that_claims_more_than_the_budget_is_not_unpacked(tmp_path: Path) -> None:
    header = bytearray(nifti(np.zeros((2, 2, 2), np.uint8))[:352])
    header[42:48] = struct.pack("<3h", 30_000, 30_000, 30_000)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(bytes(header) + bytes(50_000_000)))
    assert reason_of(tmp_path / "a.nii.gz") == Reason.TOO_LARGE


def test_what_a_packed_volume_holds_beyond_its_voxels_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []

    class Counted(gzip.GzipFile):
        def read(self, size: int | None = -1) -> bytes:
            read.append(size)
            return super().read(size)

        def readinto(self, buffer: Any) -> int:
            read.append(len(buffer))
            return super().readinto(buffer)

    monkeypatch.setattr(gzip, "GzipFile", Counted)
    content = nifti(np.full((8, 8, 8), 7, np.uint8)) + bytes(50_000_000)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(content))
    assert reason_of(tmp_path / "a.nii.gz") is None
    assert None not in read
    assert -1 not in read
    assert sum(size or 0 for size in read) < 100_000


@pytest.mark.parametrize("depth", [2_000, 200_000])
@pytest.mark.parametrize("unit", [SEQUENCE + ITEM, SEQUENCE, ITEM])
def test_sequences_that_never_end_are_set_aside(tmp_path: Path, depth: int, unit: bytes) -> None:
    path = write_dicom(tmp_path / "a.dcm", np.eye(16, dtype=np.uint8))
    content = path.read_bytes()
    at = content.index(b"\x08\x00\x60\x00CS")  # the modality
    path.write_bytes(content[:at] + unit * depth + content[at:])
    assert reason_of(path) in BROKEN
