"""Encoders by name: MONAI's networks without their classifier, with a stem for small images.

For volumes they are the same networks with a third side, and two that are known from segmentation.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from monai.networks.nets.densenet import DenseNet121
from monai.networks.nets.efficientnet import EfficientNetBN
from monai.networks.nets.resnet import ResNet
from torch import nn

from medssl.backbone import Backbone as Backbone  # noqa: PLC0414, for those who import it from here
from medssl.config import Dims, Norm, Stem
from medssl.segmentation_encoders import MULTIPLE, SEGMENTERS, build_segmenter
from medssl.vision_transformer import PLANS, VisionTransformer, choose_patch
from sslcore.config import suggest
from sslcore.errors import ConfigError
from sslcore.methods.settings import Pooling

_DENSENET_LARGE_FROM = 32  # px; it halves the image five times

SMALL_STEM_UP_TO = 48  # px; up to here the first layers keep the size of the image
MEDIUM_STEM_UP_TO = 128  # px; up to here they halve it; above they quarter it, as published
_PUBLISHED_WIDTH = 64  # channels of a ResNet's first stage
_GROUPS = 8  # of channels in a group norm, at most


@dataclass(frozen=True, slots=True)
class _ResNetPlan:
    block: Literal["basic", "bottleneck"]
    layers: tuple[int, int, int, int]


_RESNETS = {
    "resnet10": _ResNetPlan("basic", (1, 1, 1, 1)),
    "resnet18": _ResNetPlan("basic", (2, 2, 2, 2)),
    "resnet50": _ResNetPlan("bottleneck", (3, 4, 6, 3)),
}

KNOWN: tuple[str, ...] = (*_RESNETS, "densenet121", "efficientnet_b0", *SEGMENTERS, *PLANS)


def build_backbone(  # noqa: PLR0913 - what a network is asked for, each named at the call
    name: str,
    *,
    channels: int,
    image_size: int,
    dims: Dims = 2,
    stem: Stem = "auto",
    width: int | None = None,
    norm: Norm = "batch",
    pooling: Pooling | None = None,
    registers: int = 0,
) -> Backbone:
    """Build an untrained encoder, its weights drawn from torch's current random state.

    Args:
        name: One of `KNOWN`.
        channels: Of the images, 1 or 3.
        image_size: Side of the views, px. Convolutional networks take other sizes too.
        dims: 2 for images, 3 for volumes.
        stem: "small" begins with a 3 x 3 convolution of stride 1 and no pooling, "medium" with
            one of stride 2 (ResNets; the others are small), "large" as published. A small
            transformer has patches of 4 to 8 px. "auto" goes by `SMALL_STEM_UP_TO` and
            `MEDIUM_STEM_UP_TO`.
        width: Channels of a ResNet's first stage; 64, as published, by default. A fourth of the
            time at half the width is often the better use of few cores.
        norm: Of a ResNet: batch norm as published, or group norm (Wu, He, ECCV 2018,
            arXiv:1803.08494), in which rows of a batch do not depend on each other.
        pooling: See `VisionTransformer`; the mean by default.
        registers: Likewise.

    Raises:
        ConfigError: An unknown name, a side that the network cannot take, a width for a network
            that has one only, or what only a transformer has for another network.
    """
    if name not in KNOWN:
        raise ConfigError(f"unknown backbone {name!r}; {suggest(name, KNOWN)}")
    chosen = choose_stem(image_size) if stem == "auto" else stem
    small = chosen != "large"
    if width is not None and name not in _RESNETS:
        raise ConfigError(f"backbone.width {width}: {name} has one width only; leave it out")
    if norm != "batch" and name not in _RESNETS:
        raise ConfigError(f"backbone.norm {norm}: {name} has its own norm; leave it out")
    if name in PLANS:
        patch = choose_patch(image_size, small=small)
        return VisionTransformer(
            PLANS[name],
            channels=channels,
            sides=(image_size,) * dims,
            patch_size=(patch,) * dims,
            pooling=pooling or "mean",
            registers=registers,
        )
    if pooling or registers:
        raise ConfigError(
            f"backbone.pooling and backbone.registers are for transformers, not for {name};"
            f" leave them out, or set backbone.name to one of {', '.join(PLANS)}"
        )
    if name in _RESNETS:
        plan = _RESNETS[name]
        return _resnet(plan, channels, dims, chosen, width=width or _PUBLISHED_WIDTH, norm=norm)
    return _convolutional(name, channels, image_size, dims, chosen)


def _convolutional(name: str, channels: int, image_size: int, dims: Dims, stem: Stem) -> Backbone:
    if name in SEGMENTERS:
        return build_segmenter(name, channels=channels, image_size=image_size, dims=dims)
    if name == "densenet121":
        return _densenet(channels, image_size, dims, small=stem != "large")
    if dims == 3:
        raise ConfigError(f"backbone {name} is for images only; for volumes there is resnet18")
    return _efficientnet(channels, small=stem != "large")


def takes_patches(name: str) -> bool:
    """Tell whether the network of this name is a transformer."""
    return name in PLANS


def side_multiple(name: str, image_size: int, stem: Stem) -> int:
    """Return what the side of every view must be a multiple of, px; 1 without patches.

    Raises:
        ConfigError: No patch divides `image_size`.
    """
    if name in SEGMENTERS:
        return MULTIPLE
    if not takes_patches(name):
        return 1
    chosen = choose_stem(image_size) if stem == "auto" else stem
    return choose_patch(image_size, small=chosen != "large")


def choose_stem(image_size: int) -> Stem:
    """Return what "auto" stands for at a side of `image_size` px."""
    if image_size <= SMALL_STEM_UP_TO:
        return "small"
    return "medium" if image_size <= MEDIUM_STEM_UP_TO else "large"


def _resnet(
    plan: _ResNetPlan, channels: int, dims: Dims, stem: Stem, *, width: int, norm: Norm
) -> Backbone:
    net = ResNet(
        plan.block,
        list(plan.layers),
        [width, 2 * width, 4 * width, 8 * width],
        spatial_dims=dims,
        n_input_channels=channels,
        conv1_t_size=7 if stem == "large" else 3,
        conv1_t_stride=1 if stem == "small" else 2,
        no_max_pool=stem != "large",
        feed_forward=False,
        bias_downsample=False,
    )
    if norm == "group":
        _put_group_norms(net, math.gcd(width, _GROUPS))
    if dims == 3:  # a quarter faster on a CPU, values are the same
        net = net.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return Backbone(net, 8 * width * (1 if plan.block == "basic" else 4))


def _put_group_norms(net: nn.Module, groups: int) -> None:
    """Put them in place of the batch norms; MONAI 1.6 hands a `norm` to the first layer only."""
    for part in list(net.modules()):
        for name, layer in part.named_children():
            if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm3d):
                part.add_module(name, nn.GroupNorm(groups, layer.num_features))


def _densenet(channels: int, image_size: int, dims: Dims, *, small: bool) -> Backbone:
    if not small and image_size < _DENSENET_LARGE_FROM:
        raise ConfigError(
            f"densenet121 with a large stem needs {_DENSENET_LARGE_FROM} px, got image_size"
            f" {image_size}; use backbone.stem=small"
        )
    net = DenseNet121(spatial_dims=dims, in_channels=channels, out_channels=1)
    feature_dim = _drop_classifier(net, "class_layers", "out")
    if small:
        kind = nn.Conv2d if dims == 2 else nn.Conv3d
        convolution = kind(channels, 64, kernel_size=3, padding=1, bias=False)
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
