"""Images with their masks, as networks learn from them and as they are judged."""

import numpy as np
import torch
from torch import Tensor

from medssl.encoder_spec import EncoderSpec
from medssl.errors import IngestError
from medssl.fewlabels.groups import IntArray
from medssl.loading.store import StorePlan
from medssl.manifest import Manifest
from medssl.masks.read import Classes, Codes, MaskReader
from medssl.segmentation.network import MaskedBatch
from medssl.segmentation.seen_images import SeenImages
from medssl.transforms.resizing import resize_labels
from sslcore.console import Progress

_MASKS_GB = 2.0  # of masks as the files have them


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
        """Prepare to read; masks stay in memory up to `_MASKS_GB`, and canvases of the labelled."""
        super().__init__(manifest, spec, device=device, cache_gb=cache_gb, store=store)
        self.classes = classes
        self._masks = masks
        self._canvases: dict[int, Tensor] = {}
        self._truths: dict[int, Codes] = {}
        self._held = 0  # bytes of these

    def prepare(self, progress: Progress) -> IntArray:
        """Read every image and mask once, in the order of the manifest; return what can be read."""
        progress.expect(len(self._names), unit="images")
        readable = []
        for row in range(len(self._names)):
            progress.advance()
            if len(self._readable(np.array([row]))) and self._has_truth(row):
                readable.append(row)
        return np.array(readable, np.int64)

    def _has_truth(self, row: int) -> bool:
        try:
            self.truth(row)
        except IngestError:
            return False
        return True

    def truth(self, row: int) -> Codes:
        """Return what a mask says, as `Outline.codes` says what a network does.

        Raises:
            IngestError: It changed since the survey.
        """
        if row in self._truths:
            return self._truths[row]
        codes = self.placed(row, self.classes.codes(self._masks.values(row)))
        if self._held + codes.nbytes < _MASKS_GB * 1e9:
            self._truths[row] = codes
            self._held += codes.nbytes
        return codes

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
        return MaskedBatch(self.views.plain(pixels), resize_labels(masks, sides))

    def _mask_canvases(self, rows: IntArray) -> Tensor:
        for row in rows.tolist():
            if row not in self._canvases:
                codes = torch.from_numpy(self.truth(row))
                self._canvases[row] = self.fitting(row).labels(codes)
        return torch.stack([self._canvases[row] for row in rows.tolist()]).to(self._device)
