"""Whole slides of Leica's scanners: which of their images are read, and how they lie together."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

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
from tests.medssl.test_ndpi_slides import shrunk
from tests.medssl.test_slides import SECRET, scanned, specimen

Pixels = NDArray[np.uint8]
GLASS = 25_000_000, 75_000_000  # nm, across and down
NAMESPACE = "http://www.leica-microsystems.com/scn/2010/10/01"


@pytest.fixture(autouse=True)
def site_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDSSL_KEY_FILE", str(tmp_path / "keys" / "site.key"))


class Image(NamedTuple):
    """What to write as one image.

    Attributes:
        picture: `[rows, columns, 3]`.
        at: nm, across and down.
        size: nm, across and down.
        attributes: Of its levels.
    """

    picture: Pixels
    at: tuple[int, int]
    size: tuple[int, int]
    attributes: str = ""


def region(picture: Pixels, at: tuple[int, int], nm: int = 500, attributes: str = "") -> Image:
    return Image(picture, at, (picture.shape[1] * nm, picture.shape[0] * nm), attributes)


def macro() -> Image:
    picture = specimen(768, 256)
    picture[:64] = 0  # the label
    return Image(picture, (0, 0), GLASS)


def write_scn(path: Path, images: Sequence[Image], *, change: tuple[str, str] = ("", "")) -> Path:
    """Write each image with levels that are smaller by 4, by the published description."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pages: list[Pixels] = []
    parts = []
    for image in images:
        levels = [shrunk(image.picture, by) for by in (1, 4)]
        dimensions = "".join(
            f'<dimension sizeX="{level.shape[1]}" sizeY="{level.shape[0]}" r="{number}"'
            f' ifd="{len(pages) + number}" {image.attributes}/>'
            for number, level in enumerate(levels)
        )
        (left, top), (across, down) = image.at, image.size
        view = f'sizeX="{across}" sizeY="{down}" offsetX="{left}" offsetY="{top}"'
        parts.append(f"<image><pixels>{dimensions}</pixels><view {view}/></image>")
        pages += levels
    size = f'sizeX="{GLASS[0]}" sizeY="{GLASS[1]}"'
    text = (
        f'<?xml version="1.0"?><scn xmlns="{NAMESPACE}"><collection name="{SECRET}" {size}>'
        f"<barcode>{SECRET}</barcode>{''.join(parts)}</collection></scn>"
    )
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for number, page in enumerate(pages):
            description = None if number else text.replace(*change)
            options = {"tile": (64, 64), "photometric": "rgb", "metadata": None}
            file.write(page, description=description, resolution=(600, 600),
                       resolutionunit="CENTIMETER", compression="deflate", **options)  # fmt: skip
    return path


@pytest.mark.parametrize("order", [1, -1])
def test_the_region_is_read_and_never_the_macro_picture(tmp_path: Path, order: int) -> None:
    picture = specimen()
    images = [macro(), region(picture, (9_000_000, 9_000_000))][::order]
    path = write_scn(tmp_path / "a.scn", images)
    with open_slide(path, Cut(64, 0.5)) as slide:
        assert slide.mpp == 0.5
        assert [level.factor for level in slide.levels] == [1, 4]
        assert slide.grid == (8, 10)
        np.testing.assert_array_equal(slide.tile(2, 3), picture[128:192, 192:256])
        assert slide.overview(160).shape == (128, 160, 3)


def test_regions_lie_together_as_on_the_glass(tmp_path: Path) -> None:
    """The second begins 800 px to the left of the first, and 128 below; of other tiles."""
    large, small = specimen(512, 640), np.ascontiguousarray(specimen(200, 320)[:, ::-1])
    images = [
        macro(),
        region(small, (9_000_000, 9_064_000)),
        region(large, (9_400_000, 9_000_000)),
    ]
    path = write_scn(tmp_path / "a.scn", images)
    expected = np.full((512, 1440, 3), 255, np.uint8)
    expected[:, 800:] = large
    expected[128:328, :320] = small
    with open_slide(path, Cut(96, 0.5)) as slide:
        level = slide.levels[0]
        whole = read_region(path, level, (0, 0, level.rows, level.columns))
        np.testing.assert_array_equal(whole, expected)
        np.testing.assert_array_equal(slide.tile(1, 8), expected[96:192, 768:864])
        quarter = slide.overview(360)
        np.testing.assert_array_equal(quarter[32:82, :80], shrunk(small, 4))
        np.testing.assert_array_equal(quarter[:, 200:], shrunk(large, 4))


def test_a_scan_gives_tiles_of_all_regions_and_no_name(tmp_path: Path) -> None:
    picture = specimen(256, 256)
    regions = [region(picture, (9_000_000 + left, 9_000_000)) for left in (0, 128_000)]
    write_scn(tmp_path / "d" / "a.scn", [macro(), *regions])
    rows = scanned(tmp_path / "d", tile_px=64).rows
    tissue = [8 * row + column for row in range(4) for column in (0, 1, 4, 5)]
    assert rows["frame"].to_list() == tissue
    assert rows["spacing_row_mm"].unique().to_list() == [0.0005]
    for file in tmp_path.glob("*.parquet"):
        assert b"Jane" not in file.read_bytes()


BROKEN = {
    "no collection": ("collection", "assembly"),
    "entities of its own": ("<scn", '<!DOCTYPE scn [<!ENTITY a "b">]><scn'),
    "without a place": ("<view", "<sight"),
    "without sizeY": (f'sizeX="{GLASS[0]}" sizeY="{GLASS[1]}"><barcode', "><barcode"),
    "as large as described": ('ifd="2"', 'ifd="0"'),
    "large as described": ('ifd="2"', 'ifd="-2"'),
    "not as large": ('ifd="2"', 'ifd="99"'),
    "without ifd": ('ifd="2"', 'ifd="two"'),
    "without pages": ("dimension", "dimensions"),
    "pyramid": ("</barcode>", ""),
}


@pytest.mark.parametrize("detail", BROKEN)
def test_a_description_that_is_wrong_has_a_reason(tmp_path: Path, detail: str) -> None:
    images = [macro(), region(specimen(), (9_000_000, 9_000_000))]
    write_scn(tmp_path / "a.scn", images, change=BROKEN[detail])
    outcome = read_file(tmp_path, Found("a.scn", "stamp"), SiteKey(b"k"))
    assert outcome.aside is not None
    assert outcome.aside.reason == Reason.CORRUPT
    assert detail in outcome.aside.detail


def test_what_is_no_slide_of_one_kind_says_so(tmp_path: Path) -> None:
    place, picture = (9_000_000, 9_000_000), specimen()
    refused = {
        "a slide without a level": [],
        "fluorescence": [region(picture, place, attributes='c="1"')],
        "per pixel differ": [region(picture, place), region(picture, place, nm=1000)],
        "coarser than": [region(picture, place, nm=16_000)],
    }
    for detail, images in refused.items():
        path = write_scn(tmp_path / "a.scn", [macro(), *images])
        with pytest.raises(IngestError, match=detail), open_slide(path, USUAL_TILES.cut):
            pass


def test_regions_far_apart_are_too_large(tmp_path: Path) -> None:
    regions = [region(specimen(), (place, 9_000_000)) for place in (0, 10**12)]
    path = write_scn(tmp_path / "a.scn", [macro(), *regions])
    with pytest.raises(IngestError) as caught, open_slide(path, USUAL_TILES.cut):
        pass
    assert caught.value.reason == Reason.TOO_LARGE


def test_other_focal_planes_are_passed_over(tmp_path: Path) -> None:
    images = [macro(), region(specimen(), (9_000_000, 9_000_000))]
    other = 'ifd="3" /><dimension sizeX="640" sizeY="512" r="0" z="1" ifd="9" />'
    path = write_scn(tmp_path / "a.scn", images, change=('ifd="3" />', other))
    with open_slide(path, USUAL_TILES.cut) as slide:
        assert [level.columns for level in slide.levels] == [640, 160]
