"""All that is needed to rebuild an encoder, and to feed it images as in training."""

from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, Self

from medssl.backbone import Backbone
from medssl.config import Dims, Norm, Preset, PretrainConfig, Slab, StainMethod, Stem, Window
from medssl.hub_backbones import describe_hub_backbone
from medssl.run_data import choose_backbone, image_shape
from medssl.volumes.patch import patch_of
from sslcore.errors import CheckpointError
from sslcore.methods.settings import Pooling


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """All that is needed to rebuild an encoder and to feed it images as in training.

    Attributes:
        backbone: Name of the network.
        stem: See `build_backbone`.
        width: Likewise.
        channels: 1 or 3.
        image_size: Side of the network's input, px.
        canvas: Side of the images that are read, px.
        window: How stored values become 0 to 1.
        preset: Kind of image.
        mean: Of each channel of the training data, of values from 0 to 1.
        std: Standard deviation, likewise.
        feature_dim: Columns of an embedding.
        pooling: See `build_backbone`; like what follows, not in the files of older runs.
        registers: Likewise.
        network: Configuration of a network of `transformers`; None for others.
        head_layer: Whether the first layer of the method's head follows the network.
        dims: 2 for images, 3 for volumes.
        stain: See `medssl.transforms.stain_normalisation`.
        spacing_mm: Between the pixels of the canvas; None where images are made to fill it.
        slab: Slices that an image is made of, 1 or 3.
        patches: Whether volumes are cut to patches of the canvas' side.
        norm: See `build_backbone`.
    """

    backbone: str
    stem: Stem
    width: int | None
    channels: int
    image_size: int
    canvas: int
    window: Window
    preset: Preset
    mean: tuple[float, ...]
    std: tuple[float, ...]
    feature_dim: int
    pooling: Pooling | None = None
    registers: int = 0
    network: dict[str, Any] | None = None
    head_layer: bool = False
    dims: Dims = 2
    stain: StainMethod | None = None
    spacing_mm: float | None = None
    slab: Slab = 1
    patches: bool = False
    norm: Norm = "batch"

    @classmethod
    def of_run(
        cls,
        config: PretrainConfig,
        *,
        statistics: tuple[tuple[float, ...], tuple[float, ...]],
        backbone: Backbone,
    ) -> Self:
        """Collect the specification from a resolved configuration."""
        channels, canvas = image_shape(config)
        return cls(
            backbone=choose_backbone(config),
            stem=config.backbone.stem,
            width=config.backbone.width,
            channels=channels,
            image_size=config.image_size,
            canvas=canvas,
            window=config.data.window,
            preset=config.views.preset,
            mean=statistics[0],
            std=statistics[1],
            feature_dim=backbone.feature_dim,
            pooling=config.backbone.pooling,
            registers=config.backbone.registers,
            network=describe_hub_backbone(backbone),
            dims=config.data.dims,
            stain=config.data.stain,
            spacing_mm=config.data.spacing_mm,
            slab=config.data.slab,
            patches=config.data.patches,
            norm=config.backbone.norm,
        )


def parse_spec(description: dict[str, Any], path: Path) -> EncoderSpec:
    """Read what `store_encoder` wrote.

    Args:
        description: See `read_encoder_description`; what it holds beside is passed over.
        path: Of the weights, for the message.

    Raises:
        CheckpointError: Something is missing or impossible.
    """
    try:
        known = {
            name: description[name]
            for name, field in EncoderSpec.__dataclass_fields__.items()
            if name in description or field.default is MISSING
        }
        spec = EncoderSpec(
            **{
                **known,
                "window": Window(known["window"]),
                "preset": Preset(known["preset"]),
                **{name: tuple(known[name]) for name in ("mean", "std")},
            }
        )
        patch_of(spec)  # has their spacing
    except (KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path.with_suffix('.json')}: not an encoder of images") from error
    return spec
