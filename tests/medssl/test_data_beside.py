"""Volumes whose data are in a file beside their header: read, and seen to change."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medssl.errors import DataError, IngestError, Reason
from medssl.identity import SiteKey
from medssl.manifest import read_manifest
from medssl.scanning.scan import scan
from medssl.scanning.settings import ScanConfig
from medssl.scanning.walk import Found, current_stamp, walk
from medssl.sources.nifti import load_nifti
from tests.medssl.make import PLAIN_AFFINE, Values, metaimage, nifti, nrrd_file

BODY = np.arange(300 * 3, dtype=np.int16).reshape(3, 20, 15)
TURNED = np.array([[0, 0, 3.0, 5], [-1, 0, 0, 6], [0, 2.0, 0, 7], [0, 0, 0, 1]])


def write_pair(path: Path, body: Values = BODY, affine: Values = PLAIN_AFFINE, **more: int) -> Path:
    """Write `path` and its `.img`, as nibabel lays them out."""
    kind = nib.Nifti1Pair if more.get("version", 1) == 1 else nib.Nifti2Pair
    order = ">" if body.dtype.byteorder == ">" else "<"
    image = kind(body, affine, kind.header_class(endianness=order), dtype=body.dtype)
    image.header["vox_offset"] = more.get("offset", 0)
    image.to_file_map(
        {
            "header": nib.FileHolder(path),
            "image": nib.FileHolder(path.with_suffix(".img" if path.suffix.islower() else ".IMG")),
        }
    )
    return path


def values(path: Path) -> Values:
    volume = load_nifti(path)
    return np.stack([volume.decode(frame).values for frame in range(volume.facts.frames)])


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("offset", [0, 16, 512])
def test_a_pair_holds_what_one_file_would(
    tmp_path: Path, version: int, order: str, offset: int
) -> None:
    body = BODY.astype(f"{order}i2")
    pair = write_pair(tmp_path / "a.hdr", body, TURNED, version=version, offset=offset)
    single = tmp_path / "a.nii"
    single.write_bytes(nifti(body, TURNED, version=version))
    np.testing.assert_array_equal(values(pair), values(single))
    found, wanted = (load_nifti(each).decode(2).place for each in (pair, single))
    assert found == wanted is not None


def test_a_pair_in_large_letters_and_packed_data_are_found(tmp_path: Path) -> None:
    plain = values(write_pair(tmp_path / "a.hdr"))
    np.testing.assert_array_equal(values(write_pair(tmp_path / "B.HDR")), plain)
    packed = write_pair(tmp_path / "c.hdr")
    data = packed.with_suffix(".img")
    (tmp_path / "c.img.gz").write_bytes(gzip.compress(data.read_bytes()))
    data.unlink()
    np.testing.assert_array_equal(values(packed), plain)
    (tmp_path / "c.hdr.gz").write_bytes(gzip.compress(packed.read_bytes()))
    np.testing.assert_array_equal(values(tmp_path / "c.hdr.gz"), plain)


def test_a_pair_without_its_data_is_set_aside(tmp_path: Path) -> None:
    pair = write_pair(tmp_path / "a.hdr")
    os.truncate(pair.with_suffix(".img"), 100)
    with pytest.raises(IngestError) as caught:
        load_nifti(pair)
    assert caught.value.reason is Reason.TRUNCATED
    pair.with_suffix(".img").rename(tmp_path / "secret")
    with pytest.raises(IngestError) as caught:
        load_nifti(pair)
    assert caught.value.reason is Reason.VANISHED
    pair.with_suffix(".img").symlink_to(tmp_path / "secret")
    with pytest.raises(IngestError, match="outside of the folder"):
        load_nifti(pair)
    with pytest.raises(IngestError, match=r"has to end in \.hdr"):
        load_nifti(pair.rename(tmp_path / "a.nii"))


def pair_of(folder: Path, data: bytes) -> Path:
    header = write_pair(folder / "volume.hdr")
    header.with_suffix(".img").write_bytes(data)
    return header.with_suffix(".img")


def with_header(
    name: str, write: Callable[..., bytes], beside: str = "voxels.raw"
) -> Callable[[Path, bytes], Path]:
    def make(folder: Path, data: bytes) -> Path:
        (folder / name).write_bytes(write(BODY, data=beside))
        (folder / beside).write_bytes(data)
        return folder / beside

    return make


@pytest.mark.parametrize(
    "make",
    [
        pair_of,
        with_header("volume.mhd", metaimage, "voxels é.bin"),
        with_header("volume.MHA", metaimage),
        with_header("volume.nhdr", nrrd_file),
    ],
)
def test_a_scan_sees_that_the_data_changed(
    tmp_path: Path, make: Callable[[Path, bytes], Path]
) -> None:
    folder, out = tmp_path / "data", tmp_path / "manifest.parquet"
    folder.mkdir()
    data = make(folder, BODY.tobytes(order="F"))
    key = SiteKey(b"k" * 32)
    before = {file.path: file.stamp for file in walk(folder, key)[0]}
    for name, stamp in before.items():
        assert current_stamp(folder, name, key) == stamp
    first = scan(folder, out, ScanConfig())
    assert first.images == 15
    rows = read_manifest(out).rows
    data.write_bytes((BODY + 7000).tobytes(order="F"))
    os.utime(data, (1, 1))
    changed = {file.path for file in walk(folder, key)[0] if before[file.path] != file.stamp}
    assert len(changed) == 2  # header and data
    scan(folder, out, ScanConfig())
    again = read_manifest(out).rows
    assert not set(rows["content"]) & set(again["content"])


def test_a_header_alone_needs_a_name_that_tells_so(tmp_path: Path) -> None:
    for name, write in (("a.dat", metaimage), ("b", nrrd_file)):
        (tmp_path / name).write_bytes(write(BODY, data="voxels.raw"))
    (tmp_path / "voxels.raw").write_bytes(BODY.tobytes(order="F"))
    with pytest.raises(DataError, match=r"unsupported 2, such as: a header without its data"):
        scan(tmp_path, tmp_path / "manifest.parquet", ScanConfig())


def test_nrrd_is_read_for_its_data_up_to_its_blank_line_only(tmp_path: Path) -> None:
    key = SiteKey(b"k")
    inside = nrrd_file(BODY) + b"\ndata file: other.raw\n"
    (tmp_path / "a.nrrd").write_bytes(inside)
    before = walk(tmp_path, key)[0]
    (tmp_path / "other.raw").write_bytes(b"0")
    assert before == [file for file in walk(tmp_path, key)[0] if file.path == "a.nrrd"]
    (tmp_path / "b.nhdr").write_bytes(nrrd_file(BODY, data="other.raw"))
    stamp = current_stamp(tmp_path, "b.nhdr", key)
    (tmp_path / "other.raw").write_bytes(b"01")
    assert Found("b.nhdr", str(stamp)) not in walk(tmp_path, key)[0]
