"""PNG, JPEG, BMP and TIFF: full depth, palettes, transparency, orientation, pages, limits."""

import struct
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from medssl.errors import IngestError, Reason, UnsupportedImageError
from medssl.intensity import Window
from medssl.sources import reading
from medssl.sources.decoded import Decoded
from medssl.sources.open import open_image, read_display
from medssl.sources.raster import upright
from medssl.sources.sniff import sniff
from tests.medssl.make import colours, ramp, write_png


def decode(path: Path, frame: int = 0) -> Decoded:
    with open_image(path, sniff(path)) as reader:
        return reader.decode(frame)


def refusal(path: Path) -> IngestError:
    with pytest.raises(IngestError) as caught:
        decode(path)
    return caught.value


@pytest.mark.parametrize("kind", ["png", "bmp", "tiff"])
def test_grey_and_colour_keep_every_value(tmp_path: Path, kind: str) -> None:
    for values in (ramp(top=250, dtype="uint8"), colours()):
        Image.fromarray(values).save(tmp_path / "a", kind)
        found = decode(tmp_path / "a")
        assert np.array_equal(found.values, values)
        assert found.bits == 8


def test_jpeg_comes_close_and_cmyk_becomes_rgb(tmp_path: Path) -> None:
    image = Image.fromarray(colours(64, 64))
    for mode in ("RGB", "CMYK"):
        image.convert(mode).save(tmp_path / "a", "JPEG", quality=98)
        found = decode(tmp_path / "a").values
        assert np.abs(found.astype(int) - colours(64, 64)).mean() < 3


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_sixteen_bit_keeps_its_depth_in_grey_and_colour(tmp_path: Path, kind: str) -> None:
    grey = ramp(top=65535)
    for values in (grey, np.stack([grey, grey[::-1], grey // 2], axis=-1)):
        path = tmp_path / "a"
        if kind == "png":
            path.write_bytes(imagecodecs.png_encode(values))
        else:
            tifffile.imwrite(path, values, compression="zlib")
        found = decode(path)
        assert np.array_equal(found.values, values)
        assert found.bits == 16


@pytest.mark.parametrize("lossless", [True, False])
def test_deep_jpeg_files_are_read(tmp_path: Path, lossless: bool) -> None:
    data = imagecodecs.jpeg8_encode(
        ramp(64, 64), level=100, lossless=lossless, bitspersample=16 if lossless else 12
    )
    (tmp_path / "a").write_bytes(data)
    found = decode(tmp_path / "a")
    assert np.abs(found.values.astype(int) - ramp(64, 64)).max() <= (0 if lossless else 40)
    assert found.bits == (16 if lossless else 12)


def test_one_bit_is_zero_and_one(tmp_path: Path) -> None:
    bits = ramp(top=1, dtype="uint8")
    for kind in ("PNG", "BMP"):
        Image.fromarray(bits * 255).convert("1", dither=Image.Dither.NONE).save(
            tmp_path / "a", kind
        )
        found = decode(tmp_path / "a")
        assert found.bits == 1
        assert np.array_equal(found.values, bits)
    tifffile.imwrite(tmp_path / "a", bits.astype(bool), photometric="miniswhite")
    assert np.array_equal(decode(tmp_path / "a").values, bits)


def test_palettes_become_colours(tmp_path: Path) -> None:
    image = Image.fromarray(colours()).quantize(16)
    expected = np.asarray(image.convert("RGB"))
    for kind in ("PNG", "TIFF"):
        image.save(tmp_path / "a", kind)
        found = decode(tmp_path / "a")
        assert found.photometric == "PALETTE COLOR"
        shown = found.colours()
        shown = shown // 256 if shown.dtype == np.uint16 else shown
        assert np.array_equal(shown, expected)


def test_transparency_is_shown_on_black_and_opaque_alpha_dropped(tmp_path: Path) -> None:
    alpha = np.full((16, 24, 1), 255, np.uint8)
    opaque = np.concatenate([colours(), alpha], axis=-1)
    assert np.array_equal(decode(write_png(tmp_path / "a.png", opaque)).values, colours())
    opaque[:, :12, 3] = 0
    found = decode(write_png(tmp_path / "a.png", opaque)).values
    assert (found[:, :12] == 0).all()
    assert np.array_equal(found[:, 12:], colours()[:, 12:])


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_stains_side_by_side_are_not_taken_for_transparency_or_colour(
    tmp_path: Path, channels: int
) -> None:
    stains = np.full((16, 24, channels), 7, np.uint8)
    tifffile.imwrite(tmp_path / "a", stains, photometric="minisblack", planarconfig="contig")
    with pytest.raises(UnsupportedImageError, match="channels"):
        decode(tmp_path / "a")


def test_grey_with_transparency_is_read_where_the_tiff_says_so(tmp_path: Path) -> None:
    values = np.full((16, 24, 2), 255, np.uint8)
    values[..., 0] = 7
    values[:, :12, 1] = 0
    options = {"photometric": "minisblack", "planarconfig": "contig"}
    tifffile.imwrite(tmp_path / "a", values, extrasamples=["unassalpha"], **options)
    found = decode(tmp_path / "a").values
    assert np.array_equal(found, np.where(np.arange(24) < 12, 0, 7) * np.ones((16, 1), np.uint8))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_as_pillow_does(tmp_path: Path, orientation: int) -> None:
    image = Image.fromarray(colours())
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a", "PNG", exif=exif)
    with Image.open(tmp_path / "a") as saved:
        expected = np.asarray(ImageOps.exif_transpose(saved))
    assert np.array_equal(decode(tmp_path / "a").values, expected)
    tifffile.imwrite(
        tmp_path / "a", colours(), photometric="rgb", extratags=[(274, "H", 1, orientation, True)]
    )
    assert np.array_equal(decode(tmp_path / "a").values, upright(colours(), orientation))


@pytest.mark.parametrize("orientation", ["text", (6, 6), 99])
def test_an_orientation_that_is_none_leaves_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, orientation: object
) -> None:
    path = write_png(tmp_path / "a.png", colours())
    monkeypatch.setattr(Image.Image, "getexif", lambda _: {0x0112: orientation})
    np.testing.assert_array_equal(decode(path).values, colours())


def test_pages_of_a_tiff_are_frames_of_their_own_size(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a") as file:
        file.write(ramp(16, 24), photometric="minisblack")
        file.write(ramp(8, 12), photometric="minisblack", subfiletype=1)  # a smaller version
        file.write(ramp(20, 10), photometric="miniswhite")
    with open_image(tmp_path / "a", "tiff") as reader:
        assert reader.facts.frames == 2
        assert reader.decode(1).values.shape == (20, 10)
        assert reader.decode(1).photometric == "MONOCHROME1"
        assert reader.decode(0).photometric == "MONOCHROME2"


def test_planes_float_and_cmyk_tiff(tmp_path: Path) -> None:
    planes = np.moveaxis(colours(), -1, 0)
    tifffile.imwrite(tmp_path / "a", planes, photometric="rgb", planarconfig="separate")
    assert np.array_equal(decode(tmp_path / "a").values, colours())
    floats = np.linspace(-1, 1, 24, dtype=np.float32).reshape(4, 6)
    tifffile.imwrite(tmp_path / "a", floats)
    assert np.array_equal(decode(tmp_path / "a").values, floats)
    cmyk = np.zeros((4, 6, 4), np.uint8)
    tifffile.imwrite(tmp_path / "a", cmyk, photometric="separated")
    assert (decode(tmp_path / "a").values == 255).all()


def test_volumes_and_slides_in_tiff_are_unsupported(tmp_path: Path) -> None:
    volume = np.zeros((16, 16, 16), np.uint8)
    tifffile.imwrite(
        tmp_path / "a", volume, volumetric=True, tile=(16, 16, 16), photometric="minisblack"
    )
    assert refusal(tmp_path / "a").reason is Reason.UNSUPPORTED
    tifffile.imwrite(tmp_path / "a", colours(), description="Aperio Image Library v1")
    assert refusal(tmp_path / "a").reason is Reason.UNSUPPORTED


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF"])
def test_a_cut_file_is_truncated_or_corrupt_never_half_an_image(tmp_path: Path, kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a", kind)
    content = (tmp_path / "a").read_bytes()
    for keep in range(len(content) // 8, len(content) - 40, len(content) // 8):
        (tmp_path / "a").write_bytes(content[:keep])
        assert refusal(tmp_path / "a").reason in (Reason.TRUNCATED, Reason.CORRUPT)


def png_header(rows: int, columns: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", columns, rows, 1, 0, 0, 0, 0)
    data = zlib.compress(b"\0" * 100)
    chunks = b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in (body, b"IDAT" + data, b"IEND")
    )
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize("side", [10_001, 13_000, 60_000])
def test_bombs_are_refused_by_their_header(tmp_path: Path, side: int) -> None:
    (tmp_path / "a").write_bytes(png_header(side, side))
    assert refusal(tmp_path / "a").reason is Reason.TOO_LARGE
    blank: Any = np.zeros((16, 16), np.uint8)
    tifffile.imwrite(tmp_path / "a", blank, rowsperstrip=16)
    content = bytearray((tmp_path / "a").read_bytes())
    for tag in (256, 257):
        place = content.index(struct.pack("<HHI", tag, 4, 1))
        content[place : place + 12] = struct.pack("<HHII", tag, 4, 1, side)
    (tmp_path / "a").write_bytes(content)
    assert refusal(tmp_path / "a").reason is Reason.TOO_LARGE


def test_the_pixel_budget_holds_for_every_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PIXEL_BUDGET", 16 * 24 - 1)
    for kind in ("PNG", "JPEG", "BMP", "TIFF"):
        Image.fromarray(colours()).save(tmp_path / "a", kind)
        assert refusal(tmp_path / "a").reason is Reason.TOO_LARGE


def test_a_tag_that_is_no_number_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    for tag in (256, 258, 273, 279):  # width, bits, offset and length of the strip
        tifffile.imwrite(path, ramp(), photometric="minisblack")
        with tifffile.TiffFile(path, mode="r+b") as file:
            file.pages[0].tags[tag].overwrite("text", dtype="s")
        assert refusal(path).reason is Reason.CORRUPT


def test_missing_strips_are_not_filled_with_zeros(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a", ramp(64, 64), rowsperstrip=8)
    content = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(content[:-100])
    assert refusal(tmp_path / "a").reason is Reason.TRUNCATED


def test_read_display_gives_channels_first_from_zero_to_one(tmp_path: Path) -> None:
    path = write_png(tmp_path / "a.png", colours())
    shown = read_display(path, kind="png", member=None, frame=0, window=Window.AUTO)
    assert shown.shape == (3, 16, 24)
    assert shown.dtype == np.float32
    assert np.allclose(shown.transpose(1, 2, 0) * 255, colours(), atol=1e-3)
    with pytest.raises(IngestError, match="no reader"):
        read_display(path, kind="papyrus", member=None, frame=0, window=Window.AUTO)
