"""In which colours the tiles of a slide in TIFF are stored, and JPEG 2000 of Aperio's scanners.

Of the latter the compression says what a codestream holds, and the photometric interpretation is
often wrong: 33003 is YCbCr, which the codestream itself says nothing of, and 33005 RGB.

Source:
    OpenSlide, "Aperio format", openslide.org/formats/aperio; ITU-T T.800, A.5.1 (image and tile
    size).
"""

import struct
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from PIL import Image
from tifffile import PHOTOMETRIC

from medssl.errors import Reason, UnreadableFileError, UnsupportedImageError
from medssl.sources.slide_pyramid import Pixels
from medssl.sources.tiff_file import JPEG

_YCBCR = 33003
APERIO_JPEG_2000 = frozenset((_YCBCR, 33005))
_UNREAD = {
    PHOTOMETRIC.PALETTE: "colours of a palette",
    PHOTOMETRIC.SEPARATED: "colours of inks, such as CMYK",
    PHOTOMETRIC.CIELAB: "CIELab",
    PHOTOMETRIC.ICCLAB: "CIELab",
    PHOTOMETRIC.ITULAB: "CIELab",
    PHOTOMETRIC.YCBCR: "YCbCr without JPEG",
}
_BEGIN, _HEADER_BYTES = b"\xff\x4f\xff\x51", 4096  # of a codestream, and where it begins at last
_SIZE = struct.Struct(">8x8I H")  # the markers, then sides and corners, then components
_EACH = ((1, 1),) * 3
_SAMPLINGS = (_EACH, ((1, 1), (2, 1), (2, 1)), ((1, 1), (2, 2), (2, 2)))  # 4:4:4, 4:2:2, 4:2:0


def require_colours(path: Path, page: Any) -> None:
    """Raise unless the tiles of a page come out in 8-bit RGB.

    Raises:
        UnsupportedImageError: They do not.
    """
    aperio, jpeg = page.compression in APERIO_JPEG_2000, page.compression in JPEG
    is_ycbcr = page.photometric == PHOTOMETRIC.YCBCR and jpeg
    if page.photometric in _UNREAD and not (is_ycbcr or aperio):
        detail = f"a slide in {_UNREAD[page.photometric]}; convert it to RGB"
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
    is_known = is_ycbcr or aperio or page.photometric == PHOTOMETRIC.RGB
    if not is_known or page.samplesperpixel < 3 or page.dtype != np.uint8:
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, "a slide without 8-bit colours")


def decode_aperio(path: Path, page: Any, data: bytes) -> Pixels:
    """Decode a tile of a page whose compression is in `APERIO_JPEG_2000`, `[rows, columns, 3]`.

    Raises:
        UnreadableFileError: Damaged, or of another size than the page says.
        UnsupportedImageError: Colours stored in a way that is not known.
    """
    sides = (page.tilelength, page.tilewidth)
    codestream = data[max(0, data.find(_BEGIN, 0, _HEADER_BYTES)) :]  # what a wrapper says is moot
    samplings = _samplings(path, codestream, sides)
    values: Pixels = np.asarray(imagecodecs.jpeg2k_decode(codestream, numthreads=1))
    if values.dtype != np.uint8 or values.shape != (*sides, 3):
        raise UnreadableFileError(path, Reason.CORRUPT, "a tile of another size or depth")
    if page.compression != _YCBCR or samplings != _EACH:  # of the latter the decoder makes RGB
        return values
    return np.asarray(Image.fromarray(values, "YCbCr").convert("RGB"))


def _samplings(path: Path, data: bytes, sides: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """Return the steps from one sample to the next of each component, across and down, px."""
    if not data.startswith(_BEGIN) or len(data) < _SIZE.size + 9:
        raise UnreadableFileError(path, Reason.CORRUPT, "a tile that is no JPEG 2000")
    right, bottom, left, top, *_, count = _SIZE.unpack_from(data)
    if (bottom - top, right - left) != sides:
        raise UnreadableFileError(path, Reason.CORRUPT, "a tile of another size or depth")
    components = data[_SIZE.size : _SIZE.size + 9]
    samplings = tuple(zip(components[1::3], components[2::3], strict=True))
    if count != 3 or samplings not in _SAMPLINGS:
        detail = "a slide in JPEG 2000 of components that are no colours, or sampled unusually"
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
    return samplings
