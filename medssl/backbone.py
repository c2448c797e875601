"""What every encoder of medical images is."""

from torch import Tensor, nn


class Backbone(nn.Module):
    """A network that maps `[batch, channels, *sides]` to `[batch, feature_dim]`.

    Attributes:
        feature_dim: Columns of the output.
    """

    def __init__(self, net: nn.Module, feature_dim: int) -> None:
        """Wrap `net`, whose output has `feature_dim` values per image."""
        super().__init__()
        self.net = net
        self.feature_dim = feature_dim

    def forward(self, view: Tensor) -> Tensor:
        """Return the pooled features."""
        features: Tensor = self.net(view)
        return features.flatten(1)


def with_head_layer(backbone: Backbone, layer: nn.Sequential) -> Backbone:
    """Let the first layer of a head follow a network, as SimCLR v2 leaves it; weights are shared.

    Args:
        backbone: The network.
        layer: See `sslcore.modules.heads.first_layer`.
    """
    linear = layer[0]
    if not isinstance(linear, nn.Linear):
        raise TypeError(f"expected a layer that begins with a Linear, got {type(linear).__name__}")
    return Backbone(nn.Sequential(backbone, layer), linear.out_features)


def without_head_layer(backbone: Backbone) -> nn.Module:
    """Undo `with_head_layer`: return the network alone; weights are shared."""
    if not isinstance(backbone.net, nn.Sequential):
        raise TypeError(f"expected what with_head_layer made, got {type(backbone.net).__name__}")
    return backbone.net[0]
