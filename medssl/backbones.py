"""Encoders by name: MONAI's 2-D networks without their classifier, with a stem for small images."""

from dataclasses import dataclass
from typing import Literal

from monai.networks.nets.densenet import DenseNet121
from monai.networks.nets.efficientnet import EfficientNetBN
from monai.networks.nets.resnet import ResNet
from monai.networks.nets.vit import ViT
from torch import Tensor, nn

from medssl.config import Stem
from sslcore.config import suggest
from sslcore.errors import ConfigError

_TOKENS_PER_SIDE = 6  # of a transformer, at least, where a patch size allows it
_DENSENET_LARGE_FROM = 32  # px; it halves the image five times

SMALL_STEM_UP_TO = 48  # px; up to here the first layers keep the size of the image
MEDIUM_STEM_UP_TO = 128  # px; up to here they halve it; above they quarter it, as published
_PUBLISHED_WIDTH = 64  # channels of a ResNet's first stage


@dataclass(frozen=True, slots=True)
class _ResNetPlan:
    block: Literal["basic", "bottleneck"]
    layers: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class _ViTPlan:
    width: int
    heads: int
    depth: int = 12


_RESNETS = {
    "resnet10": _ResNetPlan("basic", (1, 1, 1, 1)),
    "resnet18": _ResNetPlan("basic", (2, 2, 2, 2)),
    "resnet50": _ResNetPlan("bottleneck", (3, 4, 6, 3)),
}
_VITS = {"vit_tiny": _ViTPlan(192, 3), "vit_small": _ViTPlan(384, 6)}

KNOWN: tuple[str, ...] = (*_RESNETS, "densenet121", "efficientnet_b0", *_VITS)


class Backbone(nn.Module):
    """A network that maps `[batch, channels, side, side]` to `[batch, feature_dim]`.

    Attributes:
        feature_dim: Columns of the output.
    """

    def __init__(self, net: nn.Module, feature_dim: int) -> None:
        """Wrap `net`, whose output has `feature_dim` values per image."""
        super().__init__()
        self.net = net
        self.feature_dim = feature_dim

    def forward(self, images: Tensor) -> Tensor:
        """Return the pooled features."""
        features: Tensor = self.net(images)
        return features.flatten(1)


class _TokenMean(nn.Module):
    """A transformer whose feature is the mean of its tokens; it has no class token."""

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, images: Tensor) -> Tensor:
        tokens: Tensor = self.transformer(images)[0]
        return tokens.mean(dim=1)


def build_backbone(
    name: str, *, channels: int, image_size: int, stem: Stem = "auto", width: int | None = None
) -> Backbone:
    """Build an untrained encoder, its weights drawn from torch's current random state.

    Args:
        name: One of `KNOWN`.
        channels: Of the images, 1 or 3.
        image_size: Side of the views, px. Convolutional networks take other sizes too.
        stem: "small" begins with a 3 x 3 convolution of stride 1 and no pooling, "medium" with
            one of stride 2 (ResNets; the others are small), "large" as published. A small
            transformer has patches of 4 to 8 px. "auto" goes by `SMALL_STEM_UP_TO` and
            `MEDIUM_STEM_UP_TO`.
        width: Channels of a ResNet's first stage; 64, as published, by default. A fourth of the
            time at half the width is often the better use of few cores.

    Raises:
        ConfigError: An unknown name, a side that the network cannot take, or a width for a
            network that has one only.
    """
    if name not in KNOWN:
        raise ConfigError(f"unknown backbone {name!r}; {suggest(name, KNOWN)}")
    chosen = choose_stem(image_size) if stem == "auto" else stem
    if name in _RESNETS:
        return _resnet(_RESNETS[name], channels, stem=chosen, width=width or _PUBLISHED_WIDTH)
    if width is not None:
        raise ConfigError(f"backbone.width {width}: {name} has one width only; leave it out")
    small = chosen != "large"
    if name in _VITS:
        return _vit(_VITS[name], channels, image_size, small=small)
    if name == "densenet121":
        return _densenet(channels, image_size, small=small)
    return _efficientnet(channels, small=small)


def choose_stem(image_size: int) -> Stem:
    """Return what "auto" stands for at a side of `image_size` px."""
    if image_size <= SMALL_STEM_UP_TO:
        return "small"
    return "medium" if image_size <= MEDIUM_STEM_UP_TO else "large"


def _resnet(plan: _ResNetPlan, channels: int, *, stem: Stem, width: int) -> Backbone:
    net = ResNet(
        plan.block,
        list(plan.layers),
        [width, 2 * width, 4 * width, 8 * width],
        spatial_dims=2,
        n_input_channels=channels,
        conv1_t_size=7 if stem == "large" else 3,
        conv1_t_stride=1 if stem == "small" else 2,
        no_max_pool=stem != "large",
        feed_forward=False,
        bias_downsample=False,
    )
    return Backbone(net, 8 * width * (1 if plan.block == "basic" else 4))


def _densenet(channels: int, image_size: int, *, small: bool) -> Backbone:
    if not small and image_size < _DENSENET_LARGE_FROM:
        raise ConfigError(
            f"densenet121 with a large stem needs {_DENSENET_LARGE_FROM} px, got image_size"
            f" {image_size}; use backbone.stem=small"
        )
    net = DenseNet121(spatial_dims=2, in_channels=channels, out_channels=1)
    feature_dim = _drop_classifier(net, "class_layers", "out")
    if small:
        convolution = nn.Conv2d(channels, 64, kernel_size=3, padding=1, bias=False)
        nn.init.kaiming_normal_(convolution.weight)
        features = net.get_submodule("features")
        features.add_module("conv0", convolution)
        features.add_module("pool0", nn.Identity())
    return Backbone(net, feature_dim)


def _efficientnet(channels: int, *, small: bool) -> Backbone:
    net = EfficientNetBN(
        "efficientnet-b0", pretrained=False, spatial_dims=2, in_channels=channels, num_classes=1
    )
    feature_dim = _drop_classifier(net, "", "_fc")
    if small:
        convolution = nn.Conv2d(channels, 32, kernel_size=3, bias=False)
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out")
        net.add_module("_conv_stem", convolution)
    # MONAI pads for images of 224 px; half a kernel on each side suits every size.
    for name, module in list(net.named_modules()):
        if isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1):
            parent, _, own_name = name.rpartition(".")
            margin = nn.ZeroPad2d(module.kernel_size[0] // 2)
            net.get_submodule(parent).add_module(f"{own_name}_padding", margin)
    return Backbone(net, feature_dim)


def _drop_classifier(net: nn.Module, parent: str, name: str) -> int:
    """Replace the last linear layer by nothing; return the width of what it was given."""
    layer = net.get_submodule(f"{parent}.{name}".strip("."))
    if not isinstance(layer, nn.Linear):
        raise TypeError(f"{name} of this MONAI version is a {type(layer).__name__}, not Linear")
    net.get_submodule(parent).add_module(name, nn.Identity())
    return layer.in_features


def _vit(plan: _ViTPlan, channels: int, image_size: int, *, small: bool) -> Backbone:
    choices = (8, 7, 6, 5, 4) if small else (16, 14)
    fitting = [side for side in choices if image_size % side == 0]
    if not fitting:
        raise ConfigError(
            f"no patch of {', '.join(map(str, choices))} px divides image_size {image_size};"
            f" use {-(-image_size // choices[-1]) * choices[-1]}"
        )
    patch = next((side for side in fitting if image_size // side >= _TOKENS_PER_SIDE), fitting[-1])
    net = ViT(
        channels,
        (image_size, image_size),
        (patch, patch),
        hidden_size=plan.width,
        mlp_dim=4 * plan.width,
        num_layers=plan.depth,
        num_heads=plan.heads,
        spatial_dims=2,
    )
    for block in net.blocks:  # MONAI's blocks hold a norm that only cross-attention would use
        block.add_module("norm_cross_attn", nn.Identity())
    return Backbone(_TokenMean(net), plan.width)
