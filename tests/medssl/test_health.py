import numpy as np
import pytest
import torch

from medssl.health import HealthImages


def images(values: np.ndarray) -> HealthImages:
    pixels = torch.from_numpy(values.astype(np.uint16) * 257)
    return HealthImages(pixels, torch.arange(len(values)), None)


def test_statistics_are_those_of_the_pixels() -> None:
    values = np.random.default_rng(0).integers(0, 256, (9, 3, 10, 10), dtype=np.uint8)
    mean, std = images(values).statistics()
    assert mean == pytest.approx(values.mean(axis=(0, 2, 3)) / 255)
    assert std == pytest.approx(values.std(axis=(0, 2, 3)) / 255, rel=1e-3)


def test_a_channel_without_contrast_can_be_divided_by() -> None:
    _, std = images(np.full((9, 1, 10, 10), 40, np.uint8)).statistics()
    assert std[0] == pytest.approx(1e-3)
