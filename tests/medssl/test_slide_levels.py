"""Slides in TIFF: which pages are levels, what beside them is never shown, several in one file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from medssl.errors import IngestError, Reason
from medssl.identity import SiteKey
from medssl.scanning.walk import Found
from medssl.scanning.worker import read_file
from medssl.sources.cut import Cut
from medssl.sources.open import open_image
from medssl.sources.slide import is_slide, open_slide
from tests.medssl.test_slides import APERIO, specimen

Pixels = NDArray[np.uint8]
COMMON: dict[str, Any] = {"photometric": "rgb", "metadata": None, "compression": "deflate"}
TILED: dict[str, Any] = {**COMMON, "tile": (64, 64)}
FINE: dict[str, Any] = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}
MASK: dict[str, Any] = {"photometric": "mask", "subfiletype": 4}
BLACK = np.zeros((150, 160, 3), np.uint8)  # the label


@pytest.fixture(autouse=True)
def site_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDSSL_KEY_FILE", str(tmp_path / "keys" / "site.key"))


def shrunk(picture: Pixels, by: int) -> Pixels:
    return np.ascontiguousarray(picture[::by, ::by])


def write_svs(path: Path, *others: tuple[Pixels, str, dict[str, Any]]) -> Path:
    """Write a slide with a thumbnail and two levels, and further pages behind them."""
    picture = specimen()
    with tifffile.TiffWriter(path) as file:
        file.write(picture, description=APERIO.format(0.5), **TILED)
        file.write(shrunk(picture, 2), description="Aperio Image Library\nthumbnail", **COMMON)
        file.write(shrunk(picture, 4), description="Aperio Image Library", **TILED)
        for other, description, options in others:
            file.write(other, description=description, **{**TILED, **options})
    return path


@pytest.mark.parametrize(
    ("size", "description"),
    [
        ((150, 160), "Aperio Image Library"),  # no name, but not as much smaller down as across
        ((128, 160), "Aperio Image Library v12\r\nlabel 128x160"),  # shrunk alike, but named
        ((128, 160), "Aperio Image Library v12\nMacro 128x160"),
        ((40, 300), "Aperio Image Library\r\nmacro"),
    ],
)
def test_a_label_in_tiles_is_no_level_though_it_is_not_marked(
    tmp_path: Path, size: tuple[int, int], description: str
) -> None:
    label = np.zeros((*size, 3), np.uint8)
    path = write_svs(tmp_path / "a.svs", (label, description, {}))
    usual = write_svs(tmp_path / "b.svs", (label, description, {"tile": None, "subfiletype": 1}))
    with open_slide(path, Cut(64, 0.5)) as slide, open_slide(usual, Cut(64, 0.5)) as as_usual:
        assert [level.factor for level in slide.levels] == [1, 4]
        np.testing.assert_array_equal(slide.overview(64), as_usual.overview(64))
        assert slide.overview(64).min() > 50


def test_a_level_with_a_word_about_its_label_is_one(tmp_path: Path) -> None:
    description = "Aperio Image Library\nLabel = none\nmacro: 2"
    path = write_svs(tmp_path / "a.svs", (shrunk(specimen(), 8), description, {}))
    with open_slide(path, Cut(64, 0.5)) as slide:
        assert [level.factor for level in slide.levels] == [1, 4, 8]


@pytest.mark.parametrize(
    ("sides", "level", "is_level"),
    [
        ((1000, 40_000), (31, 1250), True),  # 31.25 columns
        ((1001, 777), (501, 389), True),
        ((1001, 777), (500, 388), True),
        ((4096, 4096), (940, 1000), False),
        ((1000, 800), (500, 405), False),
        ((1000, 800), (1000, 800), False),
    ],
)
def test_levels_are_as_much_smaller_down_as_across_to_a_few_pixels(
    tmp_path: Path, sides: tuple[int, int], level: tuple[int, int], is_level: bool
) -> None:
    blank = [np.zeros((*shape, 3), np.uint8) for shape in (sides, level)]
    path = tmp_path / "a.svs"
    with tifffile.TiffWriter(path) as file:
        file.write(blank[0], description=APERIO.format(0.5), **TILED)
        file.write(BLACK, description="Aperio Image Library", **COMMON)
        file.write(blank[1], description="Aperio Image Library", **TILED)
    if sides == level:
        with pytest.raises(IngestError, match="focal planes"), open_slide(path, Cut(64, 0.5)):
            pass
        return
    if not is_level and level[0] * 2 >= sides[0]:
        with pytest.raises(IngestError, match="several slides"), open_slide(path, Cut(64, 0.5)):
            pass
        return
    with open_slide(path, Cut(64, 0.5)) as slide:
        assert len(slide.levels) == 1 + is_level


def write_several(path: Path, *pictures: Pixels, levels: int = 2, **options: Any) -> Path:
    """Write slides one behind the other, with a smaller level each."""
    below = levels - 1
    with tifffile.TiffWriter(path) as file:
        for picture in pictures:
            file.write(picture, subifds=below, **TILED, **FINE, **options)
            if below:
                file.write(shrunk(picture, 2), subfiletype=1, **TILED)
    return path


def other(rows: int = 512, columns: int = 640) -> Pixels:
    return np.ascontiguousarray(specimen(rows, columns)[:, ::-1])


@pytest.mark.parametrize(
    "second",
    [other(), other(510, 638), other(384), other(900, 1000), other(256, 340)],
    ids=["of one size", "almost of one size", "lower", "larger", "small"],
)
def test_several_slides_in_a_file_are_set_aside_with_the_way_out(
    tmp_path: Path, second: Pixels
) -> None:
    write_several(tmp_path / "a.tiff", specimen(), second)
    outcome = read_file(tmp_path, Found("a.tiff", "stamp"), SiteKey(b"k"))
    assert outcome.aside is not None
    assert outcome.aside.reason == Reason.UNSUPPORTED
    assert "export each for itself" in outcome.aside.detail
    write_several(tmp_path / "b.tiff", specimen())
    with open_slide(tmp_path / "b.tiff", Cut(64, 0.5)) as slide:
        assert [level.factor for level in slide.levels] == [1, 2]


@pytest.mark.parametrize(
    ("page", "is_refused"),
    [
        ((other(), "Aperio Image Library", {}), True),
        ((other(300, 630), "Aperio Image Library", {}), True),
        ((other(300, 630), "Aperio Image Library", {"tile": None}), True),
        ((other(300, 630), "Aperio Image Library", {"subfiletype": 9}), False),  # macro picture
        ((other(300, 630), "Aperio Image Library\r\nmacro 630x300", {"tile": None}), False),
        ((np.zeros((512, 640), bool), "", MASK), False),
    ],
)
def test_what_lies_behind_a_slide_of_aperio_is_another_one_or_belongs_to_it(
    tmp_path: Path, page: tuple[Pixels, str, dict[str, Any]], is_refused: bool
) -> None:
    path = write_svs(tmp_path / "a.svs", page)
    if is_refused:
        with pytest.raises(IngestError, match="several slides"), open_slide(path, Cut(64, 0.5)):
            pass
        return
    with open_slide(path, Cut(64, 0.5)) as slide:
        assert [level.factor for level in slide.levels] == [1, 4]


def test_a_level_filled_up_to_whole_tiles_is_neither_level_nor_another_slide(
    tmp_path: Path,
) -> None:
    picture = specimen(500, 630)
    padded = np.zeros((256, 320, 3), np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.svs") as file:
        file.write(picture, description=APERIO.format(0.5), **TILED)
        file.write(shrunk(picture, 4), description="Aperio Image Library", **COMMON)
        file.write(np.concatenate([padded, padded[:64]]), description="Aperio", **TILED)
    with (
        pytest.raises(IngestError, match="several slides"),
        open_slide(tmp_path / "a.svs", Cut(64, 0.5)),
    ):
        pass
    with tifffile.TiffWriter(tmp_path / "b.svs") as file:
        file.write(specimen(500, 570), description=APERIO.format(0.5), **TILED)
        file.write(BLACK, description="Aperio Image Library", **COMMON)
        file.write(padded, description="Aperio Image Library", **TILED)
    with open_slide(tmp_path / "b.svs", Cut(64, 0.5)) as slide:
        assert len(slide.levels) == 1


@pytest.mark.parametrize("tile", [None, (64, 64)])
def test_pictures_on_several_pages_stay_pictures(
    tmp_path: Path, tile: tuple[int, int] | None
) -> None:
    path = tmp_path / "a.tiff"
    with tifffile.TiffWriter(path) as file:
        for picture in (specimen(), other(), other(384)):
            file.write(picture, **{**COMMON, "tile": tile})
    assert not is_slide(path, "tiff")
    with open_image(path, "tiff") as image:
        assert image.facts.frames == 3
        np.testing.assert_array_equal(image.decode(2).values, other(384))
