"""Text in pixels: drawn text is found, pictures without it pass, and both reach the manifest."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageDraw, ImageFont
from pydicom import uid

from medssl.identity import SiteKey
from medssl.scanning.walk import Found
from medssl.scanning.worker import read_file
from medssl.sources.decoded import Decoded, Values
from medssl.sources.text_pixels import shows_text
from tests.medssl.make import write_dicom, write_png

NAME = "DOE^JANE 1951-03-12"
SIDE = 256


def picture(seed: int = 0) -> Values:
    """Return a bright round body with speckle on black, 8 bit."""
    rng = np.random.default_rng(seed)
    across = np.hypot(*np.indices((SIDE, SIDE)) - SIDE / 2)
    body = np.clip(1.4 - across / 70, 0, 1) * (110 + 90 * rng.random((SIDE, SIDE)))
    return np.asarray(body + 6 * rng.random((SIDE, SIDE)), np.uint8)


def write_on(
    values: Values, text: str = NAME, *, size: int = 12, ink: int = 255, place: Any = (4, 4)
) -> Values:
    image = Image.fromarray(values)
    ImageDraw.Draw(image).text(place, text, fill=ink, font=ImageFont.load_default(size))
    return np.asarray(image)


def is_seen(values: Values, **changes: Any) -> bool:
    about = {"photometric": "MONOCHROME2", "bits": values.dtype.itemsize * 8, **changes}
    return shows_text(Decoded(values, **about))


@pytest.mark.parametrize("size", [8, 10, 14, 20])
@pytest.mark.parametrize("ink", [255, 170])
@pytest.mark.parametrize("place", [(4, 4), (30, 228)])
def test_names_in_the_borders_are_seen(size: int, ink: int, place: tuple[int, int]) -> None:
    assert not is_seen(picture())
    assert is_seen(write_on(picture(), size=size, ink=ink, place=place))


def test_dark_text_inverted_text_and_text_of_other_depths_are_seen() -> None:
    page = 255 - picture()
    assert is_seen(write_on(page, ink=0))
    assert not is_seen(page)
    named = write_on(picture())
    assert is_seen(named.astype(np.uint16) * 16, bits=12)
    assert is_seen(named.astype(np.float32) / 255 - 3)
    assert is_seen((named > 128).astype(np.uint8), bits=1)
    red = np.stack([named, named // 8, named // 8], axis=-1)
    assert is_seen(red, photometric="RGB")


def test_large_images_are_looked_at_in_small() -> None:
    large = np.kron(write_on(picture(), size=14), np.ones((12, 12), np.uint8))
    assert is_seen(large)
    assert not is_seen(np.kron(picture(), np.ones((12, 12), np.uint8)))


def test_short_marks_rulers_grids_and_noise_are_no_text() -> None:
    assert not is_seen(write_on(picture(), "R", size=24))
    assert not is_seen(write_on(picture(), "L 4", size=16))
    ruler = picture()
    ruler[10:18, 20:200:12] = 255
    ruler[10:18, 21:200:12] = 255
    assert not is_seen(ruler)
    assert not is_seen(np.asarray(np.indices((64, 64)).sum(0) // 8 % 2 * 255, np.uint8))
    rng = np.random.default_rng(0)
    assert not is_seen(rng.integers(0, 255, (200, 200), dtype=np.uint8))
    assert not is_seen(rng.integers(0, 65535, (200, 200, 3)).astype(np.uint16), photometric="RGB")


@settings(max_examples=50, deadline=None)
@given(
    arrays.arrays(
        st.sampled_from([np.uint8, np.int16, np.uint32, np.float32, np.float64]),
        arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=20),
    )
)
def test_any_pixels_have_an_answer(values: Values) -> None:
    assert is_seen(values) is False


def burned_in(folder: Path, name: str) -> list[str | None]:
    outcome = read_file(folder, Found(name, "stamp"), SiteKey(b"k"))
    return [row["burned_in"] for row in outcome.rows]


def test_the_scan_flags_pictures_of_likely_kinds(tmp_path: Path) -> None:
    named, plain = write_on(picture()), picture()
    write_png(tmp_path / "a.png", named)
    write_png(tmp_path / "b.png", plain)
    deep = named.astype(np.uint16) * 16
    write_dicom(tmp_path / "dx", deep, Modality="DX")
    write_dicom(tmp_path / "says_no", named, Modality="US", BurnedInAnnotation="NO")
    write_dicom(tmp_path / "us", plain, Modality="US")
    write_dicom(tmp_path / "ct", deep, Modality="CT")
    write_dicom(tmp_path / "ct_screen", named, Modality="CT")
    found = {path.name: burned_in(tmp_path, path.name) for path in tmp_path.iterdir()}
    assert found == {
        "a.png": ["pixels"],
        "b.png": [None],
        "dx": ["pixels"],
        "says_no": ["pixels"],
        "us": ["ultrasound"],
        "ct": [None],  # as the device measured it
        "ct_screen": ["pixels"],
    }


def test_text_in_one_frame_is_suspected_in_all(tmp_path: Path) -> None:
    frames = np.stack([picture(0), write_on(picture(1)), picture(2)])
    write_dicom(tmp_path / "a", frames, Modality="XA")
    assert burned_in(tmp_path, "a") == ["pixels"] * 3


@pytest.mark.slow
@pytest.mark.parametrize("syntax", [uid.JPEGBaseline8Bit, uid.JPEG2000])
def test_text_is_seen_through_compression_with_loss(tmp_path: Path, syntax: uid.UID) -> None:
    write_dicom(tmp_path / "a", write_on(picture()), syntax, Modality="XA")
    assert burned_in(tmp_path, "a") == ["pixels"]
