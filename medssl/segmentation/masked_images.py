"""Images with their masks, as networks learn from them and as they are judged."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from medssl.encoder_spec import EncoderSpec
from medssl.fewlabels.groups import IntArray
from medssl.loading.store import StorePlan
from medssl.manifest import Manifest
from medssl.masks.read import Classes, Codes, MaskReader
from medssl.segmentation.network import MaskedBatch
from medssl.segmentation.seen_images import SeenImages


class MaskedImages(SeenImages):
    """The samples of a manifest whose every row has a mask that can be used.

    Attributes:
        classes: Of the pixels.
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
        super().__init__(manifest, spec, device=device, cache_gb=cache_gb, store=store)
        self.classes = classes
        self._masks = masks
        self._canvases = torch.zeros((len(manifest), *[spec.canvas] * spec.dims), dtype=torch.uint8)
        self._is_read = np.zeros(len(manifest), bool)

    def truth(self, row: int) -> Codes:
        """Return what a mask says, as `Outline.codes` says what a network does.

        Raises:
            IngestError: It changed since the survey.
        """
        return self.placed(row, self.classes.codes(self._masks.values(row)))

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
        masks = self._mask_canvases(rows)
        sides = [self.spec.image_size] * self.spec.dims
        codes = F.interpolate(masks[:, None].float(), sides, mode="nearest-exact")
        return MaskedBatch(self.views.plain(pixels), codes[:, 0].to(torch.uint8))

    def _mask_canvases(self, rows: IntArray) -> Tensor:
        for row in rows[~self._is_read[rows]].tolist():
            codes = torch.from_numpy(self.truth(row))
            self._canvases[row] = self.fitting(row).labels(codes)
            self._is_read[row] = True
        return self._canvases[torch.from_numpy(rows)].to(self._device)
