"""Networks of Hugging Face's `transformers`, an optional package, as encoders.

With random weights from a small configuration, or with given weights. Nothing is fetched from the
network unless `backbone.download` asks for it, and only safetensors are read, no pickles.
"""

import importlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import nn

from medssl.backbone import Backbone
from medssl.backbones import choose_stem
from medssl.config import BackboneConfig, Stem
from medssl.hub_networks import HubHierarchy, HubRotaryTransformer, HubTransformer
from medssl.vision_transformer import choose_patch
from sslcore.errors import ConfigError
from sslcore.methods.settings import Pooling


class _Kind(NamedTuple):
    """Names of the classes, and whether the network is a transformer with tokens of patches."""

    model: str
    config: str
    has_tokens: bool = True
    has_registers: bool = False


_KINDS = {
    "hf_vit": _Kind("ViTModel", "ViTConfig"),
    "hf_dinov2": _Kind("Dinov2Model", "Dinov2Config"),
    "hf_dinov2_registers": _Kind(
        "Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", has_registers=True
    ),
    "hf_dinov3": _Kind("DINOv3ViTModel", "DINOv3ViTConfig", has_registers=True),
    "hf_convnext": _Kind("ConvNextModel", "ConvNextConfig", has_tokens=False),
    "hf_swin": _Kind("SwinModel", "SwinConfig", has_tokens=False),
}

HUB_KNOWN: tuple[str, ...] = tuple(_KINDS)
HUB_TRANSFORMERS: tuple[str, ...] = tuple(name for name in _KINDS if _KINDS[name].has_tokens)

_USUAL_REGISTERS = 4
_SMALL_TRANSFORMER = {
    "hidden_size": 192,
    "num_hidden_layers": 12,
    "num_attention_heads": 3,
    "intermediate_size": 768,
}
_SMALL: Mapping[str, Mapping[str, object]] = {
    **dict.fromkeys(HUB_TRANSFORMERS, _SMALL_TRANSFORMER),
    "hf_convnext": {"hidden_sizes": [40, 80, 160, 320], "depths": [2, 2, 6, 2]},
    "hf_swin": {"embed_dim": 48, "depths": [2, 2, 6], "num_heads": [2, 4, 8], "window_size": 4},
}

_FIRST_STRIDE: Mapping[str, Mapping[str, int]] = {  # of networks that halve the image later, px
    "hf_convnext": {"small": 1, "medium": 2, "large": 4},
    "hf_swin": {"small": 2, "medium": 4, "large": 4},
}

# Chance is for the views, which a resumed run repeats; the networks draw from global state.
_WITHOUT_CHANCE: Mapping[str, float | None] = {
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "attention_dropout": 0.0,
    "drop_path_rate": 0.0,
    "pos_embed_shift": None,
    "pos_embed_jitter": None,
    "pos_embed_rescale": None,
}


def build_hub_backbone(
    name: str, settings: BackboneConfig, *, channels: int, image_size: int
) -> Backbone:
    """Build an encoder with given weights, or with random ones from torch's random state.

    Args:
        name: One of `HUB_KNOWN`.
        settings: `weights`, `pooling`, `registers`; and `stem`, for random weights only.
        channels: Of the images, 1 or 3.
        image_size: Side of the views, px.

    Raises:
        ConfigError: `transformers` is not installed, the weights cannot be read or are of another
            network, or a setting does not fit the network.
    """
    kind = _KINDS[name]
    if settings.width is not None:
        raise ConfigError(f"backbone.width {settings.width}: {name} has one width; leave it out")
    if settings.norm != "batch":
        raise ConfigError(f"backbone.norm {settings.norm}: {name} has its own; leave it out")
    if settings.registers and (settings.weights or not kind.has_registers):
        reason = "the weights bring their own" if settings.weights else f"{name} has none"
        raise ConfigError(f"backbone.registers {settings.registers}: {reason}; leave it out")
    if settings.pooling and not kind.has_tokens:
        raise ConfigError(f"backbone.pooling: {name} has no class token; leave it out")
    pooling = settings.pooling or "mean"
    if settings.weights is None:
        config = _new_config(name, settings, channels, image_size)
        return _wrap(_build(name, config), channels, pooling)
    multiple = hub_side_multiple(name, settings, image_size)
    if image_size % multiple:
        raise ConfigError(
            f"image_size {image_size}: {settings.weights} has patches of {multiple} px; use"
            f" {-(-image_size // multiple) * multiple}"
        )
    return _wrap(_load(name, settings, channels), channels, pooling)


def rebuild_hub_backbone(
    name: str, network: Mapping[str, Any], *, channels: int, pooling: Pooling | None
) -> Backbone:
    """Build the untrained network that `describe_hub_backbone` described."""
    config = getattr(_library(name), _KINDS[name].config).from_dict(dict(network))
    return _wrap(_build(name, config), channels, pooling or "mean")


def describe_hub_backbone(backbone: Backbone) -> dict[str, Any] | None:
    """Return the network's configuration, for JSON; None for a network that is not of the hub."""
    config: Any = getattr(backbone.net, "config", None)
    if not isinstance(backbone, HubTransformer | HubHierarchy) or config is None:
        return None
    description: dict[str, Any] = json.loads(config.to_json_string(use_diff=True))
    return description


def hub_side_multiple(name: str, settings: BackboneConfig, image_size: int) -> int:
    """Return what the side of every view must be a multiple of, px; 1 without patches.

    Raises:
        ConfigError: See `build_hub_backbone`.
    """
    if not _KINDS[name].has_tokens:
        return 1
    if settings.weights is not None:
        return int(_read_config(name, settings).patch_size)
    return choose_patch(image_size, small=_stem(settings, image_size) != "large")


def _stem(settings: BackboneConfig, image_size: int) -> Stem:
    return choose_stem(image_size) if settings.stem == "auto" else settings.stem


def _library(name: str) -> Any:
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise ConfigError(
            f"backbone.name {name} needs the package transformers; install it with"
            " pip install -c constraints.txt -e '.[hub]'"
        ) from error


def _new_config(name: str, settings: BackboneConfig, channels: int, image_size: int) -> Any:
    values: dict[str, object] = {**_SMALL[name], "num_channels": channels, "image_size": image_size}
    if _KINDS[name].has_tokens:
        values["patch_size"] = hub_side_multiple(name, settings, image_size)
    else:
        values["patch_size"] = _FIRST_STRIDE[name][_stem(settings, image_size)]
    if _KINDS[name].has_registers:
        values["num_register_tokens"] = settings.registers or _USUAL_REGISTERS
    return getattr(_library(name), _KINDS[name].config)(**values)


def _read_config(name: str, settings: BackboneConfig) -> Any:
    library = _library(name)
    try:
        config = library.AutoConfig.from_pretrained(
            settings.weights, local_files_only=not settings.download
        )
    except (OSError, ValueError) as error:
        raise ConfigError(_cannot_read(settings, error)) from error
    expected = getattr(library, _KINDS[name].config)
    if type(config) is not expected:
        raise ConfigError(
            f"backbone.weights {settings.weights}: expected a {expected.model_type} for {name},"
            f" got a {config.model_type}"
        )
    return config


def _build(name: str, config: Any) -> nn.Module:
    model = getattr(_library(name), _KINDS[name].model)
    net: nn.Module = model(_without_chance(config), **_parts(name))
    return net


def _load(name: str, settings: BackboneConfig, channels: int) -> nn.Module:
    config = _without_chance(_read_config(name, settings))
    if channels not in (1, config.num_channels):
        raise ConfigError(
            f"backbone.weights {settings.weights}: takes {config.num_channels} channel(s), the"
            f" images have {channels}; set data.channels"
        )
    model = getattr(_library(name), _KINDS[name].model)
    try:
        net, found = model.from_pretrained(
            settings.weights,
            config=config,
            local_files_only=not settings.download,
            use_safetensors=True,
            output_loading_info=True,
            **_parts(name),
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(_cannot_read(settings, error)) from error
    missing = [key for key in found["missing_keys"] if not key.endswith("mask_token")]
    if missing:
        raise ConfigError(f"backbone.weights {settings.weights}: lack {', '.join(missing[:3])}")
    loaded: nn.Module = net.float()
    return loaded


def _parts(name: str) -> dict[str, bool]:
    """Return what the constructor must be told to leave out, or to add."""
    if name == "hf_vit":
        return {"add_pooling_layer": False, "use_mask_token": True}
    return {"add_pooling_layer": False} if name == "hf_swin" else {}


def _without_chance(config: Any) -> Any:
    for key, value in _WITHOUT_CHANCE.items():
        if hasattr(config, key):
            setattr(config, key, value)
    return config


def _wrap(net: nn.Module, channels: int, pooling: Pooling) -> Backbone:
    config: Any = net.config
    if config.model_type == "dinov3_vit":
        return HubRotaryTransformer(net, channels=channels, pooling=pooling)
    if config.model_type == "convnext":
        return HubHierarchy(net, config.hidden_sizes[-1])
    if config.model_type == "swin":
        return HubHierarchy(net, config.hidden_size)
    return HubTransformer(net, channels=channels, pooling=pooling)


def _cannot_read(settings: BackboneConfig, error: Exception) -> str:
    reason = str(error).splitlines()[0]
    way_out = "" if settings.download else ", or set backbone.download=true to fetch it by its name"
    return (
        f"backbone.weights {settings.weights}: {reason}; give a folder with config.json and"
        f" model.safetensors{way_out}"
    )
