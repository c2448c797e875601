"""Where a slide shows tissue, and where a pen: by their colours."""

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from medssl.sources.slide_tissue import look
from tests.medssl.test_slides import BLACK_INK, EOSIN, GLASS, GREEN_INK, HAEMATOXYLIN

PENS = {
    "black": BLACK_INK,
    "green": GREEN_INK,
    "blue": (40, 60, 200),
    "light blue": (100, 160, 230),
    "navy": (30, 40, 130),
    "violet": (110, 50, 180),
    "red": (210, 40, 40),
    "dark red": (140, 20, 30),
    "orange": (230, 130, 40),
    "yellow": (250, 220, 40),
}
# Densities of dyes at amount 1. The first two are those of Macenko et al., "A method for
# normalizing histology slides", ISBI 2009; the others of Ruifrok and Johnston, "Quantification of
# histochemical staining by color deconvolution", 2001.
DYES = {
    "haematoxylin": HAEMATOXYLIN,
    "eosin": EOSIN,
    "blue haematoxylin": (0.65, 0.70, 0.29),
    "pink eosin": (0.07, 0.99, 0.11),
    "DAB": (0.27, 0.57, 0.78),
}
BLOOD = (200, 70, 80)


def patch(colour: NDArray[np.float64] | tuple[int, ...]) -> NDArray[np.uint8]:
    """Return glass with a square of a colour, unevenly."""
    picture = np.full((48, 48, 3), GLASS, np.float64)
    noise = np.random.default_rng(0).normal(0, 2, (24, 24, 3))
    picture[12:36, 12:36] = np.asarray(colour) + noise
    return picture.clip(0, 255).round().astype(np.uint8)


@pytest.mark.parametrize("pen", PENS)
def test_a_pen_is_ink_and_no_tissue(pen: str) -> None:
    ink, tissue = look(patch(PENS[pen]))
    assert ink[12:36, 12:36].mean() > 0.95
    assert not tissue.any()


@pytest.mark.parametrize(("dye", "amount"), list(product(DYES, (0.6, 1.0, 1.7, 2.4))))
def test_a_dye_is_tissue_and_no_ink(dye: str, amount: float) -> None:
    ink, tissue = look(patch(240 * np.exp(-amount * np.array(DYES[dye]))))
    assert not ink.any()
    assert tissue[12:36, 12:36].mean() > 0.95


def test_mixed_dyes_and_blood_are_no_ink() -> None:
    for amounts in product((0.0, 0.4, 0.9), repeat=3):
        dyes = [DYES[name] for name in ("haematoxylin", "eosin", "DAB")]
        ink, _ = look(patch(240 * np.exp(-np.array(amounts) @ np.array(dyes))))
        assert not ink.any()
    assert not look(patch(BLOOD))[0].any()


def test_single_pure_pixels_are_no_pen() -> None:
    """Nuclei may be as pure, but no pen is as thin."""
    picture = patch((200, 130, 180))
    picture[14:34:4, 14:34:4] = PENS["blue"]
    assert not look(picture)[0].any()
