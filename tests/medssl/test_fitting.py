"""A canvas and back."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from medssl.loading.fitting import Fitting

sides = st.integers(1, 40)


@given(sides, sides, st.integers(4, 40), st.integers(0, 2**32 - 1))
def test_labels_lie_where_their_pixels_do(rows: int, columns: int, canvas: int, seed: int) -> None:
    """Of an image of two values that is enlarged by a whole number, all pixels tell the label."""
    fitting = Fitting.of_image(rows, columns, canvas * max(rows, columns))
    codes = torch.from_numpy(np.random.default_rng(seed).integers(0, 2, (rows, columns)))
    labels = fitting.labels(codes.to(torch.uint8))
    pixels = fitting.pixels(codes[None].float())[0].float() / 65535
    sure = (pixels < 0.01) | (pixels > 0.99)
    assert torch.equal(labels[sure], (pixels[sure] > 0.5).to(torch.uint8))
    assert set(labels.unique().tolist()) <= set(codes.unique().tolist())


@pytest.mark.parametrize("shape", [(17, 29), (40, 8), (30, 30), (12, 20, 16)])
@pytest.mark.parametrize("wanted_mm", [None, 1.4])
def test_maps_come_back_to_the_pixels_they_are_from(
    shape: tuple[int, ...], wanted_mm: float | None
) -> None:
    places = np.stack(np.indices(shape)).astype(np.float32)
    smooth = torch.from_numpy(np.sin(places * 2 / np.max(shape)).sum(0))[None]
    low, high = smooth.min(), smooth.max()
    unit = (smooth - low) / (high - low)
    if len(shape) == 3:
        fitting = Fitting.of_volume(shape, (2.0, 1.0, 1.0), 32, wanted_mm)
    else:
        fitting = Fitting.of_image(*shape, 48)
    canvas = fitting.pixels(unit).float() / 65535
    found = fitting.back(canvas)
    kept = ~found.isnan()
    assert (found - unit)[kept].abs().max() < 0.06
    assert (found - unit)[kept].abs().mean() < 0.01
    smaller = F.interpolate(canvas[None], scale_factor=0.75, mode="nearest-exact")[0]
    assert fitting.back(smaller).shape == found.shape


def test_what_was_cut_off_comes_back_as_nan() -> None:
    fitting = Fitting.of_volume((40, 10, 10), (1.0, 1.0, 1.0), 20, 1.0)
    assert fitting.kept == ((10, 30), (0, 10), (0, 10))
    found = fitting.back(torch.ones(2, 20, 20, 20))
    assert found.shape == (2, 40, 10, 10)
    assert found[:, 10:30].isfinite().all()
    assert found[:, :10].isnan().all()
    assert found[:, 30:].isnan().all()


def test_the_border_of_a_mask_is_repeated_outwards_like_that_of_its_image() -> None:
    labels = Fitting.of_image(4, 8, 8).labels(torch.arange(32, dtype=torch.uint8).reshape(4, 8))
    assert torch.equal(labels[2:6], torch.arange(32, dtype=torch.uint8).reshape(4, 8))
    assert torch.equal(labels[:2], labels[2:3].expand(2, -1))
    assert torch.equal(labels[6:], labels[5:6].expand(2, -1))
