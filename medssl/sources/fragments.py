"""Compressed DICOM pixel data: which bytes belong to which frame."""

import struct
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from medssl.errors import Reason, UnreadableFileError

_ITEM = b"\xfe\xff\x00\xe0"
_END_OF_IMAGE = b"\xff\xd9"


@dataclass(frozen=True, slots=True)
class Fragment:
    """A piece of compressed data; `place` counts from the first item after the offset table."""

    start: int
    length: int
    place: int


@dataclass(frozen=True, slots=True)
class Encapsulated:
    """All pieces of one pixel data element, and the offsets of frames as the file gives them."""

    fragments: tuple[Fragment, ...]
    offsets: tuple[int, ...]


def read_fragments(path: Path, stream: BinaryIO, start: int, end: int) -> Encapsulated:
    """List the fragments of the element whose value begins at `start`, without reading them.

    Args:
        path: For errors.
        stream: The open file.
        start: Of the basic offset table's item.
        end: Size of the file.

    Raises:
        UnreadableFileError: A fragment ends after the file, or something else stands in its place.
    """
    table_start, table_length = _item(path, stream, start, end) or (start, 0)
    stream.seek(table_start)
    offsets = struct.unpack(f"<{table_length // 4}I", stream.read(table_length // 4 * 4))
    first = place = table_start + table_length
    fragments = []
    while place + 8 <= end:
        item = _item(path, stream, place, end)
        if item is None:
            break
        fragments.append(Fragment(item[0], item[1], place - first))
        place = sum(item)
    if not fragments:
        raise UnreadableFileError(path, Reason.TRUNCATED, "compressed pixel data without content")
    return Encapsulated(tuple(fragments), offsets)


def group_frames(
    path: Path,
    stream: BinaryIO,
    pixels: Encapsulated,
    *,
    frames: int,
    extended: Sequence[int] = (),
) -> list[list[Fragment]]:
    """Return the fragments of each frame.

    One fragment per frame, then the extended and the basic offset table decide; without these a
    frame ends with the fragment that holds an end-of-image marker in its last bytes.

    Raises:
        UnreadableFileError: There are fewer pieces than frames, or no rule fits.
    """
    fragments = list(pixels.fragments)
    if frames == 1:
        return [fragments]
    if len(fragments) < frames:
        detail = f"{len(fragments)} pieces of compressed data for {frames} frames"
        raise UnreadableFileError(path, Reason.TRUNCATED, detail)
    if len(fragments) == frames:
        return [[fragment] for fragment in fragments]
    for table in (extended, pixels.offsets):
        if len(table) == frames:
            return _by_offset(path, fragments, sorted(table))
    groups = _by_marker(stream, fragments)
    if len(groups) < frames:
        detail = f"{len(groups)} images found in the compressed data for {frames} frames"
        raise UnreadableFileError(path, Reason.CORRUPT, detail)
    return groups[:frames]


def read_group(stream: BinaryIO, group: Sequence[Fragment]) -> bytes:
    """Read and join the fragments of one frame."""
    parts = []
    for fragment in group:
        stream.seek(fragment.start)
        parts.append(stream.read(fragment.length))
    return b"".join(parts)


def _item(path: Path, stream: BinaryIO, place: int, end: int) -> tuple[int, int] | None:
    """Return start and length of the item at `place`; None where another tag ends the list."""
    stream.seek(place)
    header = stream.read(8)
    if len(header) < 8:
        raise UnreadableFileError(path, Reason.TRUNCATED, "compressed pixel data ends too early")
    if header[:4] != _ITEM:
        return None
    (length,) = struct.unpack("<I", header[4:])
    if place + 8 + length > end:
        raise UnreadableFileError(path, Reason.TRUNCATED, "compressed pixel data ends too early")
    return place + 8, length


def _by_offset(
    path: Path, fragments: list[Fragment], offsets: Sequence[int]
) -> list[list[Fragment]]:
    places = [fragment.place for fragment in fragments]
    ends = [*(bisect_left(places, offset) for offset in offsets), len(fragments)]
    groups = [fragments[begin:end] for begin, end in pairwise(ends)]
    if not all(groups):
        raise UnreadableFileError(path, Reason.CORRUPT, "frame offsets that point nowhere")
    return groups


def _by_marker(stream: BinaryIO, fragments: list[Fragment]) -> list[list[Fragment]]:
    groups: list[list[Fragment]] = [[]]
    for fragment in fragments:
        groups[-1].append(fragment)
        stream.seek(fragment.start + max(0, fragment.length - 10))
        if _END_OF_IMAGE in stream.read(min(10, fragment.length)):
            groups.append([])
    return [group for group in groups if group]
