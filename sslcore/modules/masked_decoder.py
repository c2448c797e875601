"""The decoder of MAE: from the visible patches to the content of all."""

import torch
from torch import Tensor, nn

from sslcore.errors import ShapeError
from sslcore.modules.positions import sincos_positions


class MaskedDecoder(nn.Module):
    """A light transformer over visible patches and, in place of the others, one learnt token.

    The pooled feature goes before them, as the paper's class token does.

    Source:
        He et al., "Masked autoencoders are scalable vision learners", CVPR 2022,
        arXiv:2111.06377, section 3. Positions are fixed sine and cosine codes, of two or three
        axes.
    """

    def __init__(
        self, feature_dim: int, *, width: int, depth: int, heads: int, patch_values: int
    ) -> None:
        """Draw the weights.

        Args:
            feature_dim: Width of the encoder's tokens.
            width: Of the decoder's.
            depth: Blocks.
            heads: Of each block's attention; they divide `width`.
            patch_values: Numbers in a patch, all channels together.

        Raises:
            ShapeError: `heads` does not divide `width`.
        """
        super().__init__()
        if width % heads:
            raise ShapeError(f"expected heads that divide the width {width}, got {heads}")
        self.embed = nn.Linear(feature_dim, width)
        self.hidden_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.blocks = nn.Sequential(*(_block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.content = nn.Linear(width, patch_values)

    def forward(
        self, pooled: Tensor, patches: Tensor, visible: Tensor, grid: tuple[int, ...]
    ) -> Tensor:
        """Return the content of every patch, `[batch, count, patch_values]`.

        Args:
            pooled: `[batch, feature_dim]`.
            patches: The visible ones, `[batch, seen, feature_dim]`.
            visible: Their numbers, `[batch, seen]`, int64.
            grid: Patches along each side of the view.
        """
        first, seen = self.embed(pooled)[:, None], self.embed(patches)
        codes = sincos_positions(grid, seen.shape[2]).to(seen.device)
        everywhere = self.hidden_token.to(seen.dtype).expand(len(seen), len(codes), -1)
        places = visible[..., None].expand_as(seen)
        x = torch.cat([first, everywhere.scatter(1, places, seen) + codes], dim=1)
        content: Tensor = self.content(self.norm(self.blocks(x)[:, 1:]))
        return content


def _block(width: int, heads: int) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(
        width,
        heads,
        dim_feedforward=4 * width,
        dropout=0.0,
        activation="gelu",
        batch_first=True,
        norm_first=True,
    )
