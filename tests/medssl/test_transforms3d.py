"""Transforms of volumes: beside those of scipy, and with the promises of all transforms."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from medssl.transforms.base import BatchedTransform, Chain
from medssl.transforms.bias_field import RandBiasField
from medssl.transforms.blur import RandGaussianBlur, RandSharpness
from medssl.transforms.geometry3d import RandGeometry3d
from medssl.transforms.intensity import RandBrightnessContrast, RandGamma
from medssl.transforms.noise import RandGaussianNoise
from medssl.transforms.resampling import resample
from sslcore.random import SampleRandom

TRANSFORMS: dict[str, BatchedTransform] = {
    "geometry": RandGeometry3d(10, flips=(0.5, 0.5, 0.5), rotation=30),
    "geometry, shrinking": RandGeometry3d(5, rotation=10),
    "brightness and contrast": RandBrightnessContrast(),
    "gamma": RandGamma(prob=0.5),
    "blur": RandGaussianBlur(high=1.5),
    "sharpness": RandSharpness(prob=0.5),
    "noise": RandGaussianNoise(prob=0.5),
    "bias field": RandBiasField(dims=3),
}
TRANSFORMS["chain"] = Chain(*TRANSFORMS.values())

every_transform = pytest.mark.parametrize("name", TRANSFORMS)
WHOLE = torch.eye(3, 4)[None]


def volumes(batch: int = 4, channels: int = 1, side: int = 12) -> Tensor:
    shape = (batch, channels, side, side, side)
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def keys(batch: int = 4) -> Tensor:
    return torch.arange(batch) * 7919 + 5


@every_transform
def test_a_row_does_not_depend_on_the_other_rows(name: str) -> None:
    transform, batch = TRANSFORMS[name], volumes()
    together = transform.batch(batch, SampleRandom(keys()))
    for row, key in enumerate(keys()):
        alone = transform.batch(batch[row : row + 1], SampleRandom(key[None]))
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=1e-5)


@every_transform
def test_values_stay_finite_and_between_0_and_1(name: str) -> None:
    changed = TRANSFORMS[name].batch(volumes(), SampleRandom(keys()))
    assert bool(torch.isfinite(changed).all())
    assert float(changed.min()) >= -1e-6
    assert float(changed.max()) <= 1 + 1e-6


@every_transform
def test_it_changes_something_and_leaves_its_input_alone(name: str) -> None:
    batch = volumes()
    before = batch.clone()
    changed = TRANSFORMS[name].batch(batch, SampleRandom(keys()))
    torch.testing.assert_close(batch, before, atol=0, rtol=0)
    assert changed.shape != batch.shape or not torch.equal(changed, batch)


def test_blur_is_a_gaussian_along_all_three_sides() -> None:
    transform = RandGaussianBlur(low=0.5, high=1.2, prob=1.0)
    sigma = torch.tensor([0.5, 0.8, 1.2, 0.0])
    blurred = transform.apply(volumes(), {"sigma": sigma})
    for volume, result, width in zip(volumes(), blurred, sigma.tolist(), strict=True):
        expected = volume[0].numpy()
        if width:
            radius = transform.radius
            expected = ndimage.gaussian_filter(expected, width, mode="nearest", radius=radius)
        np.testing.assert_allclose(result[0].numpy(), expected, atol=1e-5)


def test_sharpness_moves_away_from_the_binomial_average_of_27_voxels() -> None:
    amount = torch.tensor([1.0, -0.5, 0.0, 0.3])
    changed = RandSharpness().apply(volumes(), {"amount": amount})
    one = np.array([1, 2, 1]) / 4
    weights = one[:, None, None] * one[:, None] * one
    for volume, result, much in zip(volumes(), changed, amount.tolist(), strict=True):
        values = volume[0].numpy()
        average = ndimage.convolve(values, weights, mode="nearest")
        expected = np.clip(values + much * (values - average), 0, 1)
        np.testing.assert_allclose(result[0].numpy(), expected, atol=1e-5)


def test_the_bias_field_is_a_cubic_polynomial_of_three_places() -> None:
    transform = RandBiasField(dims=3, prob=1.0)
    params = transform.sample(SampleRandom(keys()))
    assert params["coefficients"].shape == (4, 19)
    flat = torch.full((4, 1, 9, 9, 9), 1e-3)
    field = (transform.apply(flat, params) / 1e-3).log().double()
    inner = field[:, 0]
    for axis in (1, 2, 3):  # fourth differences of a cubic are nothing
        fourth = inner
        for _ in range(4):
            fourth = fourth.diff(dim=axis)
        assert float(fourth.abs().max()) < 1e-4


def test_the_whole_volume_keeps_its_values_also_turned_round() -> None:
    batch = volumes()
    torch.testing.assert_close(resample(batch, WHOLE.expand(4, 3, 4), 12), batch)
    for axis, column in ((4, 0), (3, 1), (2, 2)):  # columns are the first of the map
        flip = WHOLE.clone()
        flip[:, column, column] = -1
        torch.testing.assert_close(resample(batch, flip.expand(4, 3, 4), 12), batch.flip(axis))


def test_a_map_samples_where_it_says() -> None:
    """Beside scipy's trilinear interpolation; only voxels that lie inside are compared."""
    transform = RandGeometry3d(10, crop_scale=(0.2, 0.4), flips=(0.5, 0.5, 0.5), rotation=25)
    affine = transform.sample(SampleRandom(keys()))["affine"]
    result = transform.apply(volumes(), {"affine": affine})
    steps = (2 * np.arange(10) + 1) / 10 - 1
    z, y, x = np.meshgrid(steps, steps, steps, indexing="ij")
    for volume, found, matrix in zip(volumes(), result, affine.double().numpy(), strict=True):
        places = np.einsum("ij,jabc->iabc", matrix, np.stack([x, y, z, np.ones_like(x)]))
        pixels = ((places[::-1] + 1) * 12 - 1) / 2  # slices first
        expected = ndimage.map_coordinates(volume[0].numpy(), pixels, order=1, mode="mirror")
        inside = ((pixels >= 0) & (pixels <= 11)).all(axis=0)
        assert inside.mean() > 0.9
        np.testing.assert_allclose(found[0].numpy()[inside], expected[inside], atol=1e-4)


def test_boxes_cover_the_share_that_was_asked_for_and_lie_inside() -> None:
    transform = RandGeometry3d(8, crop_scale=(0.2, 0.3), rotation=0)
    affine = transform.sample(SampleRandom(torch.arange(500)))["affine"]
    share = torch.linalg.det(affine[:, :, :3].double()).abs()
    assert float(share.min()) >= 0.2 - 1e-6
    assert float(share.max()) <= 0.3 + 1e-6
    reach = affine[:, :, :3].abs().sum(dim=2) + affine[:, :, 3].abs()
    assert float(reach.max()) <= 1 + 1e-5


def test_rotations_are_rotations_up_to_the_angle_that_was_asked_for() -> None:
    transform = RandGeometry3d(8, crop_scale=(1.0, 1.0), aspect=(1.0, 1.0), rotation=20)
    turned = transform.sample(SampleRandom(torch.arange(500)))["affine"][:, :, :3].double()
    identity = torch.eye(3, dtype=torch.float64).expand(500, 3, 3)
    torch.testing.assert_close(turned @ turned.transpose(1, 2), identity, atol=1e-5, rtol=0)
    trace = turned.diagonal(dim1=1, dim2=2).sum(dim=1)
    angles = torch.rad2deg(torch.arccos(((trace - 1) / 2).clamp(-1, 1)))
    assert 15 < float(angles.max()) <= 20.1
