"""PNG, JPEG and BMP files, at their full depth."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
from PIL import Image
from pydicom.uid import JPEGExtended12Bit

from medssl.errors import Reason, UnreadableFileError
from medssl.sources.decoded import Decoded, FileFacts, Values
from medssl.sources.dicom_codecs import codestream_size, jpeg_marker, jpeg_precision
from medssl.sources.reading import reading, require_budget, require_frame

_FORMATS = {"png": ("PNG",), "jpeg": ("JPEG",), "bmp": ("BMP",)}
_ORIENTATION = 0x0112  # EXIF and TIFF tag
_PLAIN_JPEG = (0xC0, 0xC1, 0xC2)  # the processes that Pillow reads, with 8 bit
_HEAD_BYTES = 1 << 18  # reaches past the EXIF data of a JPEG to its frame header


@dataclass(frozen=True, slots=True)
class RasterFile:
    """An open image file of one frame, decoded by Pillow. An `ImageReader`."""

    path: Path
    image: Image.Image

    @property
    def facts(self) -> FileFacts:
        """What holds for the whole file."""
        return FileFacts(frames=1)

    def decode(self, frame: int) -> Decoded:
        """Decode the image; see `flatten` for what becomes of transparency."""
        require_frame(self.path, frame, 1)
        with reading(self.path, "pixels"):
            self.image.load()
            orientation = self.image.getexif().get(_ORIENTATION)
            if self.image.format == "PNG" and _is_deep_colour(self.path, self.image):
                values, bits, photometric = _decode_deep_png(self.path)
            else:
                values, bits, photometric = _from_pillow(self.image)
        return Decoded(upright(values, orientation), photometric, bits)


@dataclass(frozen=True, slots=True)
class DeepJpegFile:
    """A JPEG file of more than 8 bit, or without loss. An `ImageReader`."""

    path: Path

    @property
    def facts(self) -> FileFacts:
        """What holds for the whole file."""
        return FileFacts(frames=1)

    def decode(self, frame: int) -> Decoded:
        """Decode the image."""
        require_frame(self.path, frame, 1)
        with reading(self.path, "pixels"):
            data = self.path.read_bytes()
            values, photometric = flatten(np.asarray(imagecodecs.jpeg8_decode(data)))
        return Decoded(values, photometric, jpeg_precision(data) or 8)


@contextmanager
def open_raster(path: Path, kind: str) -> Iterator[RasterFile | DeepJpegFile]:
    """Open a PNG, JPEG or BMP file.

    Raises:
        UnreadableFileError: Damaged.
        TooLargeError: More than the pixel budget, judged before decoding.
    """
    with reading(path, "header"):
        is_deep = kind == "jpeg" and _is_deep_jpeg(path)
        image = None if is_deep else Image.open(path, formats=_FORMATS[kind])
    if image is None:
        yield DeepJpegFile(path)
        return
    with image:
        require_budget(path, image.height, image.width)
        yield RasterFile(path, image)


def flatten(values: Values) -> tuple[Values, str]:
    """Return `[rows, columns]` or RGB from 1 to 4 channels, and its photometric interpretation.

    Transparency is shown on black, the background of radiological displays.
    """
    if values.ndim == 2:
        return values, "MONOCHROME2"
    if values.shape[2] in (2, 4):
        alpha = values[..., -1:]
        full = np.iinfo(values.dtype).max
        values = values[..., :-1]
        if (alpha != full).any():
            values = (values.astype(np.float64) * alpha / full).round().astype(values.dtype)
    if values.shape[2] == 1:
        return values[..., 0], "MONOCHROME2"
    return values, "RGB"


def upright(values: Values, orientation: object) -> Values:
    """Turn an image as its EXIF or TIFF orientation (1 to 8) asks; anything else leaves it."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return np.ascontiguousarray(values)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES)


def _is_deep_jpeg(path: Path) -> bool:
    """Tell a JPEG of a process that Pillow does not read, if its header can be followed.

    Raises:
        TooLargeError: More than the pixel budget.
    """
    head = _head(path)
    marker, precision = jpeg_marker(head), jpeg_precision(head)
    if marker is None and precision is None:
        return False
    size = codestream_size(JPEGExtended12Bit, head) or (0, 0, 0)
    require_budget(path, *size[:2])
    return marker not in _PLAIN_JPEG or precision != 8


def _is_deep_colour(path: Path, image: Image.Image) -> bool:
    """Tell whether Pillow reduced 16 bit to 8; it keeps them for plain grey only."""
    return _head(path)[24:25] == b"\x10" and not image.mode.startswith("I")


def _decode_deep_png(path: Path) -> tuple[Values, int, str]:
    values = np.asarray(imagecodecs.png_decode(path.read_bytes()))
    if values.dtype != np.uint16:
        raise UnreadableFileError(path, Reason.CORRUPT, "pixels of another depth than announced")
    flat, photometric = flatten(values)
    return flat, 16, photometric


def _from_pillow(image: Image.Image) -> tuple[Values, int, str]:
    if image.mode == "1":
        return np.asarray(image).astype(np.uint8), 1, "MONOCHROME2"
    if image.mode.startswith("I"):
        return np.asarray(image).astype(np.uint16), 16, "MONOCHROME2"
    if image.mode in ("P", "PA"):
        values, _ = flatten(np.asarray(image.convert("RGBA")))
        return values, 8, "PALETTE COLOR"
    if image.mode not in ("L", "LA", "RGB", "RGBA"):  # CMYK, YCbCr, ...
        image = image.convert("RGB")
    values, photometric = flatten(np.asarray(image))
    return values, 8, photometric
