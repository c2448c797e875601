"""A transformer in miniature."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sslcore.modules.positions import sincos_positions
from sslcore.modules.tokens import TokenEncoder, Tokens, count_patches, take_patches
from sslcore.objectives.masked_pixels import patchify


class ToyTokenEncoder(TokenEncoder):
    """Patches of any number of dimensions, and one layer in which they see each other."""

    def __init__(
        self, dim: int = 16, *, channels: int = 1, patch_size: tuple[int, ...] = (2, 2)
    ) -> None:
        super().__init__()
        self.feature_dim = dim
        self.channels = channels
        self.patch_size = patch_size
        self.embed = nn.Linear(channels * math.prod(patch_size), dim)
        self.mask_token = nn.Parameter(0.02 * torch.randn(dim))
        self.mix = nn.Linear(dim, dim)

    def grid(self, view: Any) -> tuple[int, ...]:
        return count_patches(view, self.patch_size, channels=self.channels)

    def tokens(
        self, view: Any, *, visible: Tensor | None = None, masked: Tensor | None = None
    ) -> Tokens:
        x = self.embed(patchify(view, self.patch_size))
        hidden = torch.zeros(x.shape[:2], dtype=torch.bool) if masked is None else masked
        x = torch.where(hidden[..., None], self.mask_token.to(x.dtype), x)
        x = x + sincos_positions(self.grid(view), self.feature_dim).to(x)
        if visible is not None:
            x = take_patches(x, visible)
        x = x + F.gelu(self.mix(x + x.mean(dim=1, keepdim=True)))
        return Tokens(x.mean(dim=1), x, x[:, :0])
