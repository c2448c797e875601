"""MAE and SimMIM: the contract of all methods on small images, and what is theirs alone."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from sslcore.errors import ConfigError, ShapeError
from sslcore.methods.mae import Mae, MaeConfig
from sslcore.methods.method import ViewMethod
from sslcore.methods.settings import MethodSection
from sslcore.methods.simmim import Simmim, SimmimConfig
from sslcore.modules.masked_decoder import MaskedDecoder
from sslcore.modules.random_masks import random_mask
from sslcore.objectives.masked_pixels import masked_pixel_loss, normalise_patches, patchify
from sslcore.random import SampleRandom, derive_keys
from sslcore.views import ViewBatch
from tests.sslcore.toy_token_encoder import ToyTokenEncoder

SMALL: dict[str, MethodSection] = {
    "mae": MaeConfig(decoder_dim=16, decoder_depth=1, decoder_heads=2),
    "simmim": SimmimConfig(),
}
each_method = pytest.mark.parametrize("name", list(SMALL))


def build(name: str, **options: object) -> ViewMethod:
    torch.manual_seed(0)
    return SMALL[name].build(ToyTokenEncoder(**options), 16)  # type: ignore[arg-type]


def batch(step: int = 0, count: int = 8) -> ViewBatch[Tensor]:
    """One pattern, more or less of it, so that what is hidden can be told from the rest."""
    generator = torch.Generator().manual_seed(step % 4)
    amounts = 2 * torch.randn(2, count, 1, generator=generator)
    pattern = 1 + 0.5 * torch.sin(0.9 * torch.arange(64.0))
    views = (amounts * pattern).reshape(2, count, 1, 8, 8)
    return ViewBatch(tuple(views), keys=derive_keys(torch.arange(count), step))


def train(method: ViewMethod, optimizer: torch.optim.Optimizer, steps: range) -> Iterator[float]:
    for step in steps:
        output = method(batch(step))
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        method.after_step((step + 1) / 40)
        yield output.loss.item()


def adamw(method: nn.Module) -> torch.optim.AdamW:
    return torch.optim.AdamW(method.parameters(), lr=5e-3)


@each_method
def test_forward_changes_nothing_and_draws_only_from_the_keys(name: str) -> None:
    method, images = build(name), batch()
    state, chance = copy.deepcopy(method.state_dict()), torch.get_rng_state()
    first = method(images).loss
    assert method(images).loss == first
    assert torch.equal(torch.get_rng_state(), chance)
    assert all(torch.equal(value, state[key]) for key, value in method.state_dict().items())
    assert method(replace(images, keys=derive_keys(torch.arange(8), 1))).loss != first


@each_method
def test_training_is_deterministic_and_lowers_the_loss(name: str) -> None:
    method, again = build(name), build(name)
    first, second = (list(train(each, adamw(each), range(40))) for each in (method, again))
    assert first == second
    assert sum(first[-5:]) < 0.9 * sum(first[:5])


@each_method
def test_state_dict_is_enough_to_resume(name: str) -> None:
    method, other = build(name), build(name)
    opt, other_opt = adamw(method), adamw(other)
    list(train(method, opt, range(5)))
    other.load_state_dict(copy.deepcopy(method.state_dict()))
    other_opt.load_state_dict(copy.deepcopy(opt.state_dict()))
    later = range(5, 10)
    assert list(train(method, opt, later)) == list(train(other, other_opt, later))


@each_method
def test_nothing_is_stored_twice(name: str) -> None:
    pointers = [value.data_ptr() for value in build(name).state_dict().values()]
    assert len(pointers) == len(set(pointers))


@each_method
def test_every_parameter_gets_a_gradient(name: str) -> None:
    method = build(name)
    method(batch()).loss.backward()
    assert [key for key, value in method.named_parameters() if value.grad is None] == []


@each_method
def test_the_log_is_a_detached_spread(name: str) -> None:
    (spread,) = build(name)(batch()).logs.values()
    assert spread.ndim == 0
    assert not spread.requires_grad
    assert 0 < spread < 1


@each_method
def test_the_projection_is_the_embedding(name: str) -> None:
    encoder = ToyTokenEncoder()
    method = SMALL[name].build(encoder, 16)
    assert method.encoder is encoder
    view = batch().views[0]
    assert torch.equal(method.student(view), encoder(view))


@each_method
def test_an_encoder_without_patches_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} needs a transformer"):
        SMALL[name].build(nn.Linear(8, 16), 16)


@each_method
def test_batches_that_lack_something_are_refused(name: str) -> None:
    method, images = build(name), batch()
    with pytest.raises(ShapeError, match="two views of each sample, got 1"):
        method(replace(images, views=images.views[:1]))
    with pytest.raises(ShapeError, match="keys of a batch; this one has none"):
        method(replace(images, keys=None))
    with pytest.raises(ShapeError, match="cannot keep segments apart"):
        method(replace(images, segments=(4, 4)))
    with pytest.raises(ShapeError, match="multiples of 2 x 2 px"):
        method(replace(images, views=(images.views[0], torch.zeros(8, 1, 7, 8))))


@each_method
def test_every_view_counts_the_same_whatever_its_size(name: str) -> None:
    method, images = build(name), batch()
    crop = torch.randn(8, 1, 4, 6, generator=torch.Generator().manual_seed(0))
    views = (*images.views, crop)
    random = SampleRandom(images.keys)  # type: ignore[arg-type]
    losses = [method._reconstruct(view, random)[0] for view in views]  # type: ignore[operator]
    torch.testing.assert_close(
        method(replace(images, views=views)).loss, torch.stack(losses).mean()
    )


@each_method
def test_a_batch_is_the_mean_of_its_halves(name: str) -> None:
    # So each of several processes may take its own part.
    method, images = build(name), batch()
    halves = [
        ViewBatch(tuple(view[part] for view in images.views), keys=images.keys[part])  # type: ignore[index]
        for part in (slice(0, 4), slice(4, 8))
    ]
    torch.testing.assert_close(
        torch.stack([method(half).loss for half in halves]).mean(), method(images).loss
    )


@each_method
def test_bfloat16_autocast_gives_a_finite_loss_in_full_precision(name: str) -> None:
    method = build(name)
    with torch.autocast("cpu", torch.bfloat16):
        loss = method(batch()).loss
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()


@each_method
def test_works_in_double_precision(name: str) -> None:
    method, images = build(name).double(), batch()
    output = method(replace(images, views=tuple(view.double() for view in images.views)))
    output.loss.backward()
    assert output.loss.dtype == torch.float64


@each_method
@pytest.mark.parametrize("value", [0.0, 1.0, 1e6])
def test_flat_images_give_a_finite_gradient(name: str, value: float) -> None:
    method = build(name)
    flat = torch.full((4, 1, 8, 8), value)
    loss = method(ViewBatch((flat, flat), keys=torch.arange(4))).loss
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.parameters())


@each_method
@pytest.mark.parametrize(
    ("channels", "sides", "patch_size"), [(3, (8, 4), (2, 2)), (1, (4, 4, 6), (2, 2, 3))]
)
def test_colour_and_volumes_work_too(
    name: str, channels: int, sides: tuple[int, ...], patch_size: tuple[int, ...]
) -> None:
    method = build(name, channels=channels, patch_size=patch_size)
    views = tuple(torch.randn(4, channels, *sides) for _ in range(2))
    loss = method(ViewBatch(views, keys=torch.arange(4))).loss
    loss.backward()
    assert loss.isfinite()


def test_mae_compares_hidden_patches_with_normalised_pixels() -> None:
    method, images = build("mae"), batch()
    assert isinstance(method, Mae)
    encoder = method.encoder
    assert isinstance(encoder, ToyTokenEncoder)
    random, losses = SampleRandom(images.keys), []  # type: ignore[arg-type]
    for view in images.views:
        mask = random_mask(random, (4, 4), share=0.75)
        assert mask.visible.shape == (8, 4)
        seen = encoder.tokens(view, visible=mask.visible)
        painted = method.decoder(seen.pooled, seen.patches, mask.visible, (4, 4))
        target = normalise_patches(patchify(view, (2, 2)))
        losses.append(masked_pixel_loss(painted, target, hidden=mask.hidden))
    torch.testing.assert_close(method(images).loss, torch.stack(losses).mean())


@each_method
def test_the_encoder_does_not_see_what_is_hidden(name: str) -> None:
    method, images = build(name), batch()
    share = 0.75 if name == "mae" else 0.6
    mask = random_mask(SampleRandom(images.keys), (4, 4), share=share)  # type: ignore[arg-type]
    pixels = mask.hidden.reshape(8, 1, 4, 4).repeat_interleave(2, 2).repeat_interleave(2, 3)
    view = images.views[0].clone().requires_grad_()
    predictions: list[Tensor] = []
    part = method.decoder if isinstance(method, Mae) else method.head
    assert isinstance(part, nn.Module)
    handle = part.register_forward_hook(lambda *given: predictions.append(given[2]))
    method(replace(images, views=(view, images.views[1])))
    handle.remove()
    predictions[0].square().sum().backward()
    assert view.grad is not None
    assert not view.grad[pixels].any()
    assert view.grad[~pixels].any()


def test_settings_reach_the_method() -> None:
    mae = MaeConfig(hidden_share=0.5, normalise=False, decoder_depth=3).build(ToyTokenEncoder(), 16)
    assert isinstance(mae, Mae)
    assert (mae.hidden_share, mae.normalise, len(mae.decoder.blocks)) == (0.5, False, 3)
    assert mae.decoder.content.out_features == 4
    simmim = SimmimConfig(hidden_share=0.5, block=2).build(ToyTokenEncoder(channels=3), 16)
    assert isinstance(simmim, Simmim)
    assert (simmim.hidden_share, simmim.block) == (0.5, 2)
    assert isinstance(simmim.head, nn.Linear)
    assert simmim.head.out_features == 12


def test_without_normalising_the_target_is_the_pixels_themselves() -> None:
    images = batch()
    brighter = replace(images, views=tuple(view + 5 for view in images.views))
    torch.manual_seed(0)
    plain = MaeConfig(normalise=False, decoder_dim=16, decoder_heads=2).build(ToyTokenEncoder(), 16)
    assert plain(brighter).loss > 4 + plain(images).loss


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="decoder_heads 3 do not divide decoder_dim 16"):
        MaeConfig(decoder_dim=16, decoder_heads=3)
    with pytest.raises(ShapeError, match="heads that divide the width 16, got 3"):
        MaskedDecoder(8, width=16, depth=1, heads=3, patch_values=4)


def test_the_decoder_puts_each_patch_into_its_place() -> None:
    torch.manual_seed(0)
    decoder = MaskedDecoder(8, width=16, depth=1, heads=2, patch_values=4).double()
    pooled, patches = torch.randn(2, 8).double(), torch.randn(2, 3, 8).double()
    visible = torch.tensor([[0, 2, 5], [1, 2, 3]])
    paint = partial(decoder, pooled, grid=(2, 3))
    painted = paint(patches, visible)
    assert painted.shape == (2, 6, 4)
    order = torch.tensor([2, 0, 1])  # patches with their numbers, in any order
    torch.testing.assert_close(paint(patches[:, order], visible[:, order]), painted)
    assert not torch.allclose(paint(patches, visible.flip(1)), painted)
    assert not torch.allclose(decoder(pooled + 1, patches, visible, (2, 3)), painted)
