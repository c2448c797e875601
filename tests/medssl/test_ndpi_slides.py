"""Whole slides in NDPI: tiles of restart intervals, focal planes, and what is no slide in them."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from medssl.errors import IngestError, Reason
from medssl.identity import SiteKey
from medssl.scanning.walk import Found
from medssl.scanning.worker import read_file
from medssl.sources.cut import USUAL_TILES, Cut
from medssl.sources.slide import open_slide
from medssl.sources.slide_pyramid import read_region
from tests.medssl.make_ndpi import Page, write_ndpi
from tests.medssl.test_slides import specimen

Pixels = NDArray[np.uint8]


def shrunk(picture: Pixels, by: int) -> Pixels:
    rows, columns = (side // by for side in picture.shape[:2])
    cut = picture[: rows * by, : columns * by].reshape(rows, by, columns, by, 3)
    return cut.mean(axis=(1, 3)).round().astype(np.uint8)


def levels(picture: Pixels, blocks: tuple[int, ...] = (16, 16, 16), focus: int = 0) -> list[Page]:
    """Return pages of 0.5, 1 and 2 microns per pixel."""
    by = (1, 2, 4)[: len(blocks)]
    return [
        Page(shrunk(picture, each), 20 / each, each / 2, focus, interval)
        for each, interval in zip(by, blocks, strict=True)
    ]


MACRO = Page(np.full((1024, 2560, 3), (200, 30, 30), np.uint8), -1.0, 8.0)
MAP = Page(np.full((512, 1280, 3), (30, 200, 30), np.uint8), -2.0, 16.0)


@pytest.mark.parametrize(("columns", "blocks"), [(1024, (16, 16, 16)), (1000, (25, 21, 16))])
def test_levels_of_restart_intervals_are_read(
    tmp_path: Path, columns: int, blocks: tuple[int, ...]
) -> None:
    """Rows of 1000 px have 125 blocks of 8; those of 500 and of 250 px jut out."""
    path = write_ndpi(tmp_path / "a.ndpi", levels(specimen(512, columns), blocks))
    with tifffile.TiffFile(path) as tiff, open_slide(path, USUAL_TILES.cut) as slide:
        assert [level.factor for level in slide.levels] == [1, 2, 4]
        pages = list(tiff.pages)
        for page, level in zip(pages, slide.levels, strict=True):
            whole = read_region(path, level, (0, 0, level.rows, level.columns))
            np.testing.assert_array_equal(whole, page.asarray())
        np.testing.assert_array_equal(slide.tile(1, 2), pages[0].asarray()[256:512, 512:768])
        assert slide.mpp == pytest.approx(0.5)


def test_a_scan_finds_its_tissue(tmp_path: Path) -> None:
    write_ndpi(tmp_path / "a.ndpi", [*levels(specimen(512, 1024)), MACRO, MAP])
    outcome = read_file(tmp_path, Found("a.ndpi", "stamp"), SiteKey(b"k"))
    assert [row["frame"] for row in outcome.rows] == [0, 1, 4, 5]


@pytest.mark.parametrize("first", [True, False])
def test_pictures_of_the_glass_are_never_read(tmp_path: Path, *, first: bool) -> None:
    """Though they are larger, and of the same proportions."""
    glass, own = [MACRO, MAP], levels(specimen(512, 1280), (16, 16))
    path = write_ndpi(tmp_path / "a.ndpi", glass + own if first else own + glass)
    with open_slide(path, USUAL_TILES.cut) as slide:
        assert [(level.rows, level.columns) for level in slide.levels] == [(512, 1280), (256, 640)]
        assert slide.mpp == pytest.approx(0.5)
        is_red = np.ptp(slide.overview(160).astype(int), axis=2) > 100
        assert not is_red.any()


def test_nothing_but_pictures_of_the_glass_is_no_slide(tmp_path: Path) -> None:
    path = write_ndpi(tmp_path / "a.ndpi", [MACRO, MAP])
    with pytest.raises(IngestError) as caught, open_slide(path, USUAL_TILES.cut):
        pass
    assert caught.value.reason == Reason.NO_PIXELS


def test_one_focal_plane_is_read_at_all_levels(tmp_path: Path) -> None:
    """That nearest to the nominal one, though others come first or are of no other size."""
    sharp, other = specimen(512, 1024), specimen(512, 1024)[:, ::-1]
    pages = levels(other, focus=-2000) + levels(sharp, focus=-500) + levels(other, focus=1000)
    path = write_ndpi(tmp_path / "a.ndpi", pages)
    with open_slide(path, Cut(128, 0.5)) as slide:
        assert len(slide.levels) == 3
        for level in slide.levels:
            picture = read_region(path, level, (0, 0, level.rows, level.columns)).astype(int)
            tissue, glass = np.ptp(picture, axis=2)[:, [level.columns // 8, -8]].mean(axis=0)
            assert tissue > 30 > glass


def test_levels_without_restart_markers_are_passed_over(tmp_path: Path) -> None:
    path = write_ndpi(tmp_path / "a.ndpi", levels(specimen(512, 1024), (16, 16, 0)))
    with open_slide(path, USUAL_TILES.cut) as slide:
        assert len(slide.levels) == 2
    path = write_ndpi(tmp_path / "b.ndpi", levels(specimen(512, 1024), (0,)))
    with pytest.raises(IngestError, match="not cut in tiles"), open_slide(path, USUAL_TILES.cut):
        pass


@pytest.mark.parametrize("seed", range(30))
def test_a_damaged_slide_is_read_or_has_a_reason_of_its_own(tmp_path: Path, seed: int) -> None:
    path = write_ndpi(tmp_path / "a.ndpi", [*levels(specimen(256, 256), (16, 16)), MACRO])
    data, rng = bytearray(path.read_bytes()), np.random.default_rng(seed)
    tags = data.find((65420).to_bytes(2, "little")) - 13 * 12
    for place in (*rng.integers(0, len(data), 3), *rng.integers(tags, tags + 200, 2)):
        data[place] = rng.integers(0, 256)
    path.write_bytes(data)
    wishes = USUAL_TILES._replace(cut=Cut(64, 0.5))
    outcome = read_file(tmp_path, Found("a.ndpi", "stamp"), SiteKey(b"k"), wishes)
    assert outcome.aside is None or outcome.aside.reason != Reason.READER_BUG, outcome.aside
