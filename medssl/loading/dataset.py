"""Manifest rows as 16-bit canvases, square or cubic, in batches ordered by seed and epoch only.

A file that became unreadable after the scan costs its own row, not the run: the row is left out
of its batch (`DecodedBatch.index` says which rows are there), one warning names the sample, and
`CanvasDataset.unreadable` lists all of them. It is not tried again in the same run, so that
epochs stay comparable. A batch that loses more than half of its rows is a `DataError`, and so is
any loss when several processes train together, where all must hold equally many rows. Patches of a
volume are lost together, and count as one.

A patch of a volume that holds one value only, such as one of air, says nothing that a patch of
another patient does not say. Where batches are learnt from without labels, another patch of the
volume takes its place.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils.data import Dataset

from medssl.config import StainMethod, Window
from medssl.errors import DataError, IngestError
from medssl.loading.cache import BLANK, UNREADABLE, CanvasCache
from medssl.loading.canvas import CANVAS_VERSION, CanvasReader
from medssl.loading.canvas_keys import canvas_keys
from medssl.loading.patch_canvas import PatchReader
from medssl.loading.scanned_files import ScannedFiles
from medssl.loading.slab_canvas import SlabReader
from medssl.loading.store import CanvasStore, StorePlan
from medssl.loading.volume_canvas import VolumeReader
from medssl.manifest import Manifest
from medssl.manifest_paths import as_written, is_remote
from medssl.sources.local import one_copy_kept
from sslcore.random import derive_keys

_INSTEAD = 0xA1B  # keeps the keys of this choice apart from others

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DecodedBatch:
    """Images as read, before any view.

    Attributes:
        pixels: `[batch, channels, canvas, canvas]`, of volumes with a third side, uint16, 65535
            for the brightest.
        index: Row of the manifest each image came from, `[batch]`, int64.
        epoch: From 0; together with `index` and the seed it decides the views.
    """

    pixels: Tensor
    index: Tensor
    epoch: int

    def pin_memory(self) -> Self:
        """Return the batch in memory that a GPU copies from without waiting."""
        return replace(self, pixels=self.pixels.pin_memory(), index=self.index.pin_memory())


class CanvasDataset(Dataset[Tensor]):
    """Decoded images of one manifest, kept in memory as far as `cache_gb` reaches.

    Attributes:
        store: Where they are kept on disk, or None.
        changed: Rows read here that the store may not keep: their files are no longer as they were
            scanned, or the site key is not here that tells.
    """

    def __init__(
        self,
        manifest: Manifest,
        *,
        canvas: int,
        channels: int,
        window: Window = Window.AUTO,
        stain: StainMethod | None = None,
        spacing_mm: float | None = None,
        cache_gb: float = 1.0,
        store: StorePlan | None = None,
    ) -> None:
        """Prepare to read; nothing is decoded yet.

        Args:
            manifest: What to read; of volumes if it is one of `medssl.volumes.samples`.
            canvas: Side of the delivered images, px; see `medssl.loading.canvas.choose_canvas`.
            channels: 1 or 3; colour becomes grey and grey is repeated as needed.
            window: How stored values become 0 to 1.
            stain: See `medssl.transforms.stain_normalisation`; of images in colour.
            spacing_mm: Between the pixels of a canvas; by default the longest side fills it.
            cache_gb: The first rows of the manifest that fit into this are decoded once only.
            store: Where decoded images are kept on disk; nowhere by default.

        Raises:
            OutputError: The store cannot be made.
            ConfigError: There is a store, and the site key cannot be read.
        """
        self._shape = (channels, *[canvas] * (3 if manifest.holds_volumes else 2))
        form: dict[str, Any] = {"canvas": canvas, "window": window, "spacing_mm": spacing_mm}
        self._reader: CanvasReader | VolumeReader | SlabReader | PatchReader
        if manifest.patch is not None:
            self._reader = PatchReader(manifest, channels=channels, window=window)
        elif manifest.holds_volumes:
            self._reader = VolumeReader(manifest, channels=channels, **form)
        elif manifest.slices is not None:
            self._reader = SlabReader(manifest, **form)
        else:
            self._reader = CanvasReader(manifest, channels=channels, stain=stain, **form)
        self._samples: list[str] = manifest.rows["sample"].to_list()
        self._cache = CanvasCache(len(manifest), self._shape, cache_gb)
        self.store = None
        self.changed: set[int] = set()
        if store is not None:
            settings = f"{CANVAS_VERSION} {self._shape} {window} {stain} {spacing_mm}"
            self._files = ScannedFiles(manifest)
            volumes = {} if isinstance(self._reader, CanvasReader) else self._reader.volumes
            keys = canvas_keys(manifest, settings, volumes, in_mm=spacing_mm is not None)
            self.store = CanvasStore(store, keys, self._shape)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Tensor:
        """Return one canvas, `[channels, canvas, canvas(, canvas)]`, uint16.

        Raises:
            IngestError: The file cannot be read any more.
        """
        pixels = self._cache.get(index)
        if pixels is None:
            pixels = self._from_disk(index)
            is_patch = isinstance(self._reader, PatchReader)
            self._cache.put(index, pixels, blank=is_patch and _is_blank(pixels))
        return pixels

    def _from_disk(self, index: int) -> Tensor:
        store = self.store
        pixels = None if store is None else store.get(index)
        if pixels is None:
            pixels = self._reader.read(index)
            if store is not None and store.places[index] is not None:
                self._keep(store, index, pixels)
        return pixels

    def _keep(self, store: CanvasStore, index: int, pixels: Tensor) -> None:
        if self._files.are_unchanged(index):  # asked after reading: it may change meanwhile
            store.put(index, pixels)
            return
        if not self.changed:
            logger.warning(
                "sample %s and maybe others changed since the scan, or the site key did: they are"
                " decoded each time, and not stored; scan again",
                self._samples[index],
            )
        self.changed.add(index)

    @property
    def is_array(self) -> bool:
        """Whether reading is copying from an array, so that worker processes would only cost."""
        return self._reader.is_array

    @property
    def decodes_again(self) -> bool:
        """Whether volumes are decoded for each patch: more than memory holds, and no store."""
        in_store = self.store is not None and None not in self.store.places
        is_held = in_store or self._cache.has_place(len(self) - 1)
        return isinstance(self._reader, PatchReader) and not is_held

    @property
    def is_remote(self) -> bool:
        """Whether the files are fetched from a remote folder."""
        return is_remote(self._reader.root)

    @property
    def unreadable(self) -> tuple[str, ...]:
        """The samples left out so far, in the order of the manifest."""
        rows = (self._cache.state == UNREADABLE).nonzero().flatten().tolist()
        return tuple(self._samples[row] for row in rows)

    @property
    def num_blank(self) -> int:
        """How many patches of one value were seen so far."""
        return int((self._cache.state == BLANK).sum())

    def blocks(self, size: int) -> list[list[int]]:
        """Divide the rows for several processes that read them in order: by volume if it is cut."""
        if isinstance(self._reader, PatchReader):
            return list(self._reader.rows.values())
        count = len(self)
        return [list(range(first, min(first + size, count))) for first in range(0, count, size)]

    def share_cache(self) -> None:
        """Let worker processes fill one cache together; call it before they start."""
        self._cache.share()

    def read_batch(
        self, index: Tensor, epoch: int = 0, *, complete: bool = False, learns: bool = False
    ) -> DecodedBatch:
        """Return the canvases of the rows `index`, without those that cannot be read.

        Args:
            index: Rows of the manifest, `[batch]`, int64.
            epoch: Passed on.
            complete: Whether a missing row is an error.
            learns: Whether other patches take the places of blank ones.

        Raises:
            DataError: More than half of the rows are missing, and not one only, or of the volumes
                if they are patches; or any if `complete`.
        """
        cached = self._cache.get_all(index)
        if cached is not None:
            return DecodedBatch(cached, index, epoch)
        with one_copy_kept():
            found = [self._read_row(row, epoch, learns=learns) for row in index.tolist()]
        canvases = [pixels for _, pixels in found if pixels is not None]
        missing = self._sources([row for row, pixels in found if pixels is None])
        all_there = self._sources(index.tolist())
        if missing > max(1, all_there // 2) or (missing and complete):
            raise DataError(
                f"{missing} of the {all_there} {self._kind} of a batch were readable when the"
                f" folder was scanned but are not now; is {as_written(self._reader.root)} still"
                " there? Or scan again"
            )
        rows = [row for row, pixels in found if pixels is not None]
        blank = torch.empty((0, *self._shape), dtype=torch.uint16)
        pixels = torch.stack(canvases) if canvases else blank
        return DecodedBatch(pixels, torch.tensor(rows, dtype=torch.int64), epoch)

    def _read_row(self, row: int, epoch: int, *, learns: bool) -> tuple[int, Tensor | None]:
        """Read a row, or another patch of its volume if it is blank and that is learnt from."""
        state, reader = self._cache.state, self._reader
        pixels = None if learns and state[row] == BLANK else self._read_or_skip(row)
        if not learns or state[row] != BLANK or not isinstance(reader, PatchReader):
            return row, pixels
        near = torch.tensor(reader.beside(row))
        for other in near[derive_keys(near, _INSTEAD, epoch, row).argsort()].tolist():
            found = None if state[other] == BLANK else self._read_or_skip(other)
            if found is not None and state[other] != BLANK:
                return other, found
        return row, self._read_or_skip(row)

    def _read_with_others(self, row: int) -> Tensor:
        """Read a row; where that decodes a volume, all of its patches that can be kept are."""
        if not isinstance(self._reader, PatchReader):
            return self[row]
        before = self._reader.decoded
        pixels = self[row]
        if self._reader.decoded > before:
            for other in self._reader.beside(row):
                if self._cache.has_place(other) or (self.store and self.store.places[other]):
                    _ = self[other]
        return pixels

    def _read_or_skip(self, row: int) -> Tensor | None:
        if self._cache.state[row] == UNREADABLE:
            return None
        try:
            return self._read_with_others(row)
        except IngestError as error:
            self.leave_out(row, error)
            return None

    def leave_out(self, row: int, error: IngestError) -> None:
        """Take note of a row that cannot be read, with all patches of its volume; tell it once."""
        if self._cache.state[row] == UNREADABLE:
            return
        lost = self._reader.beside(row) if isinstance(self._reader, PatchReader) else [row]
        self._cache.state[lost] = UNREADABLE
        others = f" and {len(lost) - 1} more of its volume" if len(lost) > 1 else ""
        about = (self._samples[row], others, error.reason, error.detail)
        logger.warning("sample %s%s left out: %s, %s", *about)

    def _sources(self, rows: list[int]) -> int:
        """Count what is read for some rows: the volumes that patches are of, or else the rows."""
        if not isinstance(self._reader, PatchReader):
            return len(rows)
        return len({self._reader.beside(row)[0] for row in rows})

    @property
    def _kind(self) -> str:
        return "volumes" if isinstance(self._reader, PatchReader) else "images"


def _is_blank(pixels: Tensor) -> bool:
    values = pixels.view(torch.int16)  # torch cannot compare uint16
    return bool((values == values.flatten()[0]).all())


def iter_canvases(dataset: CanvasDataset, batch_size: int) -> Iterator[DecodedBatch]:
    """Read all rows in the order of the manifest; batches may be short, but never empty."""
    for first in range(0, len(dataset), batch_size):
        batch = dataset.read_batch(torch.arange(first, min(first + batch_size, len(dataset))))
        if len(batch.index):
            yield batch
