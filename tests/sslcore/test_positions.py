import math

import pytest
import torch

from sslcore.modules.positions import resize_positions, sincos_positions


def test_codes_are_sines_and_cosines_of_each_axis() -> None:
    codes = sincos_positions((2, 3), 16)
    assert codes.shape == (6, 16)
    rates = [10_000 ** (-k / 4) for k in range(4)]
    for place, code in enumerate(codes.tolist()):
        row, column = divmod(place, 3)
        angles = [[axis * rate for rate in rates] for axis in (row, column)]
        by_hand = [f(a) for axis in angles for f in (math.sin, math.cos) for a in axis]
        assert code == pytest.approx(by_hand, abs=1e-6)


@pytest.mark.parametrize("grid", [(4, 5), (3, 4, 2), (7,)])
def test_every_patch_has_its_own_code(grid: tuple[int, ...]) -> None:
    codes = sincos_positions(grid, 20)
    assert codes.shape == (math.prod(grid), 20)
    assert len(codes.unique(dim=0)) == math.prod(grid)


def test_columns_that_cannot_be_shared_out_are_zero() -> None:
    codes = sincos_positions((2, 2, 2), 14)
    assert codes[:, :12].any()
    assert not codes[:, 12:].any()


def test_codes_of_the_same_grid_stay_as_they_are() -> None:
    positions = torch.randn(6, 4)
    assert torch.equal(resize_positions(positions, old=(2, 3), new=(2, 3)), positions)


@pytest.mark.parametrize("new", [(4, 4), (12, 10), (3, 8)])
def test_resizing_keeps_what_is_the_same_everywhere_and_the_order_of_places(
    new: tuple[int, int],
) -> None:
    old = (8, 8)
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    positions = torch.stack([torch.ones(64), rows.flatten(), columns.flatten()], dim=1)
    resized = resize_positions(positions, old=old, new=new).reshape(*new, 3)
    torch.testing.assert_close(resized[..., 0], torch.ones(new))
    assert (resized[..., 1].diff(dim=0) > 0).all()
    assert (resized[..., 2].diff(dim=1) > 0).all()
    torch.testing.assert_close(resized[..., 1], resized[:, :1, 1].expand(new))


def test_two_axes_are_resized_as_torch_resizes_images() -> None:
    positions = torch.randn(30, 3, dtype=torch.float64)
    image = positions.reshape(1, 5, 6, 3).permute(0, 3, 1, 2)
    theirs = torch.nn.functional.interpolate(image, (3, 9), mode="bicubic", antialias=True)
    ours = resize_positions(positions, old=(5, 6), new=(3, 9))
    torch.testing.assert_close(ours, theirs.permute(0, 2, 3, 1).reshape(27, 3))


def test_volumes_are_resized_axis_by_axis_and_gradients_flow() -> None:
    positions = torch.randn(24, 5, dtype=torch.float64, requires_grad=True)
    resized = resize_positions(positions, old=(2, 3, 4), new=(3, 3, 2))
    assert resized.shape == (18, 5)
    resized.square().sum().backward()
    assert positions.grad is not None
    assert positions.grad.abs().min() > 0


def test_autocast_does_not_lower_the_precision() -> None:
    positions = torch.randn(16, 8)
    expected = resize_positions(positions, old=(4, 4), new=(3, 3))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(resize_positions(positions, old=(4, 4), new=(3, 3)), expected)
