"""Views of whole batches, on the device where the images are."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

import polars as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from medssl.config import Preset, ViewsConfig
from medssl.manifest import Manifest
from medssl.presets import BY_ARCHIVE, BY_MODALITY, PRESETS, PresetPlan
from medssl.sources.volumes import VOLUMES
from medssl.transforms.base import BatchedTransform, Chain
from medssl.transforms.bias_field import RandBiasField
from medssl.transforms.blur import RandGaussianBlur, RandSharpness
from medssl.transforms.colour import RandColour
from medssl.transforms.geometry import RandGeometry
from medssl.transforms.intensity import RandBrightnessContrast, RandGamma
from medssl.transforms.noise import RandGaussianNoise
from medssl.transforms.stain import RandStain
from sslcore.errors import ConfigError, ShapeError
from sslcore.random import SampleRandom, derive_keys
from sslcore.views import ViewBatch

NUM_VIEWS = 2  # full ones

_METHOD_DRAWS = 1 << 16  # keeps the keys of what a method draws apart from those of the views
_SMALLEST_BLUR = 0.6  # px; below, a Gaussian is a point
_CPU_CHUNK_BYTES = 4 << 20  # of canvases worked on together; bounds memory, measured fastest


class Crops(NamedTuple):
    """Views of one size.

    Attributes:
        transform: The random part, usable on its own and in a MONAI `Compose`.
        size: Side, px.
        number: Of each sample.
    """

    transform: BatchedTransform
    size: int
    number: int


class MultiViewMaker:
    """Makes random views for training and one plain view for evaluation.

    Attributes:
        transform: The random part of a full view, usable on its own and in a MONAI `Compose`.
        image_size: Side of a full view, px.
        local: Smaller crops beside the two full views.
        mean: Subtracted per channel, for values of 0 to 1.
        std: What the difference is divided by.
    """

    def __init__(
        self,
        transform: BatchedTransform,
        *,
        image_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        local: Crops | None = None,
    ) -> None:
        """Normalise the results of `transform`; `mean` and `std` have one value per channel."""
        self.transform = transform
        self.image_size = image_size
        self.local = local
        self.mean = tuple(mean)
        self.std = tuple(std)
        self._on_device: tuple[Tensor, Tensor] | None = None

    def __call__(
        self, pixels: Tensor, index: Tensor, *, seed: int, epoch: int
    ) -> ViewBatch[Tensor]:
        """Return two full views, and the smaller crops if there are any.

        What a sample gets depends on its index, `seed` and `epoch` only.

        Args:
            pixels: `[batch, channels, side, side]`, uint16 canvases or floats of 0 to 1.
            index: Row of the manifest of each image, `[batch]`, on any device.
            seed: Of the run.
            epoch: From 0.

        Raises:
            ShapeError: Another number of channels than `mean` has.
        """
        self._require_channels(pixels)
        index = index.to(pixels.device)
        kinds = [Crops(self.transform, self.image_size, NUM_VIEWS)]
        if self.local:
            kinds.append(self.local)
        plan = [kind for kind in kinds for _ in range(kind.number)]
        views = [
            self._random_view(pixels, SampleRandom(derive_keys(index, seed, epoch, number)), kind)
            for number, kind in enumerate(plan)
        ]
        keys = derive_keys(index, seed, epoch, _METHOD_DRAWS)
        return ViewBatch(tuple(views), keys=keys)

    def one(self, pixels: Tensor, index: Tensor, *, seed: int, epoch: int) -> Tensor:
        """Return the first of the views that a call returns, without making the others."""
        self._require_channels(pixels)
        key = derive_keys(index.to(pixels.device), seed, epoch, 0)
        full = Crops(self.transform, self.image_size, 1)
        return self._random_view(pixels, SampleRandom(key), full)

    def plain(self, pixels: Tensor) -> Tensor:
        """Return the whole images, resized and normalised, without any chance.

        Args:
            pixels: As for a call.
        """
        self._require_channels(pixels)
        images = to_unit(pixels)
        if images.shape[-2:] != (self.image_size, self.image_size):
            size = (self.image_size, self.image_size)
            images = F.interpolate(images, size, mode="bilinear", antialias=True)
        mean, std = self._statistics(images.device)
        return images.sub_(mean).div_(std)

    def display(self, views: Tensor) -> Tensor:
        """Undo the normalisation: values of 0 to 1, to look at."""
        mean, std = self._statistics(views.device)
        return (views * std + mean).clamp(0, 1)

    def _random_view(self, pixels: Tensor, random: SampleRandom, kind: Crops) -> Tensor:
        """Draw for the whole batch at once; on the CPU, then change a few images at a time."""
        params = kind.transform.sample(random)
        mean, std = self._statistics(pixels.device)
        rows = max(1, len(pixels))
        if pixels.device.type == "cpu":
            rows = max(1, _CPU_CHUNK_BYTES // (4 * math.prod(pixels.shape[1:])))
        views = torch.empty(
            (len(pixels), pixels.shape[1], kind.size, kind.size), device=pixels.device
        )
        for first in range(0, len(pixels), rows):
            part = slice(first, first + rows)
            own = {name: values[part] for name, values in params.items()}
            images = kind.transform.apply_(to_unit(pixels[part]), own)
            torch.sub(images, mean, out=views[part])
            views[part].div_(std)
        return views

    def _statistics(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return mean and deviation, ready to broadcast; moved to each device once."""
        if self._on_device is None or self._on_device[0].device != device:
            mean = torch.tensor(self.mean, device=device).view(-1, 1, 1)
            std = torch.tensor(self.std, device=device).view(-1, 1, 1)
            self._on_device = mean, std
        return self._on_device

    def _require_channels(self, pixels: Tensor) -> None:
        if pixels.ndim != 4 or pixels.shape[1] != len(self.mean):
            raise ShapeError(
                f"expected images [batch, {len(self.mean)}, side, side], got {tuple(pixels.shape)}"
            )


def build_views(
    config: ViewsConfig,
    preset: Preset,
    image_size: int,
    channels: int,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> MultiViewMaker:
    """Put the transforms of a preset together.

    Args:
        config: What differs from the preset; its own preset, unless `auto`, goes first.
        preset: What `auto` stands for; see `choose_preset`.
        image_size: Side of a view, px.
        channels: 1 or 3; colour changes are left out for 1.
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
        transforms: list[BatchedTransform] = [_geometry(config, plan, size, crop_scale)]
        if strength > 0:
            transforms += _intensity(plan, strength, size, channels)
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
    )


def choose_local_size(image_size: int, *, multiple_of: int = 1) -> int:
    """Return the side of a smaller crop beside full views of `image_size` px.

    Source:
        96 px beside 224 px, as in SwAV, arXiv:2006.09882, and DINO, arXiv:2104.14294.
    """
    return max(1, round(image_size * 96 / 224 / multiple_of)) * multiple_of


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
    def chosen(own: float | None, default: float) -> float:
        return default if own is None else own

    return RandGeometry(
        image_size,
        crop_scale=crop_scale,
        horizontal_flip=chosen(config.horizontal_flip, plan.horizontal_flip),
        vertical_flip=chosen(config.vertical_flip, plan.vertical_flip),
        quarter_turns=plan.quarter_turns,
        rotation=chosen(config.rotation, plan.rotation),
    )


def _intensity(
    plan: PresetPlan, strength: float, image_size: int, channels: int
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
        RandBiasField(strength=plan.bias_field * strength) if plan.bias_field else None,
        RandBrightnessContrast(
            brightness=plan.brightness * strength, contrast=min(1.0, plan.contrast * strength)
        ),
        RandGamma(low=plan.gamma**-strength, high=plan.gamma**strength),
        RandGaussianBlur(high=blur, low=min(0.1, blur)),
        RandSharpness(softest=-min(1.0, 0.5 * strength), sharpest=plan.sharpness * strength),
        RandGaussianNoise(high=plan.noise * strength),
    ]
    return [transform for transform in transforms if transform is not None]


def move_canvases(pixels: Tensor, device: torch.device) -> Tensor:
    """Bring uint16 canvases to `device`, as a `MultiViewMaker` takes them there."""
    if device.type == "mps":  # has no unsigned 16-bit integers
        return to_unit(pixels).to(device)
    return pixels.to(device, non_blocking=True)


def to_unit(pixels: Tensor) -> Tensor:
    """Return canvases as float32 of 0 to 1, always in memory of its own."""
    if pixels.dtype == torch.uint16:
        return pixels.to(torch.float32).mul_(1 / 65535)
    return pixels.to(torch.float32, copy=True)
