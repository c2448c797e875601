"""How networks of Hugging Face's `transformers` serve as encoders; none is imported here."""

from typing import Any

import torch
from torch import Tensor, nn

from medssl.backbone import Backbone
from sslcore.errors import ShapeError
from sslcore.methods.settings import Pooling
from sslcore.modules.tokens import TokenEncoder, Tokens, count_patches, take_patches


class HubTransformer(TokenEncoder, Backbone):
    """A plain vision transformer of `transformers`; it always has a class token."""

    def __init__(self, net: nn.Module, *, channels: int, pooling: Pooling) -> None:
        """Wrap a model.

        Args:
            net: Of `transformers`, with a mask token.
            channels: Of the views; one channel is repeated for a network that takes three.
            pooling: Whether the feature is the mean of the patches or the class token.
        """
        config: Any = net.config
        super().__init__(net, config.hidden_size)
        self.channels = channels
        self.patch_size = (config.patch_size, config.patch_size)
        self.pooling = pooling

    def grid(self, view: Tensor) -> tuple[int, ...]:
        """See `TokenEncoder.grid`."""
        return count_patches(view, self.patch_size, channels=self.channels)

    def tokens(
        self, view: Tensor, *, visible: Tensor | None = None, masked: Tensor | None = None
    ) -> Tokens:
        """See `TokenEncoder.tokens`."""
        self.grid(view)
        net: Any = self.net
        pixels = view.expand(-1, net.config.num_channels, -1, -1)
        first = 1 + getattr(net.config, "num_register_tokens", 0)
        x = self._embed(pixels, masked)
        if visible is not None:
            x = torch.cat([x[:, :first], take_patches(x[:, first:], visible)], dim=1)
        x = self._encode(x, pixels, visible)
        patches = x[:, first:]
        pooled = patches.mean(dim=1) if self.pooling == "mean" else x[:, 0]
        return Tokens(pooled, patches, x[:, 1:first], x[:, 0])

    def _embed(self, pixels: Tensor, masked: Tensor | None) -> Tensor:
        net: Any = self.net
        sizes = {"interpolate_pos_encoding": True} if net.config.model_type == "vit" else {}
        x: Tensor = net.embeddings(pixels, bool_masked_pos=masked, **sizes)
        if masked is None:  # processes that train together wait for the gradient of every weight
            x = x + 0 * net.embeddings.mask_token
        return x

    def _encode(self, x: Tensor, pixels: Tensor, visible: Tensor | None) -> Tensor:
        net: Any = self.net
        encoded: Tensor = net.layernorm(net.encoder(x).last_hidden_state)
        return encoded


class HubRotaryTransformer(HubTransformer):
    """DINOv3's transformer, which turns queries and keys by the place of their patch."""

    def _encode(self, x: Tensor, pixels: Tensor, visible: Tensor | None) -> Tensor:
        net: Any = self.net
        angles = net.rope_embeddings(pixels)  # cosines and sines, [count, head_dim]
        if visible is not None:
            angles = tuple(each[visible][:, None] for each in angles)  # one axis for the heads
        for layer in net.layer:
            x = layer(x, position_embeddings=angles)
        encoded: Tensor = net.norm(x)
        return encoded


class HubHierarchy(Backbone):
    """A network of `transformers` that shrinks the image step by step: ConvNeXt, Swin."""

    def forward(self, view: Tensor) -> Tensor:
        """Return the pooled features.

        Raises:
            ShapeError: A view too small for all the halvings of a ConvNeXt.
        """
        net: Any = self.net
        if net.config.model_type != "swin":
            features: Tensor = self._run(view).pooler_output
            return features
        pooled: Tensor = net.layernorm(self._run(view).last_hidden_state).mean(dim=1)
        return pooled

    def maps(self, view: Tensor) -> list[Tensor]:
        """Return the results of all stages, `[batch, channels, rows, columns]`, the finest first.

        Raises:
            ShapeError: See `forward`.
        """
        net: Any = self.net
        found = self._run(view, output_hidden_states=True)
        is_swin = net.config.model_type == "swin"
        return list(found.reshaped_hidden_states if is_swin else found.hidden_states)

    def _run(self, view: Tensor, **wishes: bool) -> Any:
        net: Any = self.net
        pixels = view.expand(-1, net.config.num_channels, -1, -1)
        if net.config.model_type == "swin":
            # The model itself would change its windows for good when it meets a smaller view.
            x, sides = net.embeddings(pixels, interpolate_pos_encoding=True)
            return net.encoder(x, sides, always_partition=True, **wishes)
        least = net.config.patch_size * 2 ** (len(net.config.depths) - 1)
        if min(view.shape[2:]) < least:
            raise ShapeError(
                f"expected views of {least} px or more, got {tuple(view.shape)}; take larger"
                " views, or random weights with backbone.stem=small"
            )
        return net(pixels, **wishes)
