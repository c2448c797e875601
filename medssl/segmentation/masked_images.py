"""Images with their masks, as networks learn from them and as they are judged."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from medssl.encoder import open_dataset
from medssl.encoder_spec import EncoderSpec
from medssl.fewlabels.groups import IntArray
from medssl.fewlabels.labelled_images import light_views
from medssl.loading.fitting import Fitting
from medssl.loading.store import StorePlan
from medssl.loading.volume_canvas import turned, volumes_by_name
from medssl.manifest import Manifest
from medssl.manifest_paths import decode_path
from medssl.masks.read import Classes, Codes, MaskReader
from medssl.segmentation.network import MaskedBatch, Segmenter
from medssl.view_maker import move_canvases
from sslcore.training.health import evaluating

_AT_ONCE = {2: 32, 3: 2}  # views that are outlined together


class Truth(NamedTuple):
    """The mask of a sample.

    Attributes:
        codes: Classes, 0 for none, in the pixels of the image; of a volume with the axes of the
            patient, as its canvas has them.
        fitting: Where these pixels are in the canvas.
    """

    codes: Codes
    fitting: Fitting


class Outline(NamedTuple):
    """What a network says of a sample, and what its mask says.

    Attributes:
        row: Of the manifest.
        view: As the network saw it, `[channels, *sides]`.
        codes: As it outlined, in the pixels of the image.
        truth: As the mask does.
    """

    row: int
    view: Tensor
    codes: Codes
    truth: Codes


class MaskedImages:
    """The samples of a manifest whose every row has a mask that can be used.

    Attributes:
        spec: Of the encoder.
        classes: Of the pixels.
        views: How an image is looked at.
    """

    def __init__(
        self,
        manifest: Manifest,
        spec: EncoderSpec,
        masks: MaskReader,
        classes: Classes,
        *,
        device: torch.device,
        cache_gb: float = 1.0,
        store: StorePlan | None = None,
    ) -> None:
        """Prepare to read; canvases of masks stay in memory, a byte per pixel."""
        self.spec = spec
        self.classes = classes
        self.views = light_views(spec)
        self._device = device
        self._masks = masks
        self._root = manifest.root
        self._volumes = volumes_by_name(manifest) if manifest.holds_volumes else {}
        self._names: list[str] = manifest.rows["volume"].to_list()
        self._dataset = open_dataset(manifest, spec, cache_gb=cache_gb, store=store)
        self._canvases = torch.zeros((len(manifest), *[spec.canvas] * spec.dims), dtype=torch.uint8)
        self._is_read = np.zeros(len(manifest), bool)

    def truth(self, row: int) -> Truth:
        """Read a mask.

        Raises:
            IngestError: It changed since the survey.
        """
        codes = self.classes.codes(self._masks.values(row))
        canvas = self.spec.canvas
        if not self._volumes:
            rows, columns = codes.shape
            return Truth(codes, Fitting.of_image(rows, columns, canvas))
        slices = self._volumes[self._names[row]]
        first = self._root / decode_path(slices.images[0][0])
        placed, spacing = turned(first, codes, slices.geometry)
        fitting = Fitting.of_volume(placed.shape, spacing, canvas, self.spec.spacing_mm)
        return Truth(np.ascontiguousarray(placed), fitting)

    def augmented(self, rows: IntArray, *, seed: int, epoch: int) -> MaskedBatch:
        """Return a lightly changed view of each row, and its mask, moved alike."""
        pixels, index = self._read(rows)
        view, codes = self.views.one_with_labels(
            pixels, self._mask_canvases(rows), index, seed=seed, epoch=epoch
        )
        return MaskedBatch(view, codes)

    def plain(self, rows: IntArray) -> MaskedBatch:
        """Return each row as it is, and its mask."""
        pixels, _ = self._read(rows)
        side = [self.spec.image_size] * self.spec.dims
        masks = self._mask_canvases(rows)
        codes = torch.nn.functional.interpolate(masks[:, None].float(), side, mode="nearest-exact")
        return MaskedBatch(self.views.plain(pixels), codes[:, 0].to(torch.uint8))

    @torch.no_grad()
    def outline(self, network: Segmenter, rows: IntArray) -> Iterator[Outline]:
        """Name the class of each pixel of the rows, in the resolution of the image."""
        step = _AT_ONCE[self.spec.dims]
        with evaluating(network):
            for first in range(0, len(rows), step):
                part = rows[first : first + step]
                views = self.views.plain(self._read(part)[0])
                chances = network.logits(views).float().softmax(1).cpu()
                for row, view, own in zip(part.tolist(), views.cpu(), chances, strict=True):
                    codes, fitting = self.truth(row)
                    yield Outline(row, view, decided(fitting.back(own)), codes)

    def _read(self, rows: IntArray) -> tuple[Tensor, Tensor]:
        batch = self._dataset.read_batch(torch.from_numpy(rows), complete=True)
        return move_canvases(batch.pixels, self._device), batch.index.to(self._device)

    def _mask_canvases(self, rows: IntArray) -> Tensor:
        for row in rows[~self._is_read[rows]].tolist():
            codes, fitting = self.truth(row)
            self._canvases[row] = fitting.labels(torch.from_numpy(codes))
            self._is_read[row] = True
        return self._canvases[torch.from_numpy(rows)].to(self._device)


def decided(chances: Tensor) -> Codes:
    """Return the most likely class of each pixel, `[classes, *shape]`; none where it is NaN."""
    codes: Codes = chances.nan_to_num(0).argmax(0).to(torch.uint8).numpy()
    return codes
