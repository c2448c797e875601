"""A transformer in miniature, and small images for it."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sslcore.errors import ShapeError
from sslcore.modules.tokens import TokenEncoder, Tokens


class ToyTokens(TokenEncoder):
    """Patches of images of any number of dimensions, and one layer in which they see each other."""

    def __init__(self, dim: int = 16, patch_size: tuple[int, ...] = (2, 2)) -> None:
        super().__init__()
        self.feature_dim = dim
        self.patch_size = patch_size
        self.embed = nn.Linear(math.prod(patch_size), dim)
        self.place = nn.Linear(len(patch_size), dim)
        nn.init.normal_(self.place.weight, std=3.0)
        self.mix = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.hidden = nn.Parameter(torch.zeros(dim))

    def grid(self, view: Any) -> tuple[int, ...]:
        sides = zip(view.shape[2:], self.patch_size, strict=True)
        if any(side % patch for side, patch in sides):
            raise ShapeError(f"{tuple(view.shape)} is no multiple of {self.patch_size}")
        return tuple(
            side // patch for side, patch in zip(view.shape[2:], self.patch_size, strict=True)
        )

    def tokens(
        self, view: Any, *, visible: Tensor | None = None, masked: Tensor | None = None
    ) -> Tokens:
        grid, dims = self.grid(view), len(self.patch_size)
        shape = [n for pair in zip(grid, self.patch_size, strict=True) for n in pair]
        cut = view[:, 0].reshape(len(view), *shape)
        order = [0, *range(1, 2 * dims, 2), *range(2, 2 * dims + 1, 2)]
        x = self.embed(cut.permute(order).reshape(len(view), math.prod(grid), -1))
        hidden = torch.zeros_like(x[..., 0], dtype=torch.bool) if masked is None else masked
        x = torch.where(hidden[..., None], self.hidden.to(x), x)
        axes = [torch.linspace(-1, 1, n, dtype=x.dtype, device=x.device) for n in grid]
        x = x * self.place(torch.cartesian_prod(*axes).reshape(-1, dims)).sin()
        if visible is not None:
            x = x.gather(1, visible[..., None].expand(-1, -1, x.shape[-1]))
        x = self.norm(x + F.gelu(self.mix(x + x.mean(dim=1, keepdim=True))))
        return Tokens(x.mean(dim=1), x, x[:, :0])


def as_image(rows: Tensor, side: int = 8) -> Tensor:
    """Make each column of `rows`, `[batch, dim]`, a row of an image `[batch, 1, dim, side]`."""
    return rows[:, None, :, None].expand(-1, 1, -1, side)
