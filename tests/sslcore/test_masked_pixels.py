"""Masked pixels: loops, another code, invariances, both ends, errors, precision."""

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sslcore.errors import ShapeError
from sslcore.objectives.masked_pixels import masked_pixel_loss, normalise_patches, patchify
from tests.reference.masked_pixels import (
    masked_loss_by_hand,
    normalise_by_hand,
    patchify_by_hand,
)
from tests.reference.waves import degenerate, wave

seeds = st.integers(0, 2**31)
both = pytest.mark.parametrize("distance", ["squared", "absolute"])
PLACES = [((4, 6), (2, 3)), ((3, 3), (1, 1)), ((2, 4, 6), (2, 2, 3)), ((4, 2, 2), (2, 1, 2))]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def drawn_mask(*shape: int, seed: int = 0) -> Tensor:
    return drawn(*shape, seed=seed) > 0


@pytest.mark.parametrize(("sides", "patch_size"), PLACES)
@pytest.mark.parametrize("channels", [1, 3])
def test_patches_are_cut_as_written_out(
    sides: tuple[int, ...], patch_size: tuple[int, ...], channels: int
) -> None:
    images = drawn(2, channels, *sides)
    assert patchify(images, patch_size).tolist() == patchify_by_hand(images.tolist(), patch_size)


def test_a_patch_holds_its_own_pixels_with_channels_side_by_side() -> None:
    images = torch.arange(2 * 4 * 4).reshape(1, 2, 4, 4)
    patches = patchify(images, (2, 2))
    assert patches[0, 1].tolist() == [2, 18, 3, 19, 6, 22, 7, 23]
    assert patches[0, 2].tolist() == [8, 24, 9, 25, 12, 28, 13, 29]


@pytest.mark.parametrize(
    ("shape", "patch_size"), [((1, 1, 5, 4), (2, 2)), ((1, 1, 4, 4), (2, 2, 2)), ((4, 4), (2, 2))]
)
def test_images_that_cannot_be_cut_are_refused(
    shape: tuple[int, ...], patch_size: tuple[int, ...]
) -> None:
    with pytest.raises(ShapeError, match=r"multiples of \(2, 2.*got"):
        patchify(torch.zeros(shape), patch_size)


@given(seeds)
def test_normalising_matches_the_formula_written_out(seed: int) -> None:
    patches = 3 * drawn(2, 3, 5, seed=seed) + 1
    expected = torch.tensor(normalise_by_hand(patches.tolist()), dtype=torch.float64)
    torch.testing.assert_close(normalise_patches(patches), expected)


def test_normalised_patches_do_not_tell_brightness_and_contrast() -> None:
    patches = drawn(2, 3, 16)
    changed = normalise_patches(5 * patches - 2, eps=0.0)
    torch.testing.assert_close(changed, normalise_patches(patches, eps=0.0))
    torch.testing.assert_close(changed.var(dim=2), torch.ones(2, 3, dtype=torch.float64))


def test_a_flat_patch_becomes_zero() -> None:
    assert not normalise_patches(torch.full((1, 2, 64), -1.37)).any()


@pytest.mark.parametrize("shape", [(2, 3, 1), (2, 3)])
def test_patches_without_a_variance_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="values > 1"):
        normalise_patches(torch.zeros(shape))


@both
@given(seed=seeds)
def test_loss_matches_the_formula_written_out(distance, seed: int) -> None:
    prediction, target = drawn(3, 5, 4, seed=seed), drawn(3, 5, 4, seed=seed + 1)
    hidden = drawn_mask(3, 5, seed=seed + 2)
    expected = masked_loss_by_hand(prediction.tolist(), target.tolist(), hidden.tolist(), distance)
    actual = masked_pixel_loss(prediction, target, hidden=hidden, distance=distance)
    assert actual.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def waves() -> tuple[Tensor, Tensor, Tensor]:
    images, prediction = wave(12, 32, 0.0).reshape(2, 3, 8, 8), wave(32, 12, 0.3)
    hidden = torch.arange(32).reshape(2, 16) * 7 % 5 != 0
    return images, prediction.reshape(2, 16, 12), hidden


def test_matches_another_code_of_mae() -> None:
    # ViTMAEForPreTraining.forward_loss of transformers 4.57.1, float64, on `waves`.
    images, prediction, hidden = waves()
    patches = patchify(images, (2, 2))
    plain = masked_pixel_loss(prediction, patches, hidden=hidden)
    assert plain.item() == pytest.approx(0.9803948117962491, rel=1e-12)
    normalised = masked_pixel_loss(prediction, normalise_patches(patches), hidden=hidden)
    assert normalised.item() == pytest.approx(1.4190224766768398, rel=1e-12)


def test_matches_the_loss_of_simmim_as_published() -> None:
    # On pixels instead of patches, with 1e-5 beside the number of masked pixels.
    images, prediction, hidden = waves()
    size = (2, 4, 4)
    mask = hidden.reshape(size).repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)[:, None]
    painted = prediction.reshape(2, 4, 4, 2, 2, 3).permute(0, 5, 1, 3, 2, 4).reshape(2, 3, 8, 8)
    theirs = ((painted - images).abs() * mask).sum() / (mask.sum() + 1e-5) / 3
    target = patchify(images, (2, 2))
    ours = masked_pixel_loss(prediction, target, hidden=hidden, distance="absolute")
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)


@both
def test_does_not_depend_on_the_order_of_samples_patches_or_values(distance) -> None:
    prediction, target, hidden = drawn(4, 6, 5), drawn(4, 6, 5, seed=1), drawn_mask(4, 6)
    expected = masked_pixel_loss(prediction, target, hidden=hidden, distance=distance)
    rows, places, values = torch.randperm(4), torch.randperm(6), torch.randperm(5)
    for change in (
        lambda x: x[rows],
        lambda x: x[:, places],
        lambda x: x[..., values] if x.ndim == 3 else x,
    ):
        changed = masked_pixel_loss(
            change(prediction), change(target), hidden=change(hidden), distance=distance
        )
        torch.testing.assert_close(changed, expected)


@both
def test_visible_patches_do_not_count_and_get_no_gradient(distance) -> None:
    prediction, target, hidden = drawn(2, 4, 3), drawn(2, 4, 3, seed=1), drawn_mask(2, 4)
    loss = masked_pixel_loss(prediction, target, hidden=hidden, distance=distance)
    changed = torch.where(hidden[..., None], prediction, 100.0).requires_grad_()
    other = masked_pixel_loss(changed, target, hidden=hidden, distance=distance)
    torch.testing.assert_close(other, loss)
    other.backward()
    assert changed.grad is not None
    assert not changed.grad[~hidden].any()
    assert changed.grad[hidden].abs().min() > 0


@both
def test_ends_are_the_right_picture_and_a_grey_one(distance) -> None:
    target = normalise_patches(drawn(8, 16, 64))
    hidden = drawn_mask(8, 16)
    perfect = masked_pixel_loss(target, target, hidden=hidden, distance=distance)
    grey = masked_pixel_loss(torch.zeros_like(target), target, hidden=hidden, distance=distance)
    assert perfect == 0
    # Of a normal variable the mean square is 1, the mean absolute value the root of 2 / pi.
    assert grey.item() == pytest.approx(1.0 if distance == "squared" else 0.798, abs=0.03)


def test_nothing_hidden_is_no_loss() -> None:
    nothing = torch.zeros(2, 4, dtype=torch.bool)
    prediction = torch.ones(2, 4, 3, requires_grad=True)
    loss = masked_pixel_loss(prediction, torch.zeros(2, 4, 3), hidden=nothing)
    loss.backward()
    assert loss == 0
    assert prediction.grad is not None
    assert not prediction.grad.any()


@both
def test_gradient_is_right(distance) -> None:
    prediction = drawn(2, 4, 3).requires_grad_()
    target, hidden = drawn(2, 4, 3, seed=1), drawn_mask(2, 4)
    loss = partial(masked_pixel_loss, hidden=hidden, distance=distance)
    assert torch.autograd.gradcheck(loss, (prediction, target))
    assert torch.autograd.gradcheck(normalise_patches, (prediction,))


@both
def test_autocast_does_not_lower_the_precision(distance) -> None:
    prediction, target = drawn(8, 16, 12).float(), drawn(8, 16, 12, seed=1).float()
    hidden = drawn_mask(8, 16)
    loss = partial(masked_pixel_loss, hidden=hidden, distance=distance)
    expected = loss(prediction, target)
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(prediction, target) == expected
        assert loss(prediction.bfloat16(), target).dtype == torch.float32
        assert normalise_patches(target.bfloat16()).dtype == torch.float32


@both
def test_stays_finite_at_the_edge(distance) -> None:
    hidden = torch.tensor([[True, False, True], [True, True, False]])
    for name, pair in degenerate().items():
        prediction, target = (value.reshape(2, 3, 4).clone().requires_grad_() for value in pair)
        loss = masked_pixel_loss(
            prediction, normalise_patches(target), hidden=hidden, distance=distance
        )
        loss.backward()
        assert loss.isfinite(), name
        for value in (prediction, target):
            assert value.grad is not None, name
            assert value.grad.isfinite().all(), name


@pytest.mark.parametrize(
    ("prediction", "target", "hidden"),
    [
        ((2, 3, 4), (2, 3, 5), (2, 3)),
        ((2, 3, 4), (2, 3, 4), (2, 4)),
        ((3, 4), (3, 4), (3,)),
    ],
)
def test_refuses_shapes_that_do_not_fit(
    prediction: tuple[int, ...], target: tuple[int, ...], hidden: tuple[int, ...]
) -> None:
    with pytest.raises(ShapeError, match=r"one shape and \[batch, count\] hidden, got"):
        masked_pixel_loss(
            torch.zeros(prediction),
            torch.zeros(target),
            hidden=torch.zeros(hidden, dtype=torch.bool),
        )
