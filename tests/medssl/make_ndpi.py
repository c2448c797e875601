"""Slides in NDPI of known pictures, written by the published description, not by the reader.

Source:
    OpenSlide, "Hamamatsu format", section "NDPI", openslide.org/formats/hamamatsu.
"""

import io
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


class Page(NamedTuple):
    """What to write as one page.

    Attributes:
        picture: `[rows, columns, 3]`.
        lens: Magnification; below 0 for pictures of the glass.
        mpp: Microns per pixel.
        focus: nm off the nominal focal plane.
        blocks: JPEG blocks from one restart marker to the next; 0 for none.
    """

    picture: Pixels
    lens: float
    mpp: float
    focus: int = 0
    blocks: int = 16


def write_ndpi(path: Path, pages: Sequence[Page]) -> Path:
    """Write the file: classic TIFF, but for the offsets of pages, which have 8 bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file, link = bytearray(b"II*\0" + bytes(8)), 4
    for page in pages:
        jpeg = _jpeg(page)
        begins, place = _restarts(jpeg), _put(file, jpeg)
        maker = _put(file, b"Hamamatsu\0")
        pixels_per_cm = _put(file, struct.pack("<II", round(1e7 / page.mpp), 1000))
        starts = _put(file, struct.pack(f"<{len(begins)}I", *begins))
        bits = _put(file, struct.pack("<HHH", 8, 8, 8))
        lens = struct.unpack("<I", struct.pack("<f", page.lens))[0]
        rows, columns = page.picture.shape[:2]
        tags = [
            (256, 4, 1, columns),
            (257, 4, 1, rows),
            (258, 3, 3, bits),
            (259, 3, 1, 7),  # JPEG
            (262, 3, 1, 6),  # YCbCr
            (271, 2, 10, maker),
            (273, 4, 1, place),
            (277, 3, 1, 3),
            (278, 4, 1, rows),
            (279, 4, 1, len(jpeg)),
            (282, 5, 1, pixels_per_cm),
            (283, 5, 1, pixels_per_cm),
            (296, 3, 1, 3),  # cm
            (65420, 4, 1, 1),
            (65421, 11, 1, lens),
            (65424, 9, 1, page.focus % (1 << 32)),
        ]
        tags += [(65426, 4, len(begins), starts)] if page.blocks else []
        file += bytes(len(file) % 2)
        struct.pack_into("<Q", file, link, len(file))
        file += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
        link = len(file)
        file += bytes(8 + 4 * len(tags))  # the next page, and the high halves of values
    path.write_bytes(file)
    return path


def _put(file: bytearray, data: bytes) -> int:
    place = len(file)
    file += data + bytes(len(data) % 2)
    return place


def _jpeg(page: Page) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(page.picture)
    image.save(stream, "JPEG", quality=95, subsampling=0, restart_marker_blocks=page.blocks)
    return stream.getvalue()


def _restarts(jpeg: bytes) -> list[int]:
    """Return where the intervals begin."""
    scan = jpeg.index(b"\xff\xda")
    first = scan + 2 + struct.unpack_from(">H", jpeg, scan + 2)[0]
    codes = np.frombuffer(jpeg, np.uint8)
    is_marker = (codes[first:-1] == 0xFF) & (codes[first + 1 :] & 0xF8 == 0xD0)
    return [first, *(first + 2 + np.flatnonzero(is_marker)).tolist()]
