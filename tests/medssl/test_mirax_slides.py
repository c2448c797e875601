"""Whole slides in MIRAX: the picture they were made of, damage, and what must not come out."""

import os
import struct
import tempfile
import tracemalloc
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from PIL import Image

from medssl.errors import DataError, IngestError, Reason
from medssl.identity import SiteKey
from medssl.manifest import Manifest, read_manifest
from medssl.scanning.scan import scan
from medssl.scanning.settings import ScanConfig
from medssl.scanning.walk import Found, current_stamp, walk
from medssl.scanning.worker import read_file
from medssl.sources import mirax_files
from medssl.sources.cut import Cut, TileWishes
from medssl.sources.slide import Slide, open_slide, open_tiles
from medssl.sources.slide_pyramid import read_region
from tests.medssl.make_mirax import FILL, Mirax, halved
from tests.medssl.test_slides import SECRET, run, specimen

Pixels = NDArray[np.uint8]
SIDE = 64  # px of a photo
PARTS = ("Slidedat.ini", "Index.dat", "Data0000.dat")
CUT = Cut(64, 0.5)


@pytest.fixture(autouse=True)
def site_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDSSL_KEY_FILE", str(tmp_path / "keys" / "site.key"))


def corners(down: int = 6, across: int = 8, unit: int = 8) -> NDArray[np.int64]:
    """Return where photos of 64 px begin that overlap by about 16 px, none as planned."""
    jitter = np.random.default_rng(3).integers(0, 2, (down, across, 2)) * unit
    grid = np.stack(np.mgrid[0:down, 0:across], axis=2) * 48
    places = grid + jitter
    places[0, 0] = 0
    return places


def mirax(**changes: Any) -> Mirax:
    return Mirax(specimen(320, 416), corners(), **changes)


def small_slide() -> Mirax:
    """Return one of few images and a single tile of the usual size, which is quick to read."""
    places = np.stack(np.mgrid[0:2, 0:2], axis=2) * 144
    about: dict[str, Any] = {"packing": "JPEG", "positions": "plain", "per_page": 9}
    return Mirax(specimen(304, 304), places, image=(80, 80), levels=2, **about)


def part_bytes(part: str) -> bytes:
    """Return a part of the small slide."""
    with tempfile.TemporaryDirectory() as folder:
        return (small_slide().write(Path(folder)).with_suffix("") / part).read_bytes()


def expected(slide: Mirax, level: int) -> Pixels:
    """Return a level of the picture, with the fill colour where no photo is."""
    rows, columns = slide.corners.reshape(-1, 2).max(axis=0) + SIDE
    is_there = np.zeros((rows, columns), np.bool_)
    for place in np.ndindex(*slide.corners.shape[:2]):
        if place not in slide.holes:
            top, left = slide.corners[place]
            is_there[top : top + SIDE, left : left + SIDE] = True
    picture = slide.picture[:rows, :columns]
    for _ in range(level):
        picture, is_there = halved(picture), is_there[::2, ::2]
    return np.where(is_there[..., None], picture, np.array(FILL, np.uint8))


def whole(slide: Slide, level: int) -> Pixels:
    found = slide.levels[level]
    return read_region(slide.path, found, (0, 0, found.rows, found.columns))


@pytest.mark.parametrize("positions", ["plain", "packed"])
@pytest.mark.parametrize("packing", ["PNG", "BMP24"])
def test_every_level_is_the_picture_with_holes_filled(
    tmp_path: Path, packing: str, positions: str
) -> None:
    """Also the levels whose images show parts of several photos, and so embedded overlaps."""
    written = mirax(packing=packing, positions=positions, holes=((2, 3), (2, 4), (5, 0)))
    with open_slide(written.write(tmp_path), CUT) as slide:
        assert [level.factor for level in slide.levels] == [1, 2, 4, 8]
        assert slide.mpp == 0.5
        for level in range(4):
            picture = expected(written, level)
            assert (picture == FILL).all(axis=2).any()
            np.testing.assert_array_equal(whole(slide, level), picture)


@pytest.mark.parametrize("divisions", [1, 2, 4])
def test_any_region_is_the_part_of_the_whole(tmp_path: Path, divisions: int) -> None:
    """Of photos that are cut to images, or not."""
    image = SIDE // divisions
    written = mirax(divisions=divisions, image=(image, image), holes=((3, 3),))
    rng = np.random.default_rng(0)
    with open_slide(written.write(tmp_path), CUT) as slide:
        for number in range(4):
            level, picture = slide.levels[number], expected(written, number)
            np.testing.assert_array_equal(whole(slide, number), picture)
            for _ in range(20):
                top, left = int(rng.integers(level.rows)), int(rng.integers(level.columns))
                bottom = int(rng.integers(top, level.rows)) + 1
                right = int(rng.integers(left, level.columns)) + 1
                part = read_region(slide.path, level, (top, left, bottom, right))
                np.testing.assert_array_equal(part, picture[top:bottom, left:right])


def test_constant_overlap_stands_in_for_positions(tmp_path: Path) -> None:
    grid = np.stack(np.mgrid[0:4, 0:5], axis=2) * (48, 56)
    written = Mirax(specimen(320, 416), grid, positions="none", overlap=(16, 8))
    with open_slide(written.write(tmp_path), CUT) as slide:
        for level in range(4):
            np.testing.assert_array_equal(whole(slide, level), expected(written, level))


def test_images_need_not_be_square_nor_fill_whole_pixels_of_a_level(tmp_path: Path) -> None:
    """Photos at any place, without gaps; a stored pixel that two photos share is their mean."""
    y, x = np.mgrid[0:400, 0:500]
    smooth = np.stack([y * 0.4, x * 0.4, (x + y) * 0.2], axis=2).round().astype(np.uint8)
    jitter = np.random.default_rng(1).integers(0, 6, (6, 6, 2))
    places = np.stack(np.mgrid[0:6, 0:6], axis=2) * (42, 62) + jitter
    written = Mirax(smooth, places, image=(26, 37), positions="plain")
    with open_slide(written.write(tmp_path), CUT) as slide:
        origin = places.reshape(-1, 2).min(axis=0)
        for number, level in enumerate(slide.levels):
            step = int(level.factor)
            found, inner = whole(slide, number), slice(8 // step + 1, -(8 // step + 1))
            sides = np.meshgrid(np.arange(level.rows), np.arange(level.columns), indexing="ij")
            for axis in range(2):
                wanted = 0.4 * (origin[axis] + (sides[axis] + 0.5) * step - 0.5)
                difference = (found[..., axis] - wanted)[inner, inner]
                assert np.abs(difference).max() < 4 + 0.4 * step
                assert abs(difference.mean()) < 0.02 + 0.08 * step  # not all to one side


def test_jpeg_images_are_close_to_the_picture(tmp_path: Path) -> None:
    written = mirax(packing="JPEG")
    written.picture = np.asarray(Image.fromarray(written.picture).reduce(8).resize((416, 320)))
    with open_slide(written.write(tmp_path), CUT) as slide:
        for level in range(4):
            difference = np.abs(whole(slide, level).astype(int) - expected(written, level))
            assert difference.mean() < 2.5


def test_an_exported_slide_may_begin_with_halved_images(tmp_path: Path) -> None:
    """Its numbers of images stay those of the slide that it was made of."""

    def halve(settings: dict[str, dict[str, Any]]) -> None:
        settings["HIERARCHICAL"]["HIER_0_COUNT"] = 2
        settings["HIERARCHICAL"]["HIER_0_VAL_0_SECTION"] = "LAYER_0_LEVEL_1_SECTION"
        settings["HIERARCHICAL"]["HIER_0_VAL_1_SECTION"] = "LAYER_0_LEVEL_2_SECTION"

    grid = np.stack(np.mgrid[0:4, 0:4], axis=2) * SIDE
    written = Mirax(specimen(320, 416), grid, 1, (SIDE, SIDE), 3, "PNG", "none", (0, 0))
    written.settings = halve
    path = written.write(tmp_path)
    index = tmp_path / "a" / "Index.dat"
    data = bytearray(index.read_bytes())
    roots = 5 + 16
    records = struct.unpack_from("<2i", data, roots)[0]
    data[records : records + 8] = data[records + 4 : records + 12]  # the first record is gone
    index.write_bytes(data)
    with open_slide(path, Cut(64, 1.0)) as slide:
        assert slide.mpp == 1.0
        assert [level.factor for level in slide.levels] == [1, 2]
        for level in range(2):
            np.testing.assert_array_equal(whole(slide, level), expected(written, level + 1))


def scanned(folder: Path, **config: object) -> Manifest:
    out = folder.parent / "manifest.parquet"
    scan(folder, out, ScanConfig.model_validate({"workers": 1, "tile_px": 64, **config}))
    return read_manifest(out)


def test_a_slide_of_many_files_is_one_slide_and_trains(tmp_path: Path) -> None:
    folder = tmp_path / "d" / "x"
    written = mirax()
    path = written.write(folder)
    Image.fromarray(specimen(64, 64)).save(folder / "a" / "picture.png")  # of somebody else
    (folder / "a" / "notes.txt").write_text("text")
    manifest = scanned(tmp_path / "d")
    assert set(manifest.rows["path"]) == {"x/a.mrxs", "x/a/picture.png"}
    tiles = manifest.rows.filter(pl.col("kind") == "slide")
    assert len(tiles) == 12
    assert tiles["spacing_row_mm"].unique().to_list() == [0.0005]
    rejected = pl.read_parquet(tmp_path / "rejected.parquet")
    assert rejected["path"].to_list() == ["x/a/notes.txt"]
    with open_tiles(path, "64 px at 0.5 um") as slide:
        frame = int(tiles["frame"][3])
        row, column = (64 * place for place in divmod(frame, slide.grid[1]))
        tile = expected(written, 0)[row : row + 64, column : column + 64]
        np.testing.assert_array_equal(slide.decode(frame).values, tile)
    out = tmp_path / "run"
    small = ("--backbone", "resnet10", "--set", "backbone.width=8", "--image-size", 32)
    run("pretrain", tmp_path / "manifest.parquet", "--out", out, *small, "--set", "run.steps=2",
        "--batch-size", 8)  # fmt: skip
    assert (out / "encoder.safetensors").exists()


def test_nothing_that_names_somebody_leaves_the_slide(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mirax(secret=SECRET).write(tmp_path / "d")

    def spoil(settings: dict[str, dict[str, Any]]) -> None:
        settings["LAYER_0_LEVEL_0_SECTION"]["OVERLAP_X"] = SECRET
        settings["GENERAL"]["IMAGENUMBER_X"] = SECRET

    mirax(secret=SECRET, settings=spoil).write(tmp_path / "d", "b")
    scanned(tmp_path / "d")
    outputs = list(tmp_path.glob("*.parquet"))
    assert len(outputs) == 2
    for file in outputs:
        assert b"Jane" not in file.read_bytes()
    assert "Jane" not in "".join(capfd.readouterr())
    rejected = pl.read_parquet(tmp_path / "rejected.parquet")
    assert rejected["reason"].to_list() == ["corrupt"]
    with pytest.raises(IngestError) as caught, open_slide(tmp_path / "d" / "b.mrxs", CUT):
        pass
    assert "Jane" not in str(caught.value)


def test_neither_the_picture_nor_the_label_is_ever_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = mirax().write(tmp_path)
    path.write_bytes(b"no picture at all")
    read: list[bytes] = []
    before = mirax_files.MiraxFiles.read

    def spy(files: mirax_files.MiraxFiles, *place: int) -> bytes:
        read.append(before(files, *place))
        return read[-1]

    monkeypatch.setattr(mirax_files.MiraxFiles, "read", spy)
    with open_slide(path, CUT) as slide:
        for level in range(4):
            whole(slide, level)
    assert sum(data.startswith(b"\x89PNG") for data in read) == len(read) - 1  # and the positions


def test_a_change_of_any_part_changes_the_stamp(tmp_path: Path) -> None:
    path, key = mirax().write(tmp_path), SiteKey(b"k")
    before = walk(tmp_path, key)[0]
    assert before == [Found("a.mrxs", str(current_stamp(tmp_path, "a.mrxs", key)))]
    os.utime(path.with_suffix("") / "Data0001.dat", (1, 1))
    after = walk(tmp_path, key)[0]
    assert after[0].stamp == current_stamp(tmp_path, "a.mrxs", key) != before[0].stamp


def test_files_of_such_names_in_other_folders_are_looked_at(tmp_path: Path) -> None:
    for name in ("a/Data0000.dat", "b.mrxs", "b/Data0000.dat", "Slidedat.ini"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    paths = [file.path for file in walk(tmp_path, SiteKey(b"k"))[0]]
    assert paths == ["Slidedat.ini", "a/Data0000.dat", "b.mrxs", "b/Data0000.dat"]


def reason_of(folder: Path) -> str:
    wishes = TileWishes(CUT)
    outcome = read_file(folder, Found("a.mrxs", "stamp"), SiteKey(b"k"), wishes)
    assert outcome.aside is not None, "it was read"
    return outcome.aside.reason


def test_a_slide_without_its_folder_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.mrxs").write_bytes(b"\xff\xd8\xff")
    assert reason_of(tmp_path) == Reason.VANISHED
    (tmp_path / "a").mkdir()
    assert reason_of(tmp_path) == Reason.VANISHED


def test_a_slide_in_an_archive_is_one_file_set_aside(tmp_path: Path) -> None:
    path = mirax().write(tmp_path)
    (tmp_path / "d").mkdir()
    with zipfile.ZipFile(tmp_path / "d" / "a.zip", "w") as archive:
        for file in (path, *sorted(path.with_suffix("").iterdir())):
            archive.write(file, file.relative_to(tmp_path))
    for place in (tmp_path / "d", tmp_path / "d" / "a.zip"):
        with pytest.raises(DataError, match="none of 1 files"):
            scan(place, tmp_path / "m.parquet", ScanConfig(workers=1))
    Image.fromarray(specimen(64, 64)).save(tmp_path / "d" / "b.png")
    scanned(tmp_path / "d")
    rejected = pl.read_parquet(tmp_path / "rejected.parquet")
    assert rejected["path"].to_list() == ["a.zip/a.mrxs"]
    assert "unpack it" in rejected["detail"][0]


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("HIERARCHICAL", "INDEXFILE", "../other/Index.dat"),
        ("HIERARCHICAL", "INDEXFILE", "/etc/passwd"),
        ("DATAFILE", "FILE_1", "..\\other\\Data0001.dat"),
        ("DATAFILE", "FILE_0", "../other/Data0000.dat"),
        ("DATAFILE", "FILE_0", ".."),
    ],
)
def test_no_name_leads_out_of_the_folder(
    tmp_path: Path, section: str, key: str, value: str
) -> None:
    mirax().write(tmp_path, "other")

    def spoil(settings: dict[str, dict[str, Any]]) -> None:
        settings[section][key] = value

    mirax(settings=spoil).write(tmp_path)
    assert reason_of(tmp_path) == (Reason.VANISHED if value == ".." else Reason.UNSUPPORTED)


@pytest.mark.parametrize("name", ["x" * 5000, "x\0y", "", "."])
def test_a_name_that_is_none_is_a_reason(tmp_path: Path, name: str) -> None:
    def spoil(settings: dict[str, dict[str, Any]]) -> None:
        settings["DATAFILE"]["FILE_1"] = name

    mirax(settings=spoil).write(tmp_path)
    assert reason_of(tmp_path) in {"corrupt", "vanished", "unsupported"}


@pytest.mark.parametrize("part", ["", "Slidedat.ini", "Index.dat", "Data0000.dat"])
def test_no_link_is_followed(tmp_path: Path, part: str) -> None:
    path = mirax().write(tmp_path)
    original = path.with_suffix("") / part
    original.rename(tmp_path / "elsewhere")
    original.symlink_to(tmp_path / "elsewhere")
    assert reason_of(tmp_path) == Reason.UNSUPPORTED


def test_a_pipe_does_not_hold_up_the_scan(tmp_path: Path) -> None:
    path = mirax().write(tmp_path)
    (path.with_suffix("") / "Data0000.dat").unlink()
    os.mkfifo(path.with_suffix("") / "Data0000.dat")
    assert reason_of(tmp_path) == Reason.VANISHED


@pytest.mark.parametrize(
    ("section", "key", "value", "reason"),
    [
        ("GENERAL", "IMAGENUMBER_X", 10**9, "corrupt"),
        ("GENERAL", "IMAGENUMBER_X", -3, "corrupt"),
        ("GENERAL", "IMAGENUMBER_Y", 1 << 20, "corrupt"),
        ("GENERAL", "CameraImageDivisionsPerSide", 0, "corrupt"),
        ("GENERAL", "CameraImageDivisionsPerSide", 3, "corrupt"),
        ("GENERAL", "SLIDE_ID", "another", "corrupt"),
        ("GENERAL", "SLIDE_TYPE", "SLIDE_TYPE_FLUORESCENCE", "unsupported"),
        ("HIERARCHICAL", "HIER_COUNT", 10**18, "corrupt"),
        ("HIERARCHICAL", "HIER_0_COUNT", 0, "no_pixels"),
        ("HIERARCHICAL", "HIER_0_COUNT", 99, "corrupt"),
        ("HIERARCHICAL", "HIER_0_NAME", "", "corrupt"),
        ("HIERARCHICAL", "NONHIER_1_COUNT", 10**6, "corrupt"),
        ("HIERARCHICAL", "NONHIER_0_VAL_9", "StitchingLevelForHWCoord", "unsupported"),
        ("DATAFILE", "FILE_COUNT", 1, "corrupt"),
        ("DATAFILE", "FILE_COUNT", 10**10, "corrupt"),
        ("LAYER_0_LEVEL_0_SECTION", "DIGITIZER_WIDTH", 1 << 20, "unsupported"),
        ("LAYER_0_LEVEL_0_SECTION", "IMAGE_FORMAT", "JPEG XR", "unsupported"),
        ("LAYER_0_LEVEL_0_SECTION", "IMAGE_FORMAT", "JPEG", "corrupt"),
        ("LAYER_0_LEVEL_0_SECTION", "IMAGE_CONCAT_FACTOR", 1, "corrupt"),
        ("LAYER_0_LEVEL_1_SECTION", "IMAGE_CONCAT_FACTOR", 0, "corrupt"),
        ("LAYER_0_LEVEL_3_SECTION", "IMAGE_CONCAT_FACTOR", 16, "corrupt"),
        ("LAYER_0_LEVEL_0_SECTION", "OVERLAP_X", "nan", "corrupt"),
        ("LAYER_0_LEVEL_0_SECTION", "MICROMETER_PER_PIXEL_X", 0.7, "unsupported"),
        ("LAYER_0_LEVEL_0_SECTION", "MICROMETER_PER_PIXEL_Y", 0, "unsupported"),
    ],
)
def test_settings_that_cannot_be_are_a_reason(
    tmp_path: Path, section: str, key: str, value: object, reason: str
) -> None:
    def spoil(settings: dict[str, dict[str, Any]]) -> None:
        settings[section][key] = value

    mirax(settings=spoil).write(tmp_path)
    assert reason_of(tmp_path) == reason


def test_images_larger_than_said_are_not_decoded(tmp_path: Path) -> None:
    def spoil(settings: dict[str, dict[str, Any]]) -> None:
        for level in range(4):
            settings[f"LAYER_0_LEVEL_{level}_SECTION"]["DIGITIZER_WIDTH"] = 16

    mirax(settings=spoil).write(tmp_path)
    assert reason_of(tmp_path) == Reason.CORRUPT


@pytest.mark.parametrize(
    ("at", "value", "reason"),
    [
        (0, 10**9, "corrupt"),  # items of a page
        (0, -1, "corrupt"),
        (4, -8, "corrupt"),  # the next page
        (4, 2**31 - 1, "corrupt"),
        (8, -1, "corrupt"),  # number of the image
        (8, 10**6, "corrupt"),
        (12, -100, "corrupt"),  # offset
        (12, 2**31 - 1, "truncated"),
        (16, 0, "corrupt"),  # length
        (16, 10**7, "truncated"),
        (16, 2**31 - 1, "too_large"),
        (16, 40, "corrupt"),
        (20, 2, "corrupt"),  # data file
        (20, -1, "corrupt"),
    ],
)
def test_an_index_that_lies_is_a_reason(tmp_path: Path, at: int, value: int, reason: str) -> None:
    written = mirax()
    index = written.write(tmp_path).with_suffix("") / "Index.dat"
    data = bytearray(index.read_bytes())
    struct.pack_into("<i", data, written.pages[63] + at, value)  # of the first three images
    index.write_bytes(data)
    assert reason_of(tmp_path) == reason


def test_pages_in_a_circle_end(tmp_path: Path) -> None:
    written = mirax()
    index = written.write(tmp_path).with_suffix("") / "Index.dat"
    data = bytearray(index.read_bytes())
    for following in (written.pages[0], written.pages[4]):
        struct.pack_into("<i", data, written.pages[0] + 4, following)
        index.write_bytes(data)
        with pytest.raises(IngestError, match="circle"), open_slide(tmp_path / "a.mrxs", CUT):
            pass


def test_several_images_of_one_place_are_focal_planes(tmp_path: Path) -> None:
    written = mirax()
    index = written.write(tmp_path).with_suffix("") / "Index.dat"
    data = bytearray(index.read_bytes())
    first = written.pages[0] + 8
    data[first + 16 : first + 20] = data[first : first + 4]
    index.write_bytes(data)
    with pytest.raises(IngestError, match="focal planes"), open_slide(tmp_path / "a.mrxs", CUT):
        pass


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (zlib.compress(bytes(9)), "corrupt"),
        (zlib.compress(b"\2" + bytes(9 * 48 - 1)), "corrupt"),
        (b"no such stream", "corrupt"),
        (zlib.compress((b"\1" + struct.pack("<2i", 2**31 - 1, 7)) + bytes(9 * 47)), "too_large"),
        (zlib.compress((b"\1" + struct.pack("<2i", -(2**31), 7)) + bytes(9 * 47)), "too_large"),
    ],
)
def test_positions_that_cannot_be_are_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: bytes, reason: str
) -> None:
    monkeypatch.setattr(Mirax, "_positions", lambda self: table)
    mirax().write(tmp_path)
    assert reason_of(tmp_path) == reason


def test_of_a_bomb_only_what_is_wanted_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = zlib.compress(bytes(50_000_000))
    monkeypatch.setattr(Mirax, "_positions", lambda self: bomb)
    path = mirax().write(tmp_path)
    tracemalloc.start()
    with pytest.raises(IngestError, match="more or fewer photos"), open_slide(path, CUT):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


@pytest.mark.parametrize(
    ("overlap", "reason"),
    [("1e308", "corrupt"), ("-inf", "corrupt"), ("-9e8", "too_large"), ("9e8", "too_large")],
)
def test_an_overlap_that_cannot_be_is_a_reason(tmp_path: Path, overlap: str, reason: str) -> None:
    def spoil(settings: dict[str, dict[str, Any]]) -> None:
        settings["LAYER_0_LEVEL_0_SECTION"]["OVERLAP_X"] = overlap

    mirax(positions="none", settings=spoil).write(tmp_path)
    assert reason_of(tmp_path) == reason


@pytest.mark.parametrize("part", ["Slidedat.ini", "Index.dat", "Data0000.dat", "Data0001.dat"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.99])
def test_a_cut_slide_has_a_reason(tmp_path: Path, part: str, share: float) -> None:
    file = mirax().write(tmp_path).with_suffix("") / part
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    assert reason_of(tmp_path) in {"truncated", "corrupt"}


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_slide_is_read_or_has_a_reason_of_its_own(tmp_path: Path, seed: int) -> None:
    folder = mirax(packing="JPEG").write(tmp_path).with_suffix("")
    rng = np.random.default_rng(seed)
    for file in sorted(folder.iterdir()):
        data = bytearray(file.read_bytes())
        for place in rng.integers(0, len(data), 2 if file.name.endswith("ini") else 4):
            data[place] = rng.integers(0, 256)
        if seed % 4 == ["Data0000.dat", "Data0001.dat", "Index.dat", "Slidedat.ini"].index(
            file.name
        ):
            file.write_bytes(data)
    outcome = read_file(tmp_path, Found("a.mrxs", "stamp"), SiteKey(b"k"), TileWishes(CUT))
    assert outcome.aside is None or outcome.aside.reason != Reason.READER_BUG, outcome.aside
