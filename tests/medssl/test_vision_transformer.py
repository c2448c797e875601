"""The vision transformer: what methods ask of its tokens, in two and three dimensions."""

import pytest
import torch
from torch import Tensor, nn

from medssl.vision_transformer import VisionTransformer, ViTPlan, choose_patch
from sslcore.errors import ConfigError, ShapeError
from sslcore.methods.settings import Pooling

PLAN = ViTPlan(width=24, heads=2, depth=2)
FLAT, SOLID = ((16, 24), (4, 8)), ((8, 8, 12), (4, 4, 4))
both = pytest.mark.parametrize(("sides", "patch_size"), [FLAT, SOLID])


def build(
    sides: tuple[int, ...] = FLAT[0],
    patch_size: tuple[int, ...] = FLAT[1],
    pooling: Pooling = "mean",
    registers: int = 0,
) -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(
        PLAN,
        channels=2,
        sides=sides,
        patch_size=patch_size,
        pooling=pooling,
        registers=registers,
    )


def views(*sides: int) -> Tensor:
    return torch.randn(3, 2, *sides, generator=torch.Generator().manual_seed(0))


@both
@pytest.mark.parametrize("pooling", ["mean", "class"])
@pytest.mark.parametrize("registers", [0, 4])
def test_tokens_have_the_shapes_that_are_promised(
    sides: tuple[int, ...], patch_size: tuple[int, ...], pooling: Pooling, registers: int
) -> None:
    encoder = build(sides, patch_size, pooling, registers)
    grid = encoder.grid(views(*sides))
    assert grid == tuple(side // patch for side, patch in zip(sides, patch_size, strict=True))
    tokens = encoder.tokens(views(*sides))
    assert tokens.pooled.shape == (3, 24)
    assert tokens.patches.shape == (3, torch.Size(grid).numel(), 24)
    assert tokens.registers.shape == (3, registers, 24)
    assert torch.equal(encoder(views(*sides)), tokens.pooled)
    assert torch.equal(tokens.patches.mean(dim=1), tokens.pooled) == (pooling == "mean")


@both
def test_every_weight_takes_part_in_every_kind_of_step(
    sides: tuple[int, ...], patch_size: tuple[int, ...]
) -> None:
    view = views(*sides)
    encoder = build(sides, patch_size, "class", 2)
    count = encoder.tokens(view).patches.shape[1]
    masked = torch.arange(3 * count).reshape(3, count) % 2 == 0
    visible = torch.arange(count // 2).expand(3, -1)
    for kind in ({}, {"masked": masked}, {"visible": visible}):
        encoder.zero_grad()
        tokens = encoder.tokens(view, **kind)
        (tokens.pooled.square().sum() + tokens.patches.square().sum()).backward()
        assert [key for key, value in encoder.named_parameters() if value.grad is None] == []


def test_masked_patches_are_not_seen() -> None:
    encoder, view = build(), views(16, 24).requires_grad_()
    masked = torch.zeros(3, 12, dtype=torch.bool)
    masked[:, :3] = True  # the first row of patches, 4 px high
    encoder.tokens(view, masked=masked).patches.square().sum().backward()
    assert view.grad is not None
    assert not view.grad[:, :, :4].any()
    assert view.grad[:, :, 4:].any()


def test_visible_patches_keep_their_places() -> None:
    encoder, view = build(registers=1), views(16, 24)
    everything = torch.arange(12).expand(3, -1)
    whole = encoder.tokens(view)
    torch.testing.assert_close(encoder.tokens(view, visible=everything), whole)
    turned = encoder.tokens(view, visible=everything.flip(1))
    torch.testing.assert_close(turned.patches.flip(1), whole.patches)
    assert encoder.tokens(view, visible=everything[:, :5]).patches.shape == (3, 5, 24)


def test_what_is_not_visible_does_not_matter() -> None:
    encoder, view = build(), views(16, 24)
    lower = torch.arange(3, 12).expand(3, -1)
    changed = view.clone()
    changed[:, :, :4] += 1
    assert torch.equal(
        encoder.tokens(changed, visible=lower).pooled, encoder.tokens(view, visible=lower).pooled
    )


@pytest.mark.parametrize("sides", [(8, 16), (32, 24), (16, 8)])
def test_views_of_other_sizes_are_taken(sides: tuple[int, int]) -> None:
    encoder = build()
    tokens = encoder.tokens(views(*sides))
    assert tokens.patches.shape[1] == sides[0] * sides[1] // 32
    tokens.pooled.sum().backward()
    assert encoder.positions.grad is not None


def test_positions_matter() -> None:
    encoder, view = build(), views(16, 24)
    upside_down = view.reshape(3, 2, 4, 4, 24).flip(2).reshape(3, 2, 16, 24)  # rows of patches
    assert not torch.allclose(encoder(view), encoder(upside_down), atol=1e-3)
    nn.init.zeros_(encoder.positions)
    torch.testing.assert_close(encoder(view), encoder(upside_down))


def test_fused_attention_gives_the_same_numbers() -> None:
    encoder, view = build(), views(16, 24)
    fused = encoder(view)
    for block in encoder.net.get_submodule("blocks").children():
        attention = block.get_submodule("attn")
        assert attention.use_flash_attention
        attention.use_flash_attention = False  # type: ignore[assignment]
    torch.testing.assert_close(encoder(view), fused)


@pytest.mark.parametrize("shape", [(3, 2, 16, 20), (3, 1, 16, 24), (3, 2, 16, 24, 8)])
def test_views_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="multiples of 4 x 8 px"):
        build()(torch.zeros(shape))


def test_masks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"expected masked \(3, 12\), got \(3, 11\)"):
        build().tokens(views(16, 24), masked=torch.zeros(3, 11, dtype=torch.bool))


@pytest.mark.parametrize(
    ("image_size", "small", "expected"),
    [(28, True, 4), (48, True, 8), (64, True, 8), (35, True, 5), (16, True, 4), (224, False, 16)],
)
def test_patches_are_as_large_as_leaves_enough_of_them(
    image_size: int, small: bool, expected: int
) -> None:
    assert choose_patch(image_size, small=small) == expected


def test_a_size_no_patch_divides_is_refused_with_a_way_out() -> None:
    with pytest.raises(ConfigError, match="divides image_size 225; use 238"):
        choose_patch(225, small=False)
