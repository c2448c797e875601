"""Whole slides: which tiles, from which level, and what is left out."""

import io
import tempfile
import zipfile
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

import medssl.sources.slide
from medssl.cli import app
from medssl.config import Window
from medssl.errors import IngestError, Reason
from medssl.identity import SiteKey
from medssl.loading.dataset import CanvasDataset
from medssl.manifest import Manifest, read_manifest
from medssl.scanning.scan import scan
from medssl.scanning.settings import ScanConfig
from medssl.scanning.walk import Found
from medssl.scanning.worker import read_file
from medssl.sources.cut import USUAL_TILES, Cut
from medssl.sources.open import open_image
from medssl.sources.slide import Slide, is_slide, open_slide, open_tiles
from medssl.sources.slide_facts import microns_per_pixel
from medssl.sources.slide_pyramid import Level, read_region
from medssl.sources.slide_tissue import find_tissue, look
from medssl.transforms.stain_normalisation import dye_amounts

Pixels = NDArray[np.uint8]
APERIO = "Aperio Image Library v11.2.1\n640x512 [0,0 640x512] (64x64)|AppMag = 20|MPP = {}"
GLASS, PINK, PURPLE = (242, 240, 243), (225, 150, 190), (120, 70, 150)
GREEN_INK, BLACK_INK = (30, 140, 60), (15, 15, 20)
HAEMATOXYLIN, EOSIN = (0.5626, 0.7201, 0.4062), (0.2159, 0.8012, 0.5581)  # densities of the dyes
SECRET = "Jane Doe, 1 April 1950"


def specimen(rows: int = 512, columns: int = 640) -> Pixels:
    """Return glass with stained tissue on the left half, a sharp texture in it."""
    noise = np.random.default_rng(0).integers(-12, 13, (rows, columns, 1))
    picture = np.empty((rows, columns, 3), np.int64)
    picture[:] = GLASS
    stripes = (np.arange(columns) // 3 + np.arange(rows)[:, None] // 3) % 2 == 0
    tissue = np.where(stripes[..., None], PINK, PURPLE)
    picture[:, : columns // 2] = tissue[:, : columns // 2] + noise[:, : columns // 2]
    return picture.clip(0, 255).astype(np.uint8)


def write_slide(
    path: Path,
    picture: Pixels,
    *,
    description: str | None = APERIO.format(0.5),
    levels: int = 3,
    tile: int = 64,
    **options: Any,
) -> Path:
    """Write a pyramid as Aperio's scanners do, with a label that shows a name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    common = {"tile": (tile, tile), "photometric": "rgb", "metadata": None, **options}
    with tifffile.TiffWriter(path) as file:
        for level in range(levels):
            step = 2**level
            rows, columns = (side // step for side in picture.shape[:2])
            cut = picture[: rows * step, : columns * step].reshape(rows, step, columns, step, 3)
            smaller = cut.mean(axis=(1, 3)).round().astype(np.uint8)
            file.write(smaller, description=description, **common)
            if level == 0 and description:
                thumbnail = np.ascontiguousarray(picture[::8, ::8])
                file.write(thumbnail, photometric="rgb", description=description, metadata=None)
        label = f"Aperio Image Library\nlabel 32x32 {SECRET}"
        file.write(
            np.zeros((32, 32, 3), np.uint8), photometric="rgb", description=label, metadata=None
        )
    return path


def scanned(folder: Path, **config: object) -> Manifest:
    out = folder.parent / "manifest.parquet"
    scan(folder, out, ScanConfig.model_validate({"workers": 1, **config}))
    return read_manifest(out)


def test_a_tile_is_the_very_part_of_the_slide(tmp_path: Path) -> None:
    picture = specimen()
    path = write_slide(tmp_path / "a.svs", picture, compression="deflate")
    with open_slide(path, Cut(96, 0.5)) as slide:
        require_tiles(slide, picture)


def require_tiles(slide: Slide, picture: Pixels) -> None:
    """Check tiles of 96 px, of a slide of 500 x 630, against the picture it was made of."""
    assert slide.grid == (5, 6)
    for frame in (0, 7, 29):
        row, column = divmod(frame, 6)
        expected = picture[row * 96 : (row + 1) * 96, column * 96 : (column + 1) * 96]
        np.testing.assert_array_equal(slide.decode(frame).values, expected)
    with pytest.raises(IngestError, match="frame 30"):
        slide.decode(30)
    assert slide.decode(0).spacing_mm == (0.0005, 0.0005)


@pytest.mark.parametrize("mpp", [0.4, 0.5, 0.73, 1.0, 1.9, 4.0])
def test_tiles_are_of_the_microns_per_pixel_that_are_wanted(tmp_path: Path, mpp: float) -> None:
    """Beside the whole first level, averaged; a smooth picture, as levels are averages too."""
    y, x = np.mgrid[0:512, 0:640] / 640
    picture = np.stack([255 * y, 255 * x, 255 * (1 - x)], axis=2).clip(0, 255).astype(np.uint8)
    path = write_slide(tmp_path / "a.svs", picture)
    with open_slide(path, Cut(32, mpp)) as slide:
        side = 32 * mpp / 0.5
        assert slide.grid == (int(512 / side), int(640 / side))
        rows, columns = slide.grid
        tile = slide.tile(rows - 1, columns - 1)
        centre = (np.arange(32) + 0.5) * side / 32
        expected = np.stack(
            np.broadcast_arrays(
                255 * ((rows - 1) * side + centre[:, None] - 0.5) / 640,
                255 * ((columns - 1) * side + centre - 0.5) / 640,
            ),
            axis=2,
        )
        inner = (slice(2, -2), slice(2, -2))
        np.testing.assert_allclose(tile[..., :2][inner], expected[inner], atol=2.5)


def test_a_large_factor_is_read_from_a_small_level(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_slide(tmp_path / "a.svs", specimen())
    with open_slide(path, Cut(32, 2.0)) as slide:
        assert [level.factor for level in slide.levels] == [1, 2, 4]
        read: list[Level] = []

        def spy(path: Path, level: Level, *about: Any) -> Pixels:
            read.append(level)
            return read_region(path, level, *about)

        monkeypatch.setattr(medssl.sources.slide, "read_region", spy)
        slide.tile(0, 0)
        assert read == [slide.levels[2]]


def test_only_tissue_has_rows_and_they_train(tmp_path: Path) -> None:
    write_slide(tmp_path / "d" / "a.svs", specimen())
    manifest = scanned(tmp_path / "d", tile_px=64)
    rows = manifest.rows
    assert set(rows["kind"]) == {"slide"}
    assert rows["modality"].unique().to_list() == ["SM"]
    assert rows["member"].unique().to_list() == ["64 px at 0.5 um"]
    assert rows["frame"].to_list() == [row * 10 + column for row in range(8) for column in range(5)]
    dataset = CanvasDataset(manifest, canvas=64, channels=3, window=Window.AUTO)
    pixels = dataset.read_batch(torch.arange(len(rows))).pixels
    picture = specimen()[64:128, 64:128].transpose(2, 0, 1).astype(np.float64)
    np.testing.assert_allclose(pixels[6].double().numpy() / 65535 * 255, picture, atol=0.01)


def test_ink_and_tiles_out_of_focus_are_left_out(tmp_path: Path) -> None:
    picture = specimen()
    picture[:64, :64] = GREEN_INK
    picture[64:128, 64:128] = BLACK_INK
    picture[128:192, 128:192] = PURPLE  # without any texture
    write_slide(tmp_path / "d" / "a.svs", picture)
    rows = scanned(tmp_path / "d", tile_px=64).rows
    frames = rows["frame"].to_list()
    assert not {0, 11, 22} & set(frames)
    assert len(frames) == 37
    assert rows["left_out"].unique().to_list() == [[40, 2, 1]]


def test_tiles_that_are_left_out_are_counted_per_slide(tmp_path: Path) -> None:
    """In the summary and, of a slide without others, in its reason; also if nothing is new."""
    drawn = specimen()
    drawn[:, :320] = GREEN_INK
    picture = specimen()
    picture[:64, :64] = BLACK_INK
    write_slide(tmp_path / "d" / "a.svs", picture)
    write_slide(tmp_path / "d" / "b.svs", specimen())
    write_slide(tmp_path / "d" / "c.svs", drawn)
    out = tmp_path / "m.parquet"
    for _ in range(2):
        summary = scan(tmp_path / "d", out, ScanConfig(workers=1, tile_px=64))
        assert summary.left_out == {"glass": 80, "ink": 1}
        assert "2; tiles left out: glass 80, ink 1" in summary.table()
    assert pl.read_parquet(tmp_path / "m.rejected.parquet").select(
        "path", "reason", "detail"
    ).rows() == [
        (
            "c.svs",
            "no_tiles",
            "a slide without a tile of tissue; of 80 tiles: glass 40, ink 40, out of focus 0",
        )
    ]


def test_a_manifest_from_before_tiles_were_counted_is_read(tmp_path: Path) -> None:
    write_slide(tmp_path / "d" / "a.svs", specimen())
    rows = scanned(tmp_path / "d", tile_px=64).rows
    out = tmp_path / "manifest.parquet"
    notes = pl.read_parquet_metadata(out)
    pl.read_parquet(out).drop("left_out").write_parquet(out, metadata=notes)
    assert read_manifest(out).rows.drop("left_out").equals(rows.drop("left_out"))
    assert read_manifest(out).rows["left_out"].null_count() == len(rows)


def test_glass_is_no_tissue_however_grey(tmp_path: Path) -> None:
    glass = np.full((256, 256, 3), 200, np.uint8)
    glass += np.random.default_rng(0).integers(0, 8, glass.shape).astype(np.uint8)
    ink, tissue = look(glass)
    assert not ink.any()
    assert not tissue.any()
    write_slide(tmp_path / "glass.svs", glass)
    outcome = read_file(tmp_path, Found("glass.svs", "stamp"), SiteKey(b"k"))
    assert outcome.aside is not None
    assert outcome.aside.reason == Reason.NO_TILES
    assert "of 1 tiles: glass 1, ink 0" in outcome.aside.detail


def test_tissue_shares_are_those_of_the_picture(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "a.svs", specimen())
    with open_slide(path, Cut(128, 0.5)) as slide:
        shares = find_tissue(slide).tissue
    np.testing.assert_allclose(shares, np.tile([1, 1, 0.5, 0, 0], (4, 1)), atol=0.08)


def test_a_slide_without_microns_per_pixel_needs_a_given_one_and_says_so(tmp_path: Path) -> None:
    write_slide(tmp_path / "d" / "a.tiff", specimen(), description=None)
    write_slide(tmp_path / "d" / "b.svs", specimen()[::-1])
    manifest = scanned(tmp_path / "d", tile_px=64)
    assert manifest.rows["path"].unique().to_list() == ["b.svs"]
    rejected = pl.read_parquet(tmp_path / "rejected.parquet")
    assert "slide_mpp" in rejected["detail"][0]
    out = tmp_path / "again.parquet"
    summary = scan(tmp_path / "d", out, ScanConfig(workers=1, tile_px=64, slide_mpp=0.25))
    assert "2 (1 with assumed microns per pixel)" in summary.table()
    members = dict(read_manifest(out).rows.select("path", "member").unique().iter_rows())
    assert members["a.tiff"] == "64 px at 0.5 um of 0.25 um assumed"
    assert members["b.svs"] == "64 px at 0.5 um"
    with open_image(tmp_path / "d" / "a.tiff", "slide", members["a.tiff"]) as reader:
        assert reader.facts.frames == 20  # of 128 px of the slide


def test_a_coarse_slide_is_set_aside_not_blown_up(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "a.svs", specimen(), description=APERIO.format(2.0))
    with (
        pytest.raises(IngestError, match="coarser than"),
        open_slide(path, USUAL_TILES.cut),
    ):
        pass


def test_resolution_in_pixels_per_centimetre_is_understood(tmp_path: Path) -> None:
    options = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}
    path = write_slide(tmp_path / "a.tiff", specimen(), description=None, **options)
    with open_slide(path, USUAL_TILES.cut) as slide:
        assert slide.mpp == pytest.approx(0.5)
    screen = {"resolution": (72, 72), "resolutionunit": "INCH"}
    path = write_slide(tmp_path / "b.tiff", specimen(), description=None, **screen)
    with pytest.raises(IngestError, match="without microns"), open_slide(path, USUAL_TILES.cut):
        pass


def test_plain_images_are_no_slides(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tiff", specimen(), photometric="rgb")
    tifffile.imwrite(tmp_path / "b.tiff", specimen(), photometric="rgb", tile=(64, 64))
    assert not is_slide(tmp_path / "a.tiff", "tiff")
    assert not is_slide(tmp_path / "b.tiff", "tiff")
    assert is_slide(write_slide(tmp_path / "c.tiff", specimen(), description=None), "tiff")


def large_tiff(path: Path, columns: int = 4608, samples: int = 3, **options: Any) -> Path:
    """Write an image of 64 rows; in tiles, and of 0.5 microns per pixel, unless said otherwise."""
    picture = np.zeros((64, columns, samples), np.uint8).squeeze()
    usual = {"tile": (64, 64), "resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}
    kind = {"photometric": "rgb" if samples == 3 else "minisblack", "compression": "deflate"}
    tifffile.imwrite(path, picture, **(kind | usual | options))
    return path


def test_a_large_tiled_image_of_the_pixels_of_a_slide_is_one(tmp_path: Path) -> None:
    assert is_slide(large_tiff(tmp_path / "a.tiff"), "tiff")
    others: list[dict[str, Any]] = [
        {"columns": 4096},
        {"tile": None},
        {"samples": 1},
        {"resolution": (1200, 1200), "resolutionunit": "INCH"},  # a photograph of paper
        {"resolution": (1, 1), "resolutionunit": "NONE"},
    ]
    for changes in others:
        assert not is_slide(large_tiff(tmp_path / "b.tiff", **changes), "tiff")
    stack = np.zeros((2, 64, 4608, 3), np.uint8)
    options = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER", "tile": (64, 64)}
    tifffile.imwrite(
        tmp_path / "c.tiff", stack, photometric="rgb", compression="deflate", **options
    )
    assert not is_slide(tmp_path / "c.tiff", "tiff")


def test_a_plain_tiled_slide_is_scanned_with_its_spacing(tmp_path: Path) -> None:
    picture = np.tile(specimen(512, 640), (1, 8, 1))
    (tmp_path / "d").mkdir()
    options = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER", "tile": (256, 256)}
    tifffile.imwrite(tmp_path / "d" / "a.tiff", picture, photometric="rgb", **options)
    rows = scanned(tmp_path / "d").rows
    assert rows["kind"].unique().to_list() == ["slide"]
    assert rows["spacing_row_mm"].unique().to_list() == [0.0005]
    assert rows["frames"][0] == 40


def test_an_image_in_strips_that_is_too_large_says_the_way_out(tmp_path: Path) -> None:
    large_tiff(tmp_path / "a.tiff", columns=1_600_000, tile=None)
    outcome = read_file(tmp_path, Found("a.tiff", "stamp"), SiteKey(b"k"))
    assert outcome.aside is not None
    assert outcome.aside.reason == Reason.TOO_LARGE
    assert "convert it to a tiled TIFF" in outcome.aside.detail


def test_jpeg_and_jpeg_2000_tiles_are_decoded(tmp_path: Path) -> None:
    smooth = np.ascontiguousarray(specimen()[:, 320:])
    smooth[100:200, 50:150] = PINK
    for name in ("jpeg", "jpeg2000", "lzw"):
        path = write_slide(tmp_path / f"{name}.svs", smooth, compression=name)
        with open_slide(path, Cut(128, 0.5)) as slide:
            difference = slide.tile(0, 0).astype(int) - smooth[:128, :128]
            assert np.abs(difference).mean() < 2


@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.9])
def test_a_cut_slide_has_a_reason(tmp_path: Path, part: float) -> None:
    whole = write_slide(tmp_path / "a.svs", specimen(), compression="deflate").read_bytes()
    (tmp_path / "cut.svs").write_bytes(whole[: int(len(whole) * part)])
    outcome = read_file(tmp_path, Found("cut.svs", "stamp"), SiteKey(b"k"))
    assert outcome.aside is not None
    assert outcome.aside.reason in {"truncated", "corrupt", "no_pixels", "no_tiles", "not_an_image"}


def test_no_name_on_the_label_leaves_the_slide(tmp_path: Path) -> None:
    write_slide(tmp_path / "d" / "a.svs", specimen())
    scanned(tmp_path / "d", tile_px=64)
    for file in tmp_path.glob("*.parquet"):
        assert b"Jane" not in file.read_bytes()


def run(*words: object) -> None:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output


def test_slides_train_and_their_report_shows_tiles_and_stain(tmp_path: Path) -> None:
    folder = tmp_path / "d" / "secret-folder"
    for number in range(3):
        write_slide(folder / f"secret{number}.svs", np.roll(specimen(), 64 * number, axis=1))
    bare = write_slide(folder / "secret9.tiff", stained(0.3, 0.7), description=None)
    manifest, out = tmp_path / "m.parquet", tmp_path / "run"
    settings = ("--set", "tile_px=64", "--set", "slide_mpp=0.25")
    run("scan", bare.parents[1], "--out", manifest, *settings)
    small = ("--backbone", "resnet10", "--set", "backbone.width=8", "--image-size", 32)
    run("pretrain", manifest, "--out", out, *small, "--set", "run.steps=2", "--batch-size", 16)
    (folder / "secret1.svs").unlink()
    run("report", out)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Tiles of the slides" in page
    assert page.count("40 tiles of 64 px at 0.5 um") == 2
    assert "1 slide of the first 4 cannot be read now." in page
    assert page.count("as the file says") == 2
    assert page.count("assumed: the file says none") == 1
    assert page.count("left out: glass 40, ink 0, out of focus 0") == 2
    assert "secret" not in page
    run("report", out, "--set", "sources=1", "--out", tmp_path / "short.html")
    page = (tmp_path / "short.html").read_text(encoding="utf-8")
    assert "1 of 4 slides." in page
    assert page.count("as the file says") == 1


def stained(haematoxylin: float, eosin: float, side: int = 512) -> Pixels:
    """Return a section with so much of the dyes, in a texture around it."""
    noise = np.random.default_rng(0).uniform(0.8, 1.2, (side, side, 1))
    dyes = haematoxylin * np.array(HAEMATOXYLIN) + eosin * np.array(EOSIN)
    return (240 * np.exp(-noise * dyes) - 1).round().astype(np.uint8)


def test_amounts_of_the_dyes_are_those_that_stained() -> None:
    for amounts in ((0.6, 0.3), (1.5, 0.1), (0.2, 0.9)):
        found = dye_amounts(stained(*amounts))
        assert found.shape == (2, 512 * 512)
        np.testing.assert_allclose(found.mean(axis=1), amounts, atol=0.02)
    glass = np.full((8, 8, 3), 235, np.uint8)
    assert dye_amounts(glass).shape == (2, 0)


@pytest.mark.parametrize("seed", range(60))
def test_a_damaged_slide_is_read_or_has_a_reason_of_its_own(tmp_path: Path, seed: int) -> None:
    data = bytearray(slide_bytes())
    rng = np.random.default_rng(seed)
    tags = data.find(b"Aperio") - 300  # where the first page is described
    for place in (*rng.integers(0, len(data), 3), *rng.integers(tags, tags + 300, 2)):
        data[place] = rng.integers(0, 256)
    (tmp_path / "a.svs").write_bytes(data)
    wishes = USUAL_TILES._replace(cut=Cut(64, 0.5))
    outcome = read_file(tmp_path, Found("a.svs", "stamp"), SiteKey(b"k"), wishes)
    assert outcome.aside is None or outcome.aside.reason != Reason.READER_BUG, outcome.aside


@lru_cache
def slide_bytes() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = write_slide(Path(folder) / "a.svs", specimen(256, 256), compression="jpeg")
        return path.read_bytes()


def test_a_slide_smaller_than_a_tile_has_none(tmp_path: Path) -> None:
    write_slide(tmp_path / "a.svs", specimen(128, 128))
    outcome = read_file(tmp_path, Found("a.svs", "stamp"), SiteKey(b"k"))
    assert outcome.aside is not None
    assert outcome.aside.reason == Reason.NO_TILES
    assert outcome.aside.detail.endswith("smaller than a tile of 256 px at 0.5 um")


def test_a_forked_process_opens_slides_of_its_own(tmp_path: Path) -> None:
    """Else it would share the place in the file with its parent, and read what that looks for."""
    path, member = write_slide(tmp_path / "a.svs", specimen()), Cut(64, 0.5).member
    with open_tiles(path, member) as mine, open_tiles(path, member) as again:
        assert mine is again
        with ProcessPoolExecutor(1, get_context("fork")) as pool:
            theirs = pool.submit(_address_of_slide, path, member).result()
        assert theirs != id(mine)


def _address_of_slide(path: Path, member: str) -> int:
    with open_tiles(path, member) as slide:
        return id(slide)


@pytest.mark.parametrize(
    "value", [b"what", (1, 0), (0, 1), (1, 2, 3), (20_000, (1, 2)), ("a", 1), (), -5, None]
)
def test_a_resolution_that_is_none_is_as_good_as_unknown(value: object) -> None:
    assert told_by_resolution(value, 3) is None


@pytest.mark.parametrize("unit", [(3, 3), b"cm", "cm", 3.5, None, 1, 7])
def test_a_unit_of_resolution_that_is_none_is_as_good_as_unknown(unit: object) -> None:
    assert told_by_resolution((20_000, 1), unit) is None
    assert told_by_resolution((20_000, 1), 3) == 0.5


def told_by_resolution(value: object, unit: object) -> float | None:
    tags = {
        "XResolution": SimpleNamespace(value=value),
        "ResolutionUnit": SimpleNamespace(value=unit),
    }
    page = SimpleNamespace(tags=tags, description=None)
    return microns_per_pixel(Path("a.tiff"), page, frozenset())


def test_slides_without_a_reader_say_the_way_out(tmp_path: Path) -> None:
    qpi = write_slide(tmp_path / "a.qptiff", specimen(), software="PerkinElmer-QPI")
    with pytest.raises(IngestError) as caught, open_slide(qpi, USUAL_TILES.cut):
        pass
    assert caught.value.reason == Reason.UNSUPPORTED
    assert "PerkinElmer QPTIFF" in caught.value.detail
    assert "convert it" in caught.value.detail


@pytest.mark.parametrize("folder", ["d", "d/a.zip"])
def test_the_picture_of_a_mirax_slide_is_no_image(tmp_path: Path, folder: str) -> None:
    """It may show the label; the slide itself is in files beside it."""
    picture = io.BytesIO()
    Image.fromarray(specimen(64, 64)).save(picture, "JPEG")
    (tmp_path / "d").mkdir()
    if folder.endswith("zip"):
        with zipfile.ZipFile(tmp_path / folder, "w") as archive:
            archive.writestr("a.MRXS", picture.getvalue())
    else:
        (tmp_path / folder / "a.MRXS").write_bytes(picture.getvalue())
    (tmp_path / "d" / "b.jpg").write_bytes(picture.getvalue())
    manifest = scanned(tmp_path / "d")
    assert manifest.rows["path"].to_list() == ["b.jpg"]
    rejected = pl.read_parquet(tmp_path / "rejected.parquet")
    in_archive = folder.endswith("zip")
    assert rejected["reason"].to_list() == ["unsupported" if in_archive else "vanished"]
    assert ("unpack it" if in_archive else "in the folder of its name") in rejected["detail"][0]
