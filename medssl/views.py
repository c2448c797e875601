"""Which views fit the data: the transforms of a preset, put together."""

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

import polars as pl

from medssl.config import Dims, Preset, ViewsConfig
from medssl.manifest import Manifest
from medssl.presets import BY_ARCHIVE, BY_MODALITY, PRESETS, PresetPlan
from medssl.sources.volumes import VOLUMES
from medssl.transforms.base import BatchedTransform, Chain
from medssl.transforms.bias_field import RandBiasField
from medssl.transforms.blur import RandGaussianBlur, RandSharpness
from medssl.transforms.colour import RandColour
from medssl.transforms.geometry import RandGeometry
from medssl.transforms.geometry3d import RandGeometry3d
from medssl.transforms.intensity import RandBrightnessContrast, RandGamma
from medssl.transforms.noise import RandGaussianNoise
from medssl.transforms.stain import RandStain
from medssl.view_maker import Crops, MultiViewMaker
from sslcore.errors import ConfigError

_SMALLEST_SIDE = 8  # px, of any view

_SMALLEST_BLUR = 0.6  # px; below, a Gaussian is a point


def build_views(
    config: ViewsConfig,
    preset: Preset,
    image_size: int,
    channels: int,
    *,
    dims: Dims = 2,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> MultiViewMaker:
    """Put the transforms of a preset together.

    Args:
        config: What differs from the preset; its own preset, unless `auto`, goes first.
        preset: What `auto` stands for; see `choose_preset`.
        image_size: Side of a view, px.
        channels: 1 or 3; colour changes are left out for 1.
        dims: 2 for images, 3 for volumes.
        mean: Of the data, per channel, values of 0 to 1; 0.5 by default.
        std: Of the data, per channel; 0.25 by default.

    Raises:
        ConfigError: Neither `config` nor `preset` says what the images are.
    """
    name = preset if config.preset is Preset.AUTO else config.preset
    if name is Preset.AUTO:
        raise ConfigError("views.preset is auto, and no preset was chosen for the data")
    plan = PRESETS[name]
    strength = 1.0 if config.strength is None else config.strength

    def chain(size: int, crop_scale: tuple[float, float]) -> Chain:
        geometry = _geometry if dims == 2 else _geometry3d
        transforms: list[BatchedTransform] = [geometry(config, plan, size, crop_scale)]
        if strength > 0:
            transforms += _intensity(plan, strength, size, channels, dims)
        return Chain(*transforms)

    local = None
    if config.local_views:
        size = config.local_size or choose_local_size(image_size)
        local = Crops(chain(size, config.local_scale), size, config.local_views)
    return MultiViewMaker(
        chain(image_size, config.crop_scale or plan.crop_scale),
        image_size=image_size,
        mean=mean or (0.5,) * channels,
        std=std or (0.25,) * channels,
        local=local,
        dims=dims,
    )


def choose_local_size(image_size: int, *, multiple_of: int = 1) -> int:
    """Return the side of a smaller crop beside full views of `image_size` px.

    Source:
        96 px beside 224 px, as in SwAV, arXiv:2006.09882, and DINO, arXiv:2104.14294.
    """
    least = -(-_SMALLEST_SIDE // multiple_of)
    return max(least, round(image_size * 96 / 224 / multiple_of)) * multiple_of


def choose_preset(manifest: Manifest) -> Preset:
    """Choose what most images of a manifest are.

    By DICOM modality, or the name of a MedMNIST archive; grey volumes are taken for MR. Other
    files do not tell a slide from a photograph: images in colour are taken for photographs, grey
    ones for radiographs. Of kinds that are equally frequent the first in `PRESETS` is chosen.
    """
    archive = pl.when(pl.col("kind") == "npz").then("path").alias("archive")
    kinds = manifest.rows.select("modality", archive, "kind", "channels")
    counts: Counter[Preset] = Counter()
    for modality, path, kind, channels, count in kinds.group_by(kinds.columns).len().iter_rows():
        counts[_preset_of(modality, path, kind, channels)] += count
    return max(PRESETS, key=lambda preset: counts[preset])


def _preset_of(modality: str | None, archive: str | None, kind: str, channels: int) -> Preset:
    grey = Preset.MR if kind in VOLUMES else Preset.RADIOGRAPH
    coloured = Preset.PHOTOGRAPH if channels == 3 else grey
    name = PurePosixPath(archive or "").stem.split("_")[0].lower()
    return BY_MODALITY.get(modality or "") or BY_ARCHIVE.get(name) or coloured


def _geometry(
    config: ViewsConfig, plan: PresetPlan, image_size: int, crop_scale: tuple[float, float]
) -> RandGeometry:
    return RandGeometry(
        image_size,
        crop_scale=crop_scale,
        horizontal_flip=_chosen(config.horizontal_flip, plan.horizontal_flip),
        vertical_flip=_chosen(config.vertical_flip, plan.vertical_flip),
        quarter_turns=plan.quarter_turns,
        rotation=_chosen(config.rotation, plan.rotation),
    )


def _geometry3d(
    config: ViewsConfig, plan: PresetPlan, image_size: int, crop_scale: tuple[float, float]
) -> RandGeometry3d:
    """Return the geometry of a volume, whose rows go down the image, and slices to the head."""
    head_and_feet = _chosen(config.vertical_flip, plan.vertical_flip)
    right_and_left = _chosen(config.horizontal_flip, plan.horizontal_flip)
    return RandGeometry3d(
        image_size,
        crop_scale=crop_scale,
        flips=(head_and_feet, 0.0, right_and_left),
        rotation=_chosen(config.rotation, plan.rotation),
    )


def _chosen(own: float | None, default: float) -> float:
    return default if own is None else own


def _intensity(
    plan: PresetPlan, strength: float, image_size: int, channels: int, dims: Dims
) -> list[BatchedTransform]:
    """List the changes of value in the order in which they arise: object, light, lens, sensor."""
    blur = max(_SMALLEST_BLUR, plan.blur * image_size) * strength
    transforms: list[BatchedTransform | None] = [
        RandStain(strength=plan.stain * strength) if plan.stain and channels == 3 else None,
        RandColour(
            saturation=min(1.0, plan.saturation * strength),
            hue=plan.hue * strength,
            grey=min(1.0, plan.grey * strength),
        )
        if plan.saturation and channels == 3
        else None,
        RandBiasField(strength=plan.bias_field * strength, dims=dims) if plan.bias_field else None,
        RandBrightnessContrast(
            brightness=plan.brightness * strength, contrast=min(1.0, plan.contrast * strength)
        ),
        RandGamma(low=plan.gamma**-strength, high=plan.gamma**strength),
        RandGaussianBlur(high=blur, low=min(0.1, blur)),
        RandSharpness(softest=-min(1.0, 0.5 * strength), sharpest=plan.sharpness * strength),
        RandGaussianNoise(high=plan.noise * strength),
    ]
    return [transform for transform in transforms if transform is not None]
