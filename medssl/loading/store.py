"""Decoded canvases on disk: read once from the files, then from here by every run and process.

STORE/
    .../keys.npy       one folder for each part; what each canvas is made of, hashed, `[n, 16]`
    .../marks.npy      0, or 2^32 + the CRC-32 of a canvas that is complete, `[n]`
    .../canvases.npy   `[n, channels, canvas, canvas(, canvas)]`, uint16; what is marked counts

A key stands for the image and for every setting that changes its canvas, so nothing here is ever
out of date: what has changed has another key. Data that has grown gets a further part. A canvas is
written before its mark and its mark is checked whenever it is read, so a process may be killed at
any moment, and several may fill one store: whoever comes later writes the same bytes once more.
"""

import errno
import hashlib
import logging
import math
import os
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sslcore.errors import OutputError
from sslcore.files import output_errors, whole_folder

logger = logging.getLogger(__name__)

Keys = NDArray[np.uint8]

_KEY_BYTES = 16
_COMPLETE = 1 << 32  # added to the checksum, so that no complete canvas has the mark 0
_MARK_BYTES = 8


class StorePlan(NamedTuple):
    """Which store to use.

    Attributes:
        folder: Made if it is not there.
        gigabytes: Upper bound for all of it, on disk; with 0 it is looked at and does not grow.
    """

    folder: Path
    gigabytes: float


class Place(NamedTuple):
    """Where a canvas lies: the part, and its row there."""

    part: int
    row: int


class Check(NamedTuple):
    """What `CanvasStore.verify` found.

    Attributes:
        complete: Canvases that are as they were written.
        missing: Places that are still empty.
        damaged: Canvases that are not; they are taken for missing from now on.
    """

    complete: int
    missing: int
    damaged: int


class CanvasStore:
    """The canvases of one data set in a store.

    Attributes:
        folder: Where it lies.
        shape: Of a canvas.
        bytes_each: Of a canvas.
        places: Where each row of the data set lies; None for what the budget has no place for.
    """

    def __init__(self, plan: StorePlan, keys: Sequence[bytes], shape: tuple[int, ...]) -> None:
        """Open or make a store, with places for what it does not have yet.

        Args:
            plan: The folder may be used by other data sets, and by other processes at the time.
            keys: See `canvas_key`, one for each row.
            shape: Of a canvas.

        Raises:
            OutputError: It cannot be made, or is damaged.
        """
        self.folder = plan.folder
        self.shape = shape
        self.bytes_each = 2 * math.prod(shape)
        self._parts: list[_Part] = []
        known = self._open_parts()
        missing = list(dict.fromkeys(key for key in keys if key not in known))
        taken = sum(part.num_bytes for part in self._parts)
        room = max(0, int(plan.gigabytes * 1e9) - taken) // self.bytes_each
        if missing and room:
            self._add_part(missing[:room], known)
        if plan.gigabytes and room < len(missing):
            logger.warning(
                "%s has no room for %d of %d images, which are decoded again each time: raise"
                " data.store_gb",
                *(plan.folder, len(missing) - room, len(keys)),
            )
        self.places = [known.get(key) for key in keys]
        self._writes = True

    def get(self, row: int) -> Tensor | None:
        """Return a canvas; None if it is not there, or damaged."""
        place = self.places[row]
        if place is None:
            return None
        pixels = self._parts[place.part].read(place.row)
        if pixels is None:
            return None
        return torch.frombuffer(pixels, dtype=torch.uint16).view(self.shape)

    def put(self, row: int, canvas: Tensor) -> None:
        """Keep a canvas if there is a place for it; a full disk ends that, and not the work.

        Raises:
            OutputError: The disk has another problem.
        """
        place = self.places[row]
        if place is None or not self._writes:
            return
        try:
            self._parts[place.part].write(place.row, canvas.contiguous().numpy().tobytes())
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise OutputError(f"cannot write {self.folder}: {error.strerror}") from error
            self._writes = False
            logger.warning("%s: disk full; what is missing is decoded each time", self.folder)

    def count(self) -> int:
        """Return how many rows of the data set are complete."""
        marks = [part.marks() for part in self._parts]
        return sum(bool(marks[place.part][place.row]) for place in self.places if place)

    def verify(self) -> Check:
        """Read all rows of the data set."""
        found = {"complete": 0, "missing": 0, "damaged": 0}
        for place in self.places:
            state = "missing" if place is None else self._parts[place.part].check(place.row)
            found[state] += 1
        return Check(**found)

    def prune(self) -> int:
        """Delete the parts of which this data set uses nothing; return their number."""
        used = {place.part for place in self.places if place}
        unused = [part for number, part in enumerate(self._parts) if number not in used]
        with output_errors(self.folder):
            for part in unused:
                shutil.rmtree(part.folder)
        return len(unused)

    def _open_parts(self) -> dict[bytes, Place]:
        known: dict[bytes, Place] = {}
        for path in sorted(self.folder.glob("[!.]*/keys.npy")):
            part = _Part(path.parent)
            for row, key in enumerate(part.keys):
                known.setdefault(key, Place(len(self._parts), row))
            self._parts.append(part)
        return known

    def _add_part(self, keys: list[bytes], known: dict[bytes, Place]) -> None:
        name = hashlib.blake2b(b"".join(keys), digest_size=8).hexdigest()
        _make_part(self.folder / name, keys, self.shape)
        known |= {key: Place(len(self._parts), row) for row, key in enumerate(keys)}
        self._parts.append(_Part(self.folder / name))


class _Part:
    """Files of one part, read and written at given places: no shared place, no mapping."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            keys = np.load(folder / "keys.npy")
            self.keys = [key.tobytes() for key in keys]
            self._pixels, shape = _open_array(folder / "canvases.npy")
            self._marks, _ = _open_array(folder / "marks.npy")
        except (OSError, ValueError) as error:
            raise OutputError(f"{folder}: not a part of a store; delete it") from error
        self._bytes_each = 2 * math.prod(shape[1:])
        self.num_bytes = self._bytes_each * len(keys)

    def marks(self) -> NDArray[np.uint64]:
        handle, start = self._marks
        return np.frombuffer(os.pread(handle, _MARK_BYTES * len(self.keys), start), np.uint64)

    def read(self, row: int) -> bytearray | None:
        mark = self._mark(row)
        if not mark:
            return None
        handle, start = self._pixels
        pixels = bytearray(self._bytes_each)
        read = os.preadv(handle, [pixels], start + row * self._bytes_each)
        return pixels if read == self._bytes_each and _mark_of(pixels) == mark else None

    def write(self, row: int, pixels: bytes) -> None:
        for (handle, start), size, values in (
            (self._pixels, self._bytes_each, pixels),
            (self._marks, _MARK_BYTES, _mark_of(pixels).to_bytes(_MARK_BYTES, "little")),
        ):
            if os.pwrite(handle, values, start + row * size) < size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def check(self, row: int) -> str:
        if not self._mark(row):
            return "missing"
        if self.read(row) is not None:
            return "complete"
        handle, start = self._marks
        os.pwrite(handle, bytes(_MARK_BYTES), start + row * _MARK_BYTES)
        return "damaged"

    def _mark(self, row: int) -> int:
        handle, start = self._marks
        return int.from_bytes(os.pread(handle, _MARK_BYTES, start + row * _MARK_BYTES), "little")

    def __reduce__(self) -> tuple[type[Self], tuple[Path]]:
        return type(self), (self.folder,)

    def __del__(self) -> None:
        for name in ("_pixels", "_marks"):
            if name in self.__dict__:
                os.close(self.__dict__[name][0])


def canvas_key(settings: str, *parts: str | None) -> bytes:
    """Return what a canvas is kept under.

    Args:
        settings: All that change a canvas.
        parts: All that tells the image apart from others, and from itself before it changed.
    """
    text = "\0".join([settings, *("" if part is None else f"={part}" for part in parts)])
    return hashlib.blake2b(text.encode(), digest_size=_KEY_BYTES).digest()


def _make_part(folder: Path, keys: list[bytes], shape: tuple[int, ...]) -> None:
    try:
        with whole_folder(folder) as draft:
            np.save(draft / "keys.npy", np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 16))
            np.save(draft / "marks.npy", np.zeros(len(keys), "<u8"))
            pixels = (len(keys), *shape)
            np.lib.format.open_memmap(draft / "canvases.npy", "w+", "<u2", pixels).flush()
    except OutputError:
        if not folder.is_dir():  # else another process was quicker
            raise


def _open_array(path: Path) -> tuple[tuple[int, int], tuple[int, ...]]:
    """Return handle and start of the values, and the shape."""
    array = np.load(path, mmap_mode="r")
    return (os.open(path, os.O_RDWR), int(array.offset)), array.shape


def _mark_of(pixels: bytes | bytearray) -> int:
    return _COMPLETE + zlib.crc32(pixels)
