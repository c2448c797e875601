"""Whole slides in BIF: tiles of single photos, damage, and what must not come out."""

import math
import tempfile
import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from medssl.errors import IngestError, Reason
from medssl.identity import SiteKey
from medssl.manifest import Manifest, read_manifest
from medssl.report.slide_section import _overview
from medssl.scanning.scan import scan
from medssl.scanning.settings import ScanConfig
from medssl.scanning.walk import Found
from medssl.scanning.worker import read_file
from medssl.sources import slide_bif
from medssl.sources.cut import USUAL_TILES, Cut
from medssl.sources.slide import open_slide
from medssl.sources.slide_grid import Along
from medssl.sources.slide_pyramid import Level
from medssl.sources.slide_tissue import find_tissue, look
from tests.medssl.make_bif import Bif, photographed
from tests.medssl.test_slides import SECRET, run, specimen

Pixels = NDArray[np.uint8]


@pytest.fixture(autouse=True)
def site_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDSSL_KEY_FILE", str(tmp_path / "keys" / "site.key"))


def halved(picture: Pixels) -> Pixels:
    rows, columns = picture.shape[0] // 2, picture.shape[1] // 2
    return picture.reshape(rows, 2, columns, 2, 3).mean(axis=(1, 3)).round().astype(np.uint8)


@pytest.mark.parametrize("big", [True, False])
def test_every_tile_is_the_part_of_the_picture_at_the_place_of_its_photo(
    tmp_path: Path, big: bool
) -> None:
    picture = specimen()
    slide_file, corners = photographed(picture, big=big)
    with open_slide(slide_file.write(tmp_path / "a.bif"), Cut(64, 0.25)) as slide:
        assert slide.grid == (3 * len(corners), 2 * len(corners[0]))
        for frame in range(slide.facts.frames or 0):
            row, column = divmod(frame, slide.grid[1])
            top, left = corners[row // 3, column // 2]
            top, left = top + row % 3 * 64, left + 16 + column % 2 * 64
            expected = picture[top : top + 64, left : left + 64]
            np.testing.assert_array_equal(slide.decode(frame).values, expected)


@pytest.mark.parametrize("padded", [0, 8, 24])
def test_coarser_tiles_come_from_a_level_of_shrunk_photos(tmp_path: Path, padded: int) -> None:
    """Also if levels jut out beyond the slide, as encoders fill up their blocks."""
    picture = specimen()
    slide_file, corners = photographed(picture, rows=160, columns=144, padded=padded)
    with open_slide(slide_file.write(tmp_path / "a.bif"), Cut(25, 0.5)) as slide:
        assert [level.factor for level in slide.levels] == [1, 2, 4]
        whole = slide.levels[0]
        for level in slide.levels:
            assert (level.rows * level.factor, level.columns * level.factor) == (
                whole.rows,
                whole.columns,
            )
        assert slide.levels[1] is slide._level
        assert slide.grid == (3 * len(corners), 2 * len(corners[0]))
        for frame in range(slide.facts.frames or 0):
            row, column = divmod(frame, slide.grid[1])
            top, left = corners[row // 3, column // 2]
            photo = halved(picture[top : top + 160, left : left + 144])
            top, left = 2 + row % 3 * 25, 11 + column % 2 * 25
            expected = photo[top : top + 25, left : left + 25]
            np.testing.assert_array_equal(slide.decode(frame).values, expected)


@pytest.mark.parametrize(
    ("px", "mpp", "factor"),
    [
        (16, 0.21, 1),
        (16, 0.25, 1),
        (33, 0.2873, 1),
        (16, 0.5, 2),
        (33, 0.71, 2),
        (20, 1.0, 4),
        (17, 1.9, 4),
        (8, 3.0, 8),
        (4, 8.0, 16),
        (4, 9.97, 16),
    ],
)
def test_no_tile_crosses_a_seam(tmp_path: Path, px: int, mpp: float, factor: int) -> None:
    """Photos of one colour each; 176 columns can be shrunk by 16 without a mixed pixel, not 32."""
    down, across, side = 3, 4, (208, 176)
    colours = np.random.default_rng(0).permutation(255)[: 3 * down * across].astype(np.uint8)
    flat = np.broadcast_to(colours.reshape(down, across, 1, 1, 3), (down, across, *side, 3))
    path = Bif(np.ascontiguousarray(flat), levels=tuple(range(7))).write(tmp_path / "a.bif")
    with open_slide(path, Cut(px, mpp)) as slide:
        assert [level.factor for level in slide.levels] == [1, 2, 4, 8, 16]
        assert slide._level.factor == factor
        rows, columns = (grid // photos for grid, photos in zip(slide.grid, (3, 4), strict=True))
        assert (rows, columns) == tuple(int(length / slide.step) for length in side)
        for row, column in np.ndindex(*slide.grid):
            expected = colours.reshape(down, across, 3)[row // rows, column // columns]
            assert (slide.tile(row, column) == expected).all()


def test_not_even_the_last_bit_of_a_step_leads_into_another_photo() -> None:
    """A pixel more would be averaged in, as the filter reaches beyond what it is asked for."""
    beyond = 0
    for photo, count in ((176, 7), (240, 17), (240, 34), (1024, 49), (1360, 13)):
        level = Level(5 * photo, 5 * photo, photo, photo, 1.0, lambda _: None)
        for bits in range(-2, 3):
            step = photo / count + bits * math.ulp(photo / count)
            along = Along.of(step, 5 * photo, photo, 1.0)
            for number in range(along.tiles):
                corner = number // along.each * photo
                span = along.span(number, level, level.rows)
                assert corner <= span.first < span.last <= corner + photo
                beyond += span.end > corner + photo
    assert beyond


def test_a_photo_too_small_for_a_tile_says_which_would_fit(tmp_path: Path) -> None:
    slide_file, _ = photographed(specimen())
    path = slide_file.write(tmp_path / "a.bif")
    with pytest.raises(IngestError) as caught, open_slide(path, USUAL_TILES.cut):
        pass
    assert caught.value.reason == Reason.UNSUPPORTED
    assert "192 x 160 px of 0.25 microns" in caught.value.detail
    assert "tile_px=80 does" in caught.value.detail
    with open_slide(path, Cut(80, 0.5)) as slide:
        assert slide.tile(0, 0).shape == (80, 80, 3)


@pytest.mark.parametrize("mpp", ["0.2325", "0.23", "0.46", "0.1", "0.3333"])
@pytest.mark.parametrize("wanted", [0.4, 0.5, 0.7, 1.1])
def test_the_size_that_is_said_to_fit_does(tmp_path: Path, mpp: str, wanted: float) -> None:
    photos = np.zeros((1, 1, 208, 192, 3), np.uint8)
    path = Bif(photos, mpp, None, levels=(0,)).write(tmp_path / "a.bif")
    with pytest.raises(IngestError) as caught, open_slide(path, Cut(1000, wanted)):
        pass
    most = int(caught.value.detail.partition("tile_px=")[2].split()[0])
    with open_slide(path, Cut(most, wanted)) as slide:
        assert min(slide.grid) == 1
    with pytest.raises(IngestError), open_slide(path, Cut(most + 1, wanted)):
        pass


@pytest.mark.parametrize(
    ("px", "mpp", "photo", "overlap", "expected"),
    [
        (256, 0.25, (1024, 1024), (0, 0), 0.00),
        (224, 0.25, (1024, 1024), (0, 0), 0.23),
        (256, 0.2325, (1360, 1024), (109, 113), 0.47),
        (238, 0.2325, (1360, 1024), (109, 113), 0.18),
        (224, 0.2325, (1360, 1024), (109, 113), 0.23),
    ],
)
def test_so_much_of_a_slide_is_left_out(
    px: int, mpp: float, photo: tuple[int, int], overlap: tuple[int, int], expected: float
) -> None:
    """At 0.5 um; of photos as a DP 200 has them, and as the file OS-1 of an iScan Coreo.

    There 116 x 75 photos show 105,818 x 93,924 px (WSILabs/opentile-go, docs/formats/bif.md).
    """
    kept = 1.0
    for side, over in zip(photo, overlap, strict=True):
        is_shown = np.zeros(10 * (side - over), np.bool_)
        along = Along.of(px * 0.5 / mpp, 12 * side, side, 2.0)
        for number, (begin, end) in enumerate(along.edges(12 * side, 12 * side)):
            moved = number // along.each * over + side  # from the second photo on
            is_shown[max(0, begin - moved) : max(0, end - moved)] = True
        kept *= is_shown.mean()
    assert 1 - kept == pytest.approx(expected, abs=0.005)


def test_edges_are_those_of_tiles_in_a_picture_of_all_photos(tmp_path: Path) -> None:
    slide_file, _ = photographed(specimen())
    stored = slide_file.level(0)
    with open_slide(slide_file.write(tmp_path / "a.bif"), Cut(72, 0.25)) as slide:
        down, across = slide.edges(*stored.shape[:2])
        assert (len(down), len(across)) == slide.grid
        for row, column in np.ndindex(*slide.grid):
            part = stored[slice(*down[row]), slice(*across[column])]
            np.testing.assert_array_equal(part, slide.tile(row, column))


@pytest.mark.parametrize("px", [48, 100])
def test_tissue_is_found_in_the_tiles_that_show_it(tmp_path: Path, px: int) -> None:
    """Also if a photo has room for one tile only, which is a small part of it."""
    slide_file, _ = photographed(specimen())
    with open_slide(slide_file.write(tmp_path / "a.bif"), Cut(px, 0.25)) as slide:
        shares = find_tissue(slide).tissue
        tiles = [look(slide.tile(*place))[1].mean() for place in np.ndindex(*slide.grid)]
    shown = np.array(tiles).reshape(slide.grid)
    assert 0.3 < (shown > 0.5).mean() < 0.7
    np.testing.assert_allclose(shares, shown, atol=0.1)


def test_the_report_shows_what_lies_between_tiles_pale(tmp_path: Path) -> None:
    black = replace(photographed(specimen())[0], photos=np.zeros((2, 4, 96, 160, 3), np.uint8))
    with open_slide(black.write(tmp_path / "a.bif"), Cut(96, 0.25)) as slide:
        shown = _overview(slide, np.array([0, 2, 7], np.int32))
    assert shown.shape == (640, 640, 3)
    dark = np.argwhere(shown[..., 0] == 0)
    top = (640 - 192) // 2
    assert len(dark) == 3 * 96 * 96
    for row, column in ((0, 0), (0, 2), (1, 3)):
        begin = top + 96 * row, 160 * column + 32
        assert (shown[begin[0] : begin[0] + 96, begin[1] : begin[1] + 96] == 0).all()


def scanned(folder: Path, **config: object) -> Manifest:
    out = folder.parent / "manifest.parquet"
    scan(folder, out, ScanConfig.model_validate({"workers": 1, **config}))
    return read_manifest(out)


def test_tiles_train_and_no_name_leaves_the_slide(tmp_path: Path) -> None:
    """Names stand in the attributes next to the one that is read, and the label is damaged."""
    folder = tmp_path / "d"
    for number in range(2):
        picture = np.roll(specimen(), 64 * number, axis=0)
        slide_file, _ = photographed(picture, secret=SECRET, compression="jpeg")
        path = slide_file.write(folder / f"secret{number}.bif")
        with tifffile.TiffFile(path) as tiff:
            offset = tiff.pages[0].dataoffsets[0]
        data = bytearray(path.read_bytes())
        data[offset : offset + 1000] = SECRET.encode().ljust(1000)
        path.write_bytes(data)
    rows = scanned(folder, tile_px=32).rows
    assert rows["path"].n_unique() == 2
    assert rows["member"].unique().to_list() == ["32 px at 0.5 um"]
    assert rows["kind"].unique().to_list() == ["slide"]
    manifest, out = tmp_path / "manifest.parquet", tmp_path / "run"
    small = ("--backbone", "resnet10", "--set", "backbone.width=8", "--image-size", 32)
    run("pretrain", manifest, "--out", out, *small, "--set", "run.steps=2", "--batch-size", 16)
    run("report", out)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("tiles of 32 px at 0.5 um") == 2
    for file in (*tmp_path.glob("*.parquet"), out / "report.html"):
        assert b"Jane" not in file.read_bytes()


def refused(path: Path) -> IngestError:
    with pytest.raises(IngestError) as caught, open_slide(path, Cut(32, 0.5)):
        pass
    return caught.value


@pytest.mark.parametrize(
    ("mpp", "encoded", "detail"),
    [
        (None, None, "without microns"),
        ("0", None, "without microns"),
        ("353", "353", "without microns"),
        ("1.2.3", None, "without microns"),
        ("0.25", "0.2325", "different microns"),
        ("2.5", None, "coarser than"),
    ],
)
def test_the_scanner_has_to_say_one_size_of_pixels(
    tmp_path: Path, mpp: str | None, encoded: str | None, detail: str
) -> None:
    slide_file, _ = photographed(specimen(), mpp=mpp, encoded=encoded)
    assert detail in refused(slide_file.write(tmp_path / "a.bif")).detail


@pytest.mark.parametrize(("mpp", "encoded"), [("0.2325", None), (None, "0.23250")])
def test_microns_per_pixel_are_those_of_any_page(
    tmp_path: Path, mpp: str | None, encoded: str | None
) -> None:
    slide_file, _ = photographed(specimen(), mpp=mpp, encoded=encoded)
    with open_slide(slide_file.write(tmp_path / "a.bif"), Cut(32, 0.5)) as slide:
        assert slide.mpp == 0.2325
        assert slide.cut.assumed is None


def test_a_slide_that_does_not_say_them_is_cut_as_assumed(tmp_path: Path) -> None:
    slide_file, _ = photographed(specimen(), mpp=None, encoded=None)
    with open_slide(slide_file.write(tmp_path / "a.bif"), Cut(32, 0.5, 0.25)) as slide:
        assert slide.cut.member == "32 px at 0.5 um of 0.25 um assumed"


@pytest.mark.parametrize(
    "about", [{"planes": 3}, {"planes": 3, "encoded": None}, {"levels": (0, 1, 0, 1)}]
)
def test_focal_planes_are_set_aside(tmp_path: Path, about: dict[str, object]) -> None:
    slide_file, _ = photographed(specimen(), **about)
    error = refused(slide_file.write(tmp_path / "a.bif"))
    assert error.reason == Reason.UNSUPPORTED
    assert "focal planes" in error.detail


def test_focal_planes_in_one_page_are_set_aside(tmp_path: Path) -> None:
    path = photographed(specimen(), levels=(0,))[0].write(tmp_path / "a.bif")
    planes = np.zeros((3, 64, 64, 3), np.uint8)
    about = {"description": "level=1 mag=20 quality=95", "metadata": None, "photometric": "rgb"}
    tifffile.imwrite(path, planes, append=True, volumetric=True, tile=(1, 32, 32), **about)
    assert "focal planes" in refused(path).detail


def test_a_file_without_the_slide_itself_is_damaged(tmp_path: Path) -> None:
    for number, levels in enumerate([(), (1, 2)]):
        path = photographed(specimen(), levels=levels)[0].write(tmp_path / f"{number}.bif")
        error = refused(path)
        assert (error.reason, error.detail) == (Reason.NO_PIXELS, "a slide without level 0")


@pytest.mark.parametrize("lie", [b"level=2", b"level=3"])
def test_a_level_that_is_shrunk_by_something_else_is_refused(tmp_path: Path, lie: bytes) -> None:
    path = photographed(specimen(), levels=(0, 1))[0].write(tmp_path / "a.bif")
    path.write_bytes(path.read_bytes().replace(b"level=1", lie))
    assert refused(path).detail == "a level that is not as large as the slide, shrunk"


def test_hostile_attributes_take_no_time() -> None:
    size = slide_bif._XMP_BYTES
    for text in (b"<iScan", b"<iScan a='" + b"' a='", b"<iScan " + b"a" * 9, b"<iScan" + b" " * 9):
        hostile = [(text * size)[:size], text + (text[6:] * size or b"=")[:size]]
        start = time.perf_counter()
        for content in hostile:
            assert not slide_bif._SCAN_RES.findall(content)
        assert time.perf_counter() - start < 1


@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.9])
def test_a_cut_slide_has_a_reason(tmp_path: Path, part: float) -> None:
    whole = slide_bytes()
    (tmp_path / "cut.bif").write_bytes(whole[: int(len(whole) * part)])
    outcome = read_file(tmp_path, Found("cut.bif", "stamp"), SiteKey(b"k"))
    assert outcome.aside is not None
    assert outcome.aside.reason in {"truncated", "corrupt", "no_pixels", "no_tiles", "not_an_image"}


@pytest.mark.parametrize("seed", range(60))
def test_a_damaged_slide_is_read_or_has_a_reason_of_its_own(tmp_path: Path, seed: int) -> None:
    data = bytearray(slide_bytes())
    rng = np.random.default_rng(seed)
    for word in (b"Label_Image", b"level=0", b"level=1"):  # where pages are described
        place = data.find(word) - 200
        data[rng.integers(place, place + 300)] = rng.integers(0, 256)
    data[rng.integers(0, len(data))] = rng.integers(0, 256)
    (tmp_path / "a.bif").write_bytes(data)
    outcome = read_file(tmp_path, Found("a.bif", "stamp"), SiteKey(b"k"))
    assert outcome.aside is None or outcome.aside.reason != Reason.READER_BUG, outcome.aside


@lru_cache
def slide_bytes() -> bytes:
    """Return a slide of two photos, into each of which a tile of the usual size fits."""
    about = {"mpp": "0.5", "encoded": "0.5", "compression": "jpeg"}
    slide_file, _ = photographed(specimen(280, 540), 256, 256, **about)
    with tempfile.TemporaryDirectory() as folder:
        return slide_file.write(Path(folder) / "a.bif").read_bytes()
