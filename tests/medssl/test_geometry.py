import math

import pytest
import torch
from torch import Tensor

from medssl.transforms.geometry import RandGeometry
from sslcore.random import SampleRandom


def images(batch: int = 6) -> Tensor:
    return torch.rand(batch, 3, 24, 24, generator=torch.Generator().manual_seed(1))


def keys(batch: int = 6) -> Tensor:
    return torch.arange(batch) * 7919 + 5


def geometry(size: int, **options: object) -> RandGeometry:
    whole: dict[str, object] = {"crop_scale": (1.0, 1.0), "aspect": (1.0, 1.0)}
    return RandGeometry(size, **{**whole, **options})  # type: ignore[arg-type]


def test_a_box_of_the_whole_image_keeps_its_values() -> None:
    batch = images()
    result = geometry(24).batch(batch, SampleRandom(keys()))
    torch.testing.assert_close(result, batch, atol=1e-5, rtol=1e-5)


def test_flips_swap_sides() -> None:
    batch, random = images(), SampleRandom(keys())
    sideways = geometry(24, horizontal_flip=1).batch(batch, random)
    torch.testing.assert_close(sideways, batch.flip(-1), atol=1e-5, rtol=1e-5)
    upside = geometry(24, vertical_flip=1).batch(batch, random)
    torch.testing.assert_close(upside, batch.flip(-2), atol=1e-5, rtol=1e-5)


def test_quarter_turns_reach_all_four_and_interpolate_nothing() -> None:
    batch = images(1).expand(32, -1, -1, -1)
    result = geometry(24, quarter_turns=True).batch(batch, SampleRandom(keys(32)))
    turned = torch.stack([torch.rot90(batch[0], quarter, (-2, -1)) for quarter in range(4)])
    distance = (result[:, None] - turned[None]).abs().amax(dim=(2, 3, 4))
    assert (distance.min(dim=1).values < 1e-4).all()
    assert set(distance.argmin(dim=1).tolist()) == {0, 1, 2, 3}


def test_rotation_turns_by_the_angle_it_drew() -> None:
    batch = torch.zeros(1, 1, 33, 33)
    batch[:, :, 16, 28] = 1  # 12 px right of the centre
    transform = geometry(33, rotation=90)
    params = transform.sample(SampleRandom(torch.tensor([3])))
    angle = math.atan2(params["affine"][0, 1, 0], params["affine"][0, 0, 0])
    row, column = divmod(int(transform.apply(batch, params).argmax()), 33)
    assert (column - 16, row - 16) == pytest.approx(
        (12 * math.cos(angle), -12 * math.sin(angle)), abs=1
    )


def test_boxes_cover_the_share_they_should_and_stay_inside() -> None:
    transform = RandGeometry(8, crop_scale=(0.2, 0.6))
    affine = transform.sample(SampleRandom(keys(500)))["affine"]
    share = torch.linalg.det(affine[:, :, :2]).abs()
    assert share.min() == pytest.approx(0.2, abs=0.02)
    assert share.max() == pytest.approx(0.6, abs=0.02)
    reach = affine[:, :, 2].abs() + affine[:, :, :2].abs().sum(dim=2)
    assert reach.max() <= 1 + 1e-5


def test_shrinking_averages_instead_of_skipping_pixels() -> None:
    y, x = torch.meshgrid(torch.arange(128), torch.arange(128), indexing="ij")
    checkers = ((x + y) % 2).float().expand(2, 1, -1, -1)
    result = geometry(16).batch(checkers, SampleRandom(keys(2)))
    torch.testing.assert_close(result, torch.full_like(result, 0.5))
    sampled_once = torch.nn.functional.grid_sample(
        checkers, torch.rand(2, 16, 16, 2) * 1.8 - 0.9, align_corners=False
    )
    assert sampled_once.std() > 0.1


def test_small_boxes_of_a_large_image_stay_sharp() -> None:
    x = torch.arange(64).expand(64, 64)
    stripes = ((x // 4) % 2).float().expand(4, 1, -1, -1)
    boxes = geometry(16, crop_scale=(0.06, 0.06)).batch(stripes, SampleRandom(keys(4)))
    assert boxes.std(dim=(1, 2, 3)).min() > 0.35
