"""Decoded canvases on disk: read once from the files, then from here by every run and process.

STORE/
    .lock              held while parts are looked for, added and deleted
    .../keys.npy       one folder for each part; what each canvas is made of, hashed, `[n, 16]`
    .../marks.npy      0, or 2^32 + the CRC-32 of a canvas that is complete, `[n]`
    .../canvases.npy   `[n, channels, canvas, canvas(, canvas)]`, uint16; what is marked counts

A key stands for the image and for every setting that changes its canvas, so nothing here is ever
out of date: what has changed has another key. Data that has grown gets a further part. A canvas is
written before its mark and its mark is checked whenever it is read, so a process may be killed at
any moment, and several may fill one store: whoever comes later writes the same bytes once more.
Parts appear and disappear whole. On a file system without locks two processes may both make places
for one image; the filled one counts.
"""

import errno
import hashlib
import logging
import math
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from medssl.loading.store_part import KEY_BYTES, Part, find_parts, make_part
from sslcore.errors import OutputError
from sslcore.files import output_errors, remove_drafts, remove_folder, require_local, taking_turns

logger = logging.getLogger(__name__)

_LOCK = ".lock"
_ENDS_WRITING = {
    errno.ENOSPC: "disk full",
    errno.EDQUOT: "disk full",
    errno.EACCES: "may not be written",
}


class StorePlan(NamedTuple):
    """Which store to use.

    Attributes:
        folder: Made if it is not there, for this user alone; one that is there is left as it is.
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
            OutputError: It cannot be made or read, or is damaged.
        """
        self.folder = plan.folder
        self.shape = shape
        self.bytes_each = 2 * math.prod(shape)
        require_local(self.folder)
        if plan.gigabytes:
            with output_errors(self.folder):
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with taking_turns(self.folder / _LOCK) as is_alone:
            if is_alone and plan.gigabytes:
                with suppress(OutputError):  # a draft of another user costs its disk only
                    remove_drafts(self.folder)
            parts = find_parts(self.folder)
            known = _places(parts)
            self._grow(plan, keys, parts, known)
            self.places = [known.get(key) for key in keys]
            used = {place.part for place in self.places if place}
            self._parts = {number: parts[number].open() for number in sorted(used)}
        self._unused = [part.folder for number, part in enumerate(parts) if number not in used]
        self._writes = True

    def get(self, row: int) -> Tensor | None:
        """Return a canvas; None if it is not there, or damaged.

        Raises:
            OutputError: The disk has a problem.
        """
        place = self.places[row]
        if place is None:
            return None
        try:
            pixels = self._parts[place.part].read(place.row)
        except OSError as error:
            raise self._unreadable(error) from error
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
            pixels = canvas.contiguous().numpy().data.cast("B")
            self._parts[place.part].write(place.row, pixels)
        except OSError as error:
            reason = _ENDS_WRITING.get(error.errno or 0)
            if reason is None:
                raise OutputError(f"cannot write {self.folder}: {error.strerror}") from error
            self._writes = False
            logger.warning("%s: %s; what is missing is decoded each time", self.folder, reason)

    def count(self) -> int:
        """Return how many rows of the data set are complete."""
        marks = {number: part.marks() for number, part in self._parts.items()}
        return sum(bool(marks[place.part][place.row]) for place in self.places if place)

    def verify(self) -> Check:
        """Read all rows of the data set.

        Raises:
            OutputError: The disk has a problem.
        """
        found = {"complete": 0, "missing": 0, "damaged": 0}
        for place in self.places:
            try:
                state = "missing" if place is None else self._parts[place.part].check(place.row)
            except OSError as error:
                raise self._unreadable(error) from error
            found[state] += 1
        return Check(**found)

    def prune(self) -> int:
        """Delete the parts of which this data set uses nothing; return their number.

        Raises:
            OutputError: One cannot be deleted.
        """
        with taking_turns(self.folder / _LOCK):
            unused = [folder for folder in self._unused if folder.is_dir()]
            for folder in unused:
                remove_folder(folder)
        self._unused.clear()
        return len(unused)

    def _unreadable(self, error: OSError) -> OutputError:
        return OutputError(f"cannot read {self.folder}: {error.strerror}")

    def _grow(
        self, plan: StorePlan, keys: Sequence[bytes], parts: list[Part], known: dict[bytes, Place]
    ) -> None:
        """Add a part for what is not known, as far as there is room."""
        missing = list(dict.fromkeys(key for key in keys if key not in known))
        if not missing or not plan.gigabytes:
            return
        taken = sum(part.num_bytes for part in parts)
        room = max(0, int(plan.gigabytes * 1e9) - taken) // self.bytes_each
        reason, way_out = "has no room for", "raise data.store_gb"
        if not os.access(self.folder, os.W_OK):
            room, reason, way_out = 0, "may not be written and lacks", "name another data.store"
        added = missing[:room]
        if added:
            name = hashlib.blake2b(b"".join(added), digest_size=8).hexdigest()
            known |= {key: Place(len(parts), row) for row, key in enumerate(added)}
            parts.append(make_part(self.folder / name, added, self.shape))
        if room < len(missing):
            logger.warning(
                "%s %s %d of %d images, which are decoded again each time: %s",
                *(self.folder, reason, len(missing) - room, len(keys), way_out),
            )


def canvas_key(settings: str, *parts: str | None) -> bytes:
    """Return what a canvas is kept under.

    Args:
        settings: All that change a canvas.
        parts: All that tells the image apart from others, and from itself before it changed.
    """
    text = "\0".join([settings, *("" if part is None else f"={part}" for part in parts)])
    return hashlib.blake2b(text.encode(), digest_size=KEY_BYTES).digest()


def _places(parts: list[Part]) -> dict[bytes, Place]:
    """Return where each key lies: where it is filled, else where it can be."""
    known: dict[bytes, Place] = {}
    empty: dict[bytes, Place] = {}
    for number, part in enumerate(parts):
        for row, (key, mark) in enumerate(zip(part.keys(), part.marks().tolist(), strict=True)):
            if mark:
                known.setdefault(key, Place(number, row))
            elif part.is_writable:
                empty.setdefault(key, Place(number, row))
    return empty | known
