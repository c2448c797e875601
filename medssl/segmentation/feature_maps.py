"""What an encoder knows of each place in an image: its maps, from coarse to fine."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from medssl.backbone import Backbone, without_head_layer
from medssl.hub_networks import HubHierarchy
from sslcore.modules.tokens import TokenEncoder
from sslcore.training.health import evaluating

_DEPTH = 2  # of the parts of a network whose results are looked at


class FeatureMaps(nn.Module):
    """A backbone that gives the last map of every size instead of their mean.

    Attributes:
        backbone: The network; its weights are shared.
    """

    def __init__(self, backbone: Backbone) -> None:
        """Look into `backbone`; a head layer that follows it has no maps, and is left out."""
        super().__init__()
        self.backbone = backbone
        self._seen: list[Tensor] = []
        inner = backbone
        if isinstance(backbone.net, nn.Sequential) and isinstance(backbone.net[0], Backbone):
            within = without_head_layer(backbone)
            inner = within if isinstance(within, Backbone) else backbone
        self._maps: Callable[[Tensor], list[Tensor]]
        if isinstance(inner, TokenEncoder):
            self._maps = _of_tokens(inner)
        elif isinstance(inner, HubHierarchy):
            self._maps = inner.maps
        else:
            self._maps = self._of_network(inner)

    def forward(self, view: Tensor) -> list[Tensor]:
        """Return maps `[batch, channels, *sides]`, each larger than the one before.

        Args:
            view: `[batch, channels, *sides]`, of equal sides.
        """
        largest = view.shape[2]
        last: dict[int, Tensor] = {}
        for found in self._maps(view):
            sides = set(found.shape[2:])
            if found.ndim == view.ndim and len(sides) == 1 and 1 < max(sides) <= largest:
                last[max(sides)] = found
        return [last[side] for side in sorted(last)]

    def _of_network(self, network: Backbone) -> Callable[[Tensor], list[Tensor]]:
        """Listen to the parts of a convolutional network."""

        def listen(_part: nn.Module, _inputs: Any, result: Any) -> None:
            if isinstance(result, Tensor):
                self._seen.append(result)

        for name, part in network.net.named_modules():
            if name and name.count(".") < _DEPTH:
                part.register_forward_hook(listen)

        def maps(view: Tensor) -> list[Tensor]:
            self._seen = []
            network(view)
            seen, self._seen = self._seen, []
            return seen

        return maps


def _of_tokens(network: TokenEncoder) -> Callable[[Tensor], list[Tensor]]:
    def maps(view: Tensor) -> list[Tensor]:
        patches = network.tokens(view).patches.transpose(1, 2)
        return [patches.reshape(*patches.shape[:2], *network.grid(view))]

    return maps


@torch.no_grad()
def map_shapes(maps: FeatureMaps, channels: int, sides: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return channels and side of each map of a view."""
    weight = next(maps.parameters())
    with evaluating(maps):
        found = maps(torch.zeros(1, channels, *sides, device=weight.device))
    return [(each.shape[1], each.shape[2]) for each in found]
