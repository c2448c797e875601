"""Slides in TIFF: in which colours tiles are stored, and that none come out in others."""

import base64
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from medssl.errors import IngestError, Reason
from medssl.identity import SiteKey
from medssl.scanning.walk import Found
from medssl.scanning.worker import read_file
from medssl.sources.cut import Cut
from medssl.sources.open import open_image
from medssl.sources.slide import open_slide
from tests.medssl.test_slides import specimen

Pixels = NDArray[np.uint8]
SIDE = 64
APERIO = "Aperio Image Library v10.0.0\r\n128x128 (64x64) J2K/YUV16 Q=70|AppMag = 20|MPP = 0.5"
PHOTOMETRICS = {"rgb": 2, "ycbcr": 6, "grey": 1}
# Codestreams of 64 x 64 px by OpenJPEG, whose Y is 90 in even rows and 120 in odd ones, Cb 150 in
# the left half and 140 in the right one, and Cr 170; Cb and Cr are sampled as the name says.
SUBSAMPLED = {
    "4:2:2": (
        "c-s5#|38pHp8*6Mpcn>F`ONH$jO<Jx^goD!2PnYEz{<kH!1zCgLD<2;!y^D0{ZC;~WngqJN=+<DO;JdyRPZlI&GQ"
        "Oybyp}$Eh^5;&r>kcGu1QsKY@V@Y<LdPoXLluvvKs+14$;=`r}tXWW#}<j0~Le4Gjlslo*6R&5sAO8pLm`P?`>5D"
        "oF_k%Qr0ed8$E#A!hym`Zo`sUVu24le7MR{ec=~2D5pNkBj#={J#kR>rF*B"
    ),
    "4:2:0": (
        "c-s5#|38pHp8*6Mpcn>F`ONH$jO<KIK=eO|fd?qS$iT|N!oc`HhC$fD!NVf}8U0UTP-S3rE=o--Nlj5ms#NeVNX_"
        "#KaCKKGOD!tS%+FIW(lgaF`9Fby3v74_(45JKpR;lF)*pV(#B}@$3)B6E13wuW*cuuR)F?JEX2gRSN(|!H7uG{qN"
        ">ZHj8y5UL)gZzUv;Kemn}<&?K-|g6S^vKtsG`Aap5vqY4gYTf02oF?F8"
    ),
}


@pytest.fixture(autouse=True)
def site_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDSSL_KEY_FILE", str(tmp_path / "keys" / "site.key"))


def encoded(tile: Pixels) -> bytes:
    """Return a codestream of the components as they are, without a transform of colours."""
    options = {"codecformat": "J2K", "mct": False, "colorspace": "UNSPECIFIED"}
    code: bytes = imagecodecs.jpeg2k_encode(tile, level=0, reversible=True, **options)
    return code


def write_tiles(path: Path, tiles: list[bytes], compression: int, photometric: int) -> Path:
    """Write four tiles as Aperio's scanners do; what the tags say is set in the finished file."""
    common = {"photometric": "rgb", "compression": 33005, "tile": (SIDE, SIDE), "metadata": None}
    with tifffile.TiffWriter(path) as file:
        shape = (2 * SIDE, 2 * SIDE, 3)
        file.write(iter(tiles), shape=shape, dtype=np.uint8, description=APERIO, **common)
    with tifffile.TiffFile(path, mode="r+b") as file:
        tags = file.pages.first.tags
        tags["Compression"].overwrite(compression)
        tags["PhotometricInterpretation"].overwrite(photometric)
    return path


@pytest.mark.parametrize("photometric", PHOTOMETRICS)
def test_ycbcr_in_jpeg_2000_of_aperio_comes_out_in_rgb_whatever_the_tag_says(
    tmp_path: Path, photometric: str
) -> None:
    picture = specimen(SIDE, SIDE)
    code = encoded(np.asarray(Image.fromarray(picture).convert("YCbCr")))
    path = write_tiles(tmp_path / "a.svs", [code] * 4, 33003, PHOTOMETRICS[photometric])
    with open_slide(path, Cut(SIDE, 0.5)) as slide:
        tile = slide.tile(1, 1)
    assert np.abs(tile.astype(int) - picture).max() <= 2  # by rounding to YCbCr


@pytest.mark.parametrize("photometric", PHOTOMETRICS)
def test_rgb_in_jpeg_2000_of_aperio_stays_whatever_the_tag_says(
    tmp_path: Path, photometric: str
) -> None:
    picture = specimen(SIDE, SIDE)
    path = write_tiles(tmp_path / "a.svs", [encoded(picture)] * 4, 33005, PHOTOMETRICS[photometric])
    with open_slide(path, Cut(SIDE, 0.5)) as slide:
        np.testing.assert_array_equal(slide.tile(0, 1), picture)


@pytest.mark.parametrize("photometric", ["rgb", "ycbcr"])
@pytest.mark.parametrize("sampling", SUBSAMPLED)
def test_sampled_chroma_is_converted_once(tmp_path: Path, sampling: str, photometric: str) -> None:
    """The decoder of JPEG 2000 makes RGB of these itself."""
    code = zlib.decompress(base64.b85decode(SUBSAMPLED[sampling]))
    path = write_tiles(tmp_path / "a.svs", [code] * 4, 33003, PHOTOMETRICS[photometric])
    luma, blue, red = np.meshgrid([90, 120], [150, 140], [170], indexing="ij")
    rgb = [
        luma + 1.402 * (red - 128),
        luma - 0.344136 * (blue - 128) - 0.714136 * (red - 128),
        luma + 1.772 * (blue - 128),
    ]
    expected = np.stack(rgb, axis=-1)[:, :, 0]
    with open_slide(path, Cut(SIDE, 0.5)) as slide:
        tile = slide.tile(0, 0)
    halves = np.stack([tile[:, : SIDE // 2], tile[:, SIDE // 2 :]], axis=1)  # row, half, column
    for row in (0, 1):
        for half in (0, 1):
            part = halves[row::2, half].astype(float)
            assert np.abs(part - expected[row, half]).max() <= 1.5


def test_a_wrapper_that_names_colours_changes_nothing(tmp_path: Path) -> None:
    picture = specimen(SIDE, SIDE)
    values = np.asarray(Image.fromarray(picture).convert("YCbCr"))
    options = {"codecformat": "JP2", "mct": False, "colorspace": "SYCC"}
    code = imagecodecs.jpeg2k_encode(values, level=0, reversible=True, **options)
    path = write_tiles(tmp_path / "a.svs", [code] * 4, 33003, 2)
    with open_slide(path, Cut(SIDE, 0.5)) as slide:
        assert np.abs(slide.tile(0, 0).astype(int) - picture).max() <= 2


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (b"no codestream", Reason.CORRUPT),
        (encoded(specimen(SIDE, SIDE))[:45], Reason.CORRUPT),
        (encoded(specimen(SIDE, SIDE))[:150], Reason.CORRUPT),
        (encoded(specimen(2 * SIDE, SIDE)), Reason.CORRUPT),
        (encoded(np.ascontiguousarray(specimen(SIDE, SIDE)[..., 0])), Reason.UNSUPPORTED),
    ],
)
def test_a_tile_that_is_no_colours_of_its_size_has_a_reason(
    tmp_path: Path, code: bytes, reason: Reason
) -> None:
    path = write_tiles(tmp_path / "a.svs", [code] * 4, 33003, 2)
    with pytest.raises(IngestError) as caught, open_slide(path, Cut(SIDE, 0.5)) as slide:
        slide.decode(0)
    assert caught.value.reason == reason


def write_pyramid(path: Path, picture: Pixels, told: int, **options: Any) -> Path:
    """Write two levels whose colours are those of another photometric interpretation."""
    usual = {"tile": (SIDE, SIDE), "metadata": None, "compression": "deflate"}
    resolution = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as file:
        file.write(picture, **usual, **resolution, **options)
        smaller = np.ascontiguousarray(picture[::2, ::2])
        file.write(smaller, subfiletype=1, **usual, **options)
    with tifffile.TiffFile(path, mode="r+b") as file:
        for page in file.pages:
            page.tags["PhotometricInterpretation"].overwrite(told)
    return path


@pytest.mark.parametrize(
    ("photometric", "channels", "words"),
    [
        (3, 1, "a palette"),
        (5, 4, "CMYK"),
        (6, 3, "YCbCr without JPEG"),
        (8, 3, "CIELab"),
        (9, 3, "CIELab"),
        (10, 3, "CIELab"),
        (1, 3, "without 8-bit colours"),
        (0, 3, "without 8-bit colours"),
        (32803, 3, "without 8-bit colours"),
    ],
)
def test_other_colours_are_refused_with_their_name(
    tmp_path: Path, photometric: int, channels: int, words: str
) -> None:
    picture = np.dstack([specimen(512, 512), np.full((512, 512), 255, np.uint8)])[..., :channels]
    options = {"photometric": "rgb"} if channels > 1 else {"photometric": "minisblack"}
    picture = np.ascontiguousarray(picture.squeeze())
    write_pyramid(tmp_path / "a.tiff", picture, photometric, **options)
    outcome = read_file(tmp_path, Found("a.tiff", "stamp"), SiteKey(b"k"))
    assert outcome.aside is not None
    assert outcome.aside.reason == Reason.UNSUPPORTED
    assert words in outcome.aside.detail


def test_a_picture_in_ycbcr_without_jpeg_is_refused_and_one_with_it_read(tmp_path: Path) -> None:
    picture = np.full((64, 64, 3), (200, 120, 180), np.uint8)
    plain, jpeg = tmp_path / "a.tiff", tmp_path / "b.tiff"
    tifffile.imwrite(plain, picture, photometric="ycbcr", subsampling=(1, 1), metadata=None)
    tifffile.imwrite(jpeg, picture, photometric="rgb", compression="jpeg", metadata=None)
    with pytest.raises(IngestError, match="YCbCr without JPEG"), open_image(plain, "tiff") as image:
        image.decode(0)
    with tifffile.TiffFile(jpeg) as file:
        assert file.pages.first.photometric == PHOTOMETRICS["ycbcr"]
    with open_image(jpeg, "tiff") as image:
        assert np.abs(image.decode(0).values.astype(int) - picture).max() <= 3
