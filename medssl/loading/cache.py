"""Decoded canvases in memory, shared by the processes that read them."""

import logging
import math
import shutil
from pathlib import Path

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

EMPTY, CACHED, UNREADABLE, BLANK = 0, 1, 2, 3
_HELD = (CACHED, BLANK)  # where there is room

_SHARED_MEMORY = Path("/dev/shm")
_SHARED_PART = 0.7  # of what is free there; the loader needs some for batches on their way


class CanvasCache:
    """Holds the first rows of a data set, as many as fit, and what is known about every row.

    The memory of one process is taken page by page, as canvases are stored; shared memory is taken
    all at once. The bits are kept as int16, because torch can neither index nor pickle uint16.
    """

    def __init__(self, num_samples: int, shape: tuple[int, ...], gigabytes: float) -> None:
        """Plan for canvases of `shape`; `gigabytes` is an upper bound."""
        self._shape = shape
        self._bytes_each = 2 * math.prod(shape)
        self._room = min(num_samples, int(gigabytes * 1e9) // self._bytes_each)
        self.state = torch.full((num_samples,), EMPTY, dtype=torch.uint8)
        self._pixels = self._reserve(shared=False)

    def share(self) -> None:
        """Move to memory that worker processes fill together; call it before they start."""
        if self._room:
            self._room = min(self._room, self._shared_room())
        self.state[self._room :][self.state[self._room :] == CACHED] = EMPTY
        self.state.share_memory_()  # type: ignore[no-untyped-call]
        stored, self._pixels = self._pixels, self._reserve(shared=True)
        held = torch.isin(self.state[: self._room], torch.tensor(_HELD, dtype=torch.uint8))
        for row in held.nonzero().flatten().tolist():
            self._pixels[row] = stored[row]

    def get(self, row: int) -> Tensor | None:
        """Return the canvas of `row` if it is stored."""
        return self._pixels[row].clone().view(torch.uint16) if self._holds(row) else None

    def get_all(self, rows: Tensor) -> Tensor | None:
        """Return the canvases of `rows`, `[batch, ...]`, if every one is stored."""
        if not bool((self.state[rows] == CACHED).all()):
            return None
        return self._pixels[rows].view(torch.uint16)

    def has_place(self, row: int) -> bool:
        """Tell whether a canvas would be stored."""
        return row < self._room

    def put(self, row: int, pixels: Tensor, *, blank: bool = False) -> None:
        """Store a canvas if there is a place for it; that it is blank is known without one."""
        if self.has_place(row):
            self._pixels[row] = pixels.view(torch.int16)
        if blank or self.has_place(row):  # after the pixels: another process may be looking
            self.state[row] = BLANK if blank else CACHED

    def _holds(self, row: int) -> bool:
        return self.has_place(row) and int(self.state[row]) in _HELD

    def _reserve(self, *, shared: bool) -> Tensor:
        shape = (self._room, *self._shape)
        if not shared or not self._room:
            return torch.empty(shape, dtype=torch.int16)
        # Not share_memory_(): it would copy every page, with a canvas or without.
        storage = torch.UntypedStorage._new_shared(self._room * self._bytes_each)  # type: ignore[no-untyped-call]  # noqa: SLF001
        pixels: Tensor = torch.empty(0, dtype=torch.int16).set_(storage)
        return pixels.view(shape)

    def _shared_room(self) -> int:
        """Count the canvases that fit; containers often have 64 MB only, and end on more."""
        if not _SHARED_MEMORY.is_dir():
            return self._room
        free = int(shutil.disk_usage(_SHARED_MEMORY).free * _SHARED_PART)
        fitting = free // self._bytes_each
        if fitting < self._room:
            logger.warning(
                "%s has %.0f MB free: %d of %d images stay in memory; give the container more"
                " shared memory, or read with data.workers=0",
                _SHARED_MEMORY,
                free / 1e6,
                fitting,
                len(self.state),
            )
        return fitting
