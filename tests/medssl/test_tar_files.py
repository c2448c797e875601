"""Against the standard library where it is right, and where it is silent against what is there."""

import io
import os
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from medssl.identity import SiteKey
from medssl.manifest import read_manifest, rejected_path
from medssl.scanning.scan import scan
from medssl.scanning.settings import ScanConfig
from medssl.sources.tar_files import TarDamageError, TarWalk, is_tar

BYTES = bytes(range(256)) * 20
KEY = SiteKey(b"0" * 32)
FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
NAMES = ["a", "folder/b", "n" * 99, "m/" * 60 + "deep", "\u00fcmlaut", "new\nline"]


def write(path: Path, kind: int, names: list[str] = NAMES) -> Path:
    with tarfile.open(path, "w", format=kind, errors="surrogateescape") as file:
        for number, name in enumerate(names):
            info = tarfile.TarInfo(name)
            info.size, info.mtime = 600 * number, 1_700_000_000 + number
            file.addfile(info, fileobj=io.BytesIO(BYTES))
    return path


def walked(path: Path) -> list[tuple[str, int, int, int]]:
    handle = os.open(path, os.O_RDONLY)
    try:
        return [(each.name, each.at, each.size, each.changed) for each in TarWalk(handle).files()]
    finally:
        os.close(handle)


def seen_until_damage(path: Path) -> tuple[list[str], str]:
    handle = os.open(path, os.O_RDONLY)
    names = []
    try:
        names.extend(each.name for each in TarWalk(handle).files())
    except TarDamageError as error:
        return names, str(error)
    finally:
        os.close(handle)
    return names, ""


@pytest.mark.parametrize("kind", FORMATS)
def test_finds_what_the_library_finds(tmp_path: Path, kind: int) -> None:
    path = write(tmp_path / "a.tar", kind)
    with tarfile.open(path) as file:
        expected = [(i.name, i.offset_data, i.size, int(i.mtime)) for i in file if i.isreg()]
    assert len(expected) == len(NAMES)
    assert walked(path) == expected


def test_numbers_too_large_for_the_header_are_in_a_list(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with path.open("wb") as file:
        for name, size in (("large", 9 << 30), ("next", 0)):
            info = tarfile.TarInfo(name)
            info.size = size
            file.write(info.tobuf(tarfile.PAX_FORMAT))
            file.seek(size, os.SEEK_CUR)
        file.write(bytes(1024))
    assert [(name, size) for name, _, size, _ in walked(path)] == [("large", 9 << 30), ("next", 0)]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("how", ["flip", "cut a header", "cut between", "cut a file", "joined"])
def test_what_the_library_passes_over_is_told(tmp_path: Path, kind: int, how: str) -> None:
    names = ["a", "b", "c", "d"]
    path = write(tmp_path / "a.tar", kind, names)
    third = walked(path)[2]
    header = third[1] - 512
    content = path.read_bytes()
    changed = {
        "flip": content[: header + 1] + b"?" + content[header + 2 :],
        "cut a header": content[: header + 100],
        "cut between": content[:header],
        "cut a file": content[: third[1] + 700],
        "joined": content + content,
    }[how]
    path.write_bytes(changed)
    found, why = seen_until_damage(path)
    expected = {"joined": names, "cut a file": names[:3]}.get(how, names[:2])
    assert found == expected
    assert why


@pytest.mark.parametrize("kind", [b"L", b"K", b"x", b"g"])
def test_a_header_that_asks_for_much_memory_is_refused(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("long")
    info.type, info.size = kind, 600 << 20
    path = tmp_path / "a.tar"
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT))
    os.truncate(path, 700 << 20)
    assert seen_until_damage(path) == ([], "has a header of more than 1 MiB")


def test_sizes_below_zero_and_beyond_any_file_end_the_walk(tmp_path: Path) -> None:
    for size in (-512, 1 << 80):
        info = tarfile.TarInfo("odd")
        info.size = 0
        block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
        block[124:136] = (size % (1 << 96) | (0 if size < 0 else 0x80 << 88)).to_bytes(12, "big")
        block[148:156] = b"%06o\0 " % tarfile.calc_chksums(block)[0]
        path = tmp_path / "a.tar"
        path.write_bytes(bytes(block) * 3)
        assert len(seen_until_damage(path)[0]) <= 1
        assert seen_until_damage(path)[1]


@pytest.mark.parametrize(
    "told", [b"", b"9 a=b\n", b"0 a=b\n", b"99999999 a=b\n", b"x=y\n", b"6 ab\n\n", b"9" * 5000]
)
def test_attributes_that_are_none_end_the_walk(tmp_path: Path, told: bytes) -> None:
    info = tarfile.TarInfo("list")
    info.type, info.size = tarfile.XHDTYPE, len(told)
    path = tmp_path / "a.tar"
    padded = told.ljust(-(-max(len(told), 1) // 512) * 512, b"\0")
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + padded + bytes(1024))
    names, why = seen_until_damage(path)
    assert names == []
    assert bool(why) == bool(told)


@pytest.mark.parametrize("version", ["0.0", "0.1", "1.0", "gnu"])
def test_sparse_files_are_named_and_those_after_them_found(tmp_path: Path, version: str) -> None:
    hole = tmp_path / "in" / "hole"
    hole.parent.mkdir()
    with hole.open("wb") as file:
        for place in range(0, 60 << 20, 1 << 20):  # more pieces than a header holds
            file.seek(place)
            file.write(b"x" * 4096)
    (tmp_path / "in" / "z").write_bytes(b"after")
    how = ["--format=pax", f"--sparse-version={version}"] if version != "gnu" else ["--format=gnu"]
    place = ["-C", str(tmp_path / "in"), "hole", "z"]
    command = ["tar", "-cSf", str(tmp_path / "a.tar"), *how, *place]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("no GNU tar here")
    handle = os.open(tmp_path / "a.tar", os.O_RDONLY)
    sparse, after = TarWalk(handle).files()
    os.close(handle)
    assert (sparse.name, sparse.problem is not None) == ("hole", True)
    assert (after.name, after.size, after.problem) == ("z", 5, None)


def test_a_tar_file_is_known_by_its_first_block(tmp_path: Path) -> None:
    assert is_tar(write(tmp_path / "a.tar", tarfile.USTAR_FORMAT))
    for content in (b"", b"x" * 100, b"x" * 600, bytes(2048)):
        (tmp_path / "b.tar").write_bytes(content)
        assert not is_tar(tmp_path / "b.tar")


def test_a_scan_tells_of_a_damaged_archive_and_keeps_what_came_before(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(4):
        values = np.full((20, 20), 40 * number, np.uint8)
        Image.fromarray(values).save(tmp_path / f"{number}.png")
    with tarfile.open(images / "a.tar", "w") as file:
        for number in range(4):
            file.add(tmp_path / f"{number}.png", f"{number}.png")
    content = (images / "a.tar").read_bytes()
    (images / "a.tar").write_bytes(content[: len(content) // 2 // 512 * 512])
    (images / "b.tar").write_bytes(b"\x1f\x8b" + content)
    Image.fromarray(np.eye(20, dtype=np.uint8)).save(images / "good.png")
    out = tmp_path / "manifest.parquet"
    scan(images, out, ScanConfig(workers=1), key=KEY)
    rejected = pl.read_parquet(rejected_path(out))
    assert read_manifest(out).rows["path"].to_list()[-1] == "good.png"
    found = dict(zip(rejected["path"], rejected["reason"], strict=True))
    assert found["a.tar"] == "truncated"
    assert found["b.tar"] == "unsupported"
