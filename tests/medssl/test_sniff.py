"""The content decides what a file is."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from medssl.errors import IngestError, Reason
from medssl.sources.sniff import KINDS, sniff
from tests.medssl.make import colours, metaimage, nifti, nrrd_file, ramp, write_dicom


def refusal(path: Path) -> IngestError:
    with pytest.raises(IngestError) as caught:
        sniff(path)
    return caught.value


def test_every_kind_is_known_by_content_under_a_wrong_name(tmp_path: Path) -> None:
    path = tmp_path / "image.txt"
    found = []
    write_dicom(path, ramp())
    found.append(sniff(path))
    for kind in ("PNG", "JPEG", "TIFF", "BMP"):
        Image.fromarray(colours()).save(path, kind)
        found.append(sniff(path))
    with path.open("wb") as file:
        np.savez_compressed(file, train_images=np.zeros((2, 4, 4), np.uint8))
    found.append(sniff(path))
    path.write_bytes(nifti(ramp()[..., None]))
    found.append(sniff(path))
    for content in (nrrd_file(ramp()), metaimage(ramp())):
        path.write_bytes(content)
        found.append(sniff(path))
    assert tuple(found) == KINDS


def test_big_tiff_of_either_byte_order_is_tiff(tmp_path: Path) -> None:
    for order in "<>":
        for big in (False, True):
            tifffile.imwrite(tmp_path / "a", ramp(), byteorder=order, bigtiff=big)
            assert sniff(tmp_path / "a") == "tiff"


def test_dicom_with_a_tiff_header_in_its_preamble_is_dicom(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a", ramp())
    path.write_bytes(b"II*\0" + path.read_bytes()[4:])
    assert sniff(path) == "dicom"


@pytest.mark.parametrize(
    "content",
    [
        b"name,label\na,1\n",
        b"BMI of all patients\n" * 9,
        b"\0" * 500,
        b"PK\x03\x04word/x.xml" * 9,
        b"{}",
        b"%PDF-1.7" + b"x" * 300,
        bytes(range(256)) * 8,
    ],
)
def test_other_files_are_not_images(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.dcm").write_bytes(content)
    assert refusal(tmp_path / "a.dcm").reason is Reason.NOT_AN_IMAGE


def test_images_without_reader_are_unsupported_and_named(tmp_path: Path) -> None:
    for content, words in (
        (b"GIF89a" + b"\0" * 100, "GIF"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "WebP"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
    ):
        (tmp_path / "a").write_bytes(content)
        error = refusal(tmp_path / "a")
        assert error.reason is Reason.UNSUPPORTED
        assert words in error.detail


def test_empty_missing_and_forbidden_files_have_their_own_reasons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").touch()
    assert refusal(tmp_path / "empty").reason is Reason.EMPTY
    assert refusal(tmp_path / "missing").reason is Reason.VANISHED

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "open", refuse)
    assert refusal(tmp_path / "empty").reason is Reason.NO_PERMISSION
