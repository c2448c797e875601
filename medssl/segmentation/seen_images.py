"""Images as a network that outlines sees them, and its outlines in the pixels of the files."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from medssl.encoder import open_dataset
from medssl.encoder_spec import EncoderSpec
from medssl.errors import IngestError
from medssl.fewlabels.groups import IntArray
from medssl.fewlabels.labelled_images import light_views
from medssl.loading.canvas import scales_of
from medssl.loading.fitting import Fitting
from medssl.loading.store import StorePlan
from medssl.loading.volume_canvas import volumes_by_name
from medssl.manifest import Manifest
from medssl.manifest_paths import decode_path
from medssl.masks.read import Codes
from medssl.segmentation.network import Segmenter
from medssl.view_maker import move_canvases
from medssl.volumes.read import Slices
from medssl.volumes.turning import turned, turned_back
from sslcore.training.health import evaluating

_AT_ONCE = {2: 32, 3: 2}  # views that are outlined together


class Outline(NamedTuple):
    """What a network says of a sample.

    Attributes:
        row: Of the manifest.
        view: As the network saw it, `[channels, *sides]`.
        codes: Number of the class of each pixel of the file, 0 for none, `[rows, columns]`; of a
            volume with the axes that its canvas has, see `medssl.loading.volume_canvas`.
    """

    row: int
    view: Tensor
    codes: Codes


class SeenImages:
    """The samples of a manifest.

    Attributes:
        spec: Of the encoder.
        views: How an image is looked at.
    """

    def __init__(
        self,
        manifest: Manifest,
        spec: EncoderSpec,
        *,
        device: torch.device,
        cache_gb: float = 1.0,
        store: StorePlan | None = None,
    ) -> None:
        """Prepare to read `manifest` as the encoder was trained on."""
        self.spec = spec
        self.views = light_views(spec)
        self._device = device
        self._root = manifest.root
        self._volumes = volumes_by_name(manifest) if manifest.holds_volumes else {}
        self._names: list[str] = manifest.rows["volume"].to_list()
        self._sizes = list(manifest.rows.select("rows", "columns").iter_rows())
        self._scales = scales_of(manifest.rows, spec.spacing_mm)
        self._dataset = open_dataset(manifest, spec, cache_gb=cache_gb, store=store)

    def fitting(self, row: int) -> Fitting:
        """Return where the pixels of a sample are in its canvas."""
        if not self._volumes:
            rows, columns = self._sizes[row]
            return Fitting.of_image(rows, columns, self.spec.canvas, self._scales[row])
        slices, first = self._volume(row)
        nothing = np.broadcast_to(np.uint8(0), (len(slices.images), *slices.size))
        placed, spacing = turned(first, nothing, slices.geometry)
        return Fitting.of_volume(placed.shape, spacing, self.spec.canvas, self.spec.spacing_mm)

    def placed(self, row: int, codes: Codes) -> Codes:
        """Return labels of a file's pixels with the axes that the canvas of the sample has."""
        if not self._volumes:
            return codes
        slices, first = self._volume(row)
        return np.ascontiguousarray(turned(first, codes, slices.geometry)[0])

    def in_file(self, row: int, codes: Codes) -> Codes:
        """Undo `placed`: return labels with the axes of the slices."""
        if not self._volumes:
            return codes
        slices, first = self._volume(row)
        return turned_back(first, codes, slices.geometry)

    @torch.no_grad()
    def outline(
        self, network: Segmenter, rows: IntArray, *, complete: bool = True
    ) -> Iterator[Outline]:
        """Name the class of each pixel of the rows.

        Args:
            network: On the device of the images.
            rows: Of the manifest.
            complete: Whether a row that cannot be read any more is an error, or left out.

        Raises:
            DataError: It is.
        """
        if not complete:
            rows = self._readable(rows)
        step = _AT_ONCE[self.spec.dims]
        with evaluating(network):
            for first in range(0, len(rows), step):
                part = rows[first : first + step]
                views = self.views.plain(self._read(part)[0])
                chances = network.logits(views).float().softmax(1).cpu()
                for row, view, own in zip(part.tolist(), views.cpu(), chances, strict=True):
                    yield Outline(row, view, decided(own, self.fitting(row)))

    def _readable(self, rows: IntArray) -> IntArray:
        """Return those of some rows that can be read; the next reading finds them in memory."""
        found = []
        for row in rows.tolist():
            try:
                self._dataset[row]
                found.append(row)
            except IngestError:
                continue
        return np.array(found, np.int64)

    def _volume(self, row: int) -> tuple[Slices, Path]:
        slices = self._volumes[self._names[row]]
        return slices, self._root / decode_path(slices.images[0][0])

    def _read(self, rows: IntArray) -> tuple[Tensor, Tensor]:
        batch = self._dataset.read_batch(torch.from_numpy(rows), complete=True)
        return move_canvases(batch.pixels, self._device), batch.index.to(self._device)


def decided(chances: Tensor, fitting: Fitting) -> Codes:
    """Return the most likely class of each pixel of a file; none beyond what the canvas shows.

    Args:
        chances: Of each class in a view, `[classes, *sides]`, that of none first.
        fitting: Where the pixels of the file are in the canvas.
    """
    best = fitting.back(chances[:1])[0]  # one class after the other: volumes are large
    codes = torch.zeros(best.shape, dtype=torch.uint8)
    for number in range(1, len(chances)):
        own = fitting.back(chances[number : number + 1])[0]
        codes[own > best] = number
        best = torch.maximum(best, own)
    found: Codes = codes.numpy()
    return found
