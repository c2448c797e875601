"""Decode all images of a data set once, into a store that every later run reads from."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch.utils.data import DataLoader, Dataset

from medssl.config import PretrainConfig
from medssl.errors import DataError, IngestError
from medssl.loading.dataset import CanvasDataset
from medssl.loading.store import CanvasStore, Check
from medssl.run_data import open_data, resolve, usable_images
from medssl.run_images import open_images
from medssl.sources.local import one_copy_kept
from sslcore.console import Progress
from sslcore.cores import usable_cores
from sslcore.errors import OutputError

_BLOCK = 32  # images between two reports of a process


@dataclass(frozen=True, slots=True)
class CacheResult:
    """What is in the store of the images of one data set.

    Attributes:
        images: That a run may read; volumes are counted as images.
        stored: Of these, in the store.
        unreadable: Of these, no longer readable.
        changed: Of these, read but not stored: see `CanvasDataset.changed`.
        gigabytes: That the stored ones take.
        shape: Of each: channels, and two or three sides.
        pruned: Parts deleted.
    """

    images: int
    stored: int
    unreadable: int
    changed: int
    gigabytes: float
    shape: tuple[int, ...]
    pruned: int

    def __str__(self) -> str:
        sides = " x ".join(map(str, self.shape))
        lines = [f"{self.stored} of {self.images} images of {sides}, {self.gigabytes:.3g} GB"]
        if self.unreadable:
            lines.append(f"{self.unreadable} could not be read, as was told; scan again")
        if self.changed:
            lines.append(
                f"{self.changed} are not known to be as they were scanned, and not stored; scan"
                " again"
            )
        if self.pruned:
            lines.append(f"parts of other data, deleted: {self.pruned}")
        return "\n".join(lines)


def cache(config: PretrainConfig, *, prune: bool = False) -> CacheResult:
    """Fill `data.store` with what `config` reads, of all splits; goes on where it was stopped.

    Args:
        config: Those settings of a run that say how images are read: of `data`, and `image_size`.
        prune: Delete what was stored for other data or settings.

    Raises:
        OutputError: The store cannot be written, or the disk is full.
        SSLError: The data cannot be used.
    """
    dataset, store = _open(config)
    pruned = store.prune() if prune else 0
    blocks = [_placed(block, store) for block in dataset.blocks(_BLOCK)]
    count = sum(map(len, blocks))
    workers = config.data.workers
    loader = DataLoader(
        _Filler(dataset),
        batch_size=None,
        sampler=blocks,
        num_workers=usable_cores() if workers is None else workers,
    )
    unreadable = changed = 0
    reports = iter(loader)  # processes start before the bar has its thread
    with Progress("cache", unit="images") as progress:
        progress.expect(count, unit="images")
        for block, (lost, other) in zip(blocks, reports, strict=True):
            unreadable, changed = unreadable + lost, changed + other
            progress.advance(len(block))
    stored = store.count()
    _require_all(store, count, stored + unreadable + changed)
    gigabytes = stored * store.bytes_each / 1e9
    return CacheResult(len(dataset), stored, unreadable, changed, gigabytes, store.shape, pruned)


def verify(config: PretrainConfig) -> Check:
    """Read all of `data.store` that `config` would read; damaged images count as missing then.

    Raises:
        DataError: There is no store.
        SSLError: The data cannot be used.
    """
    if config.data.store is None or not config.data.store.is_dir():
        raise DataError(f"{config.data.store}: no such folder; call medssl cache without --verify")
    return _open(config, store_gb=0.0)[1].verify()


def _open(config: PretrainConfig, **changes: float) -> tuple[CanvasDataset, CanvasStore]:
    data = open_data(config.data.path, workers=config.data.workers)
    resolved = resolve(config, data)
    changed = resolved.data.model_copy(update={"cache_gb": 0.0, **changes})
    resolved = resolved.model_copy(update={"data": changed})
    dataset = open_images(usable_images(data, resolved.data), resolved)
    if dataset.store is None:
        raise TypeError("expected a configuration with data.store")
    return dataset, dataset.store


def _placed(rows: Sequence[int], store: CanvasStore) -> list[int]:
    return [row for row in rows if store.places[row] is not None]


def _require_all(store: CanvasStore, room: int, done: int) -> None:
    if done < room:
        raise OutputError(
            f"{store.folder}: the disk is full or may not be written, {room - done} of {room}"
            " images are missing; make room and call the command again, it goes on where it stopped"
        )


class _Filler(Dataset[tuple[int, int]]):
    """Stores the images of a block; returns how many cannot be read, and how many have changed."""

    def __init__(self, dataset: CanvasDataset) -> None:
        self._dataset = dataset

    def __getitem__(self, block: Sequence[int]) -> tuple[int, int]:
        with one_copy_kept():
            unreadable = sum(not self._store(row) for row in block)
        return unreadable, len(self._dataset.changed.intersection(block))

    def _store(self, row: int) -> bool:
        try:
            self._dataset[row]
        except IngestError as error:
            self._dataset.leave_out(row, error)
            return False
        return True
