"""Vision transformers: MONAI's blocks, for images and volumes, with tokens that methods can use."""

from typing import Any, NamedTuple

import torch
from monai.networks.nets.vit import ViT
from torch import Tensor, nn

from medssl.backbone import Backbone
from sslcore.errors import ConfigError, ShapeError
from sslcore.methods.settings import Pooling
from sslcore.modules.positions import resize_positions, sincos_positions
from sslcore.modules.tokens import TokenEncoder, Tokens, count_patches, take_patches

_TOKENS_PER_SIDE = 6  # at least, where a patch size allows it
_FIRST_STD = 0.02  # of learnt tokens, as published


class ViTPlan(NamedTuple):
    """Size of a transformer."""

    width: int
    heads: int
    depth: int = 12


PLANS = {
    "vit_mini": ViTPlan(96, 3, 6),  # of no paper: for small images and few cores
    "vit_tiny": ViTPlan(192, 3),
    "vit_small": ViTPlan(384, 6),
    "vit_base": ViTPlan(768, 12),
}


class VisionTransformer(TokenEncoder, Backbone):
    """A transformer over patches, with a class token and registers if wanted.

    Positions begin as sines and cosines and are learnt; for views of another size than the usual
    they are resized.

    Source:
        Dosovitskiy et al., "An image is worth 16x16 words", ICLR 2021, arXiv:2010.11929, with
        MONAI's pre-norm blocks. The class token has no position code, which it would only add to
        itself. Registers: Darcet et al., "Vision transformers need registers", ICLR 2024,
        arXiv:2309.16588.
    """

    def __init__(
        self,
        plan: ViTPlan,
        *,
        channels: int,
        sides: tuple[int, ...],
        patch_size: tuple[int, ...],
        pooling: Pooling = "mean",
        registers: int = 0,
    ) -> None:
        """Draw the weights.

        Args:
            plan: Width, heads and depth.
            channels: Of a view.
            sides: Of a usual view, px, two or three; multiples of `patch_size`.
            patch_size: Sides of a patch, px.
            pooling: Whether the feature of a view is the mean of its patches or a class token;
                there is no class token otherwise.
            registers: Tokens without a place.
        """
        super().__init__(_monai_net(plan, channels, sides, patch_size), plan.width)
        self.channels = channels
        self.patch_size = patch_size
        self.pooling = pooling
        self.usual_grid = tuple(
            side // patch for side, patch in zip(sides, patch_size, strict=True)
        )
        codes = sincos_positions(self.usual_grid, plan.width)
        self.positions = nn.Parameter(codes)
        self.mask_token = nn.Parameter(_FIRST_STD * torch.randn(1, 1, plan.width))
        self.class_token = _free_tokens(1 if pooling == "class" else 0, plan.width)
        self.registers = _free_tokens(registers, plan.width)

    def grid(self, view: Tensor) -> tuple[int, ...]:
        """See `TokenEncoder.grid`."""
        return count_patches(view, self.patch_size, channels=self.channels)

    def tokens(
        self, view: Tensor, *, visible: Tensor | None = None, masked: Tensor | None = None
    ) -> Tokens:
        """See `TokenEncoder.tokens`."""
        grid = self.grid(view)
        patches = self.net.get_submodule("patch_embedding.patch_embeddings")(view)
        patches = self._with_mask(patches.flatten(2).transpose(1, 2), masked)
        patches = patches + self._positions_of(grid)
        if visible is not None:
            patches = take_patches(patches, visible)
        free = [token for token in (self.class_token, self.registers) if token is not None]
        x = torch.cat([*(token.expand(len(patches), -1, -1) for token in free), patches], dim=1)
        for block in self.net.get_submodule("blocks").children():
            x = block(x)
        x = self.net.get_submodule("norm")(x)
        first, count = x.shape[1] - patches.shape[1], patches.shape[1]
        before, patches = x.split([first, count], dim=1)
        if self.class_token is None:
            return Tokens(patches.mean(dim=1), patches, before)
        return Tokens(before[:, 0], patches, before[:, 1:], before[:, 0])

    def _with_mask(self, patches: Tensor, masked: Tensor | None) -> Tensor:
        if masked is None:  # processes that train together wait for the gradient of every weight
            return patches + 0 * self.mask_token
        if masked.shape != patches.shape[:2]:
            raise ShapeError(
                f"expected masked {tuple(patches.shape[:2])}, got {tuple(masked.shape)}"
            )
        return torch.where(masked[..., None], self.mask_token.to(patches.dtype), patches)

    def _positions_of(self, grid: tuple[int, ...]) -> Tensor:
        if grid == self.usual_grid:
            return self.positions
        resized: Tensor = resize_positions(self.positions, old=self.usual_grid, new=grid)
        return resized


def _monai_net(
    plan: ViTPlan, channels: int, sides: tuple[int, ...], patch_size: tuple[int, ...]
) -> nn.Module:
    net: nn.Module = ViT(
        channels,
        sides,
        patch_size,
        hidden_size=plan.width,
        mlp_dim=4 * plan.width,
        num_layers=plan.depth,
        num_heads=plan.heads,
        spatial_dims=len(sides),
    )
    embedding = net.get_submodule("patch_embedding")
    del embedding.position_embeddings  # those of `VisionTransformer` stand in for them
    for block in net.get_submodule("blocks").children():
        # MONAI's blocks hold a norm that only cross-attention would use
        block.add_module("norm_cross_attn", nn.Identity())
        attention: Any = block.get_submodule("attn")
        attention.use_flash_attention = True  # the same sums, in less memory
    return net


def _free_tokens(count: int, width: int) -> nn.Parameter | None:
    return nn.Parameter(_FIRST_STD * torch.randn(1, count, width)) if count else None


def choose_patch(image_size: int, *, small: bool) -> int:
    """Return the side of the patches of a square image, px.

    Args:
        image_size: Its side, px.
        small: Take patches of 4 to 8 px instead of 14 or 16.

    Raises:
        ConfigError: None divides `image_size`.
    """
    choices = (8, 7, 6, 5, 4) if small else (16, 14)
    fitting = [side for side in choices if image_size % side == 0]
    if not fitting:
        raise ConfigError(
            f"no patch of {', '.join(map(str, choices))} px divides image_size {image_size};"
            f" use {-(-image_size // choices[-1]) * choices[-1]}"
        )
    return next((side for side in fitting if image_size // side >= _TOKENS_PER_SIDE), fitting[-1])
