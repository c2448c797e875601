"""The images of a labelled data set, as networks and probes take them."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from medssl.backbones import Backbone
from medssl.config import ViewsConfig
from medssl.encoder import open_dataset
from medssl.encoder_spec import EncoderSpec
from medssl.fewlabels.metrics import IntArray
from medssl.fewlabels.probe import FeatureArray
from medssl.loading.dataset import CanvasDataset, iter_canvases
from medssl.loading.store import StorePlan
from medssl.manifest import Manifest
from medssl.view_maker import MultiViewMaker, move_canvases
from medssl.views import build_views
from sslcore.console import Progress
from sslcore.training.health import evaluating

# px, at most, of the images and volumes that `pixels_probe` sees: about a thousand in all
PIXEL_SIDES = {2: 32, 3: 10}

_BATCH = 256
_LIGHT = 0.4  # of the preset's intensity changes
_LIGHT_CROP = (0.7, 1.0)  # share of the area: a lesion at the rim shall stay in


class Features(NamedTuple):
    """What the probes see of each image, one row per readable image.

    Attributes:
        rows: Rows of the manifest, rising.
        pretrained: Embeddings of the encoder.
        untrained: Embeddings of the same network with random weights.
        pixels: The image itself, averaged to `PIXEL_SIDES` px.
    """

    rows: IntArray
    pretrained: FeatureArray
    untrained: FeatureArray
    pixels: FeatureArray

    def at(self, wanted: IntArray) -> "Features":
        """Return the rows `wanted` of the manifest, in that order."""
        places = np.searchsorted(self.rows, wanted)
        return Features(
            wanted, self.pretrained[places], self.untrained[places], self.pixels[places]
        )


@dataclass(frozen=True, slots=True)
class LabelledImages:
    """Canvases, and the two ways of looking at them: plain, and lightly changed."""

    dataset: CanvasDataset
    light: MultiViewMaker
    device: torch.device

    def augmented(self, rows: IntArray, *, seed: int, epoch: int) -> Tensor:
        """Return one lightly changed view of each row; see `medssl.fewlabels.supervised.Images`."""
        pixels, index = self._read(rows)
        return self.light.one(pixels, index, seed=seed, epoch=epoch)

    def plain(self, rows: IntArray) -> Tensor:
        """Return each row as it is."""
        return self.light.plain(self._read(rows)[0])

    @torch.no_grad()
    def features(
        self, pretrained: Backbone, untrained: Backbone, *, progress: Progress
    ) -> Features:
        """Read every image once, and return what the probes see; unreadable ones are left out."""
        found: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        progress.expect(len(self.dataset), unit="images")
        with evaluating(pretrained), evaluating(untrained):
            for batch in iter_canvases(self.dataset, _BATCH):
                plain = self.light.plain(move_canvases(batch.pixels, self.device))
                side = min(PIXEL_SIDES[plain.ndim - 2], plain.shape[-1])
                small = F.interpolate(plain, [side] * (plain.ndim - 2), mode="area").flatten(1)
                found.append((batch.index, pretrained(plain), untrained(plain), small))
                progress.advance(len(batch.index))
        rows, *columns = (torch.cat(parts).cpu() for parts in zip(*found, strict=True))
        return Features(rows.numpy(), *(column.float().numpy() for column in columns))

    def _read(self, rows: IntArray) -> tuple[Tensor, Tensor]:
        batch = self.dataset.read_batch(torch.from_numpy(rows), complete=True)
        return move_canvases(batch.pixels, self.device), batch.index.to(self.device)


def open_labelled_images(
    manifest: Manifest,
    spec: EncoderSpec,
    *,
    device: torch.device,
    cache_gb: float = 1.0,
    store: StorePlan | None = None,
) -> LabelledImages:
    """Read `manifest` as the encoder was trained on, with the light views of its preset."""
    dataset = open_dataset(manifest, spec, cache_gb=cache_gb, store=store)
    return LabelledImages(dataset, light_views(spec), device)


def light_views(spec: EncoderSpec) -> MultiViewMaker:
    """Return the views of an encoder's preset, weak enough for learning from labels."""
    views = ViewsConfig(preset=spec.preset, strength=_LIGHT, crop_scale=_LIGHT_CROP)
    return build_views(
        views,
        preset=spec.preset,
        image_size=spec.image_size,
        channels=spec.channels,
        dims=spec.dims,
        mean=spec.mean,
        std=spec.std,
    )
