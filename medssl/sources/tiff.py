"""TIFF files; every full page is a frame."""

import operator
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tifffile import EXTRASAMPLE, PHOTOMETRIC

from medssl.errors import Reason, UnreadableFileError, UnsupportedImageError
from medssl.sources.decoded import Decoded, FileFacts, Values
from medssl.sources.raster import flatten, upright
from medssl.sources.reading import reading, require_budget, require_frame
from medssl.sources.tiff_file import JPEG, SLIDES, UNREAD_SLIDES, open_tiff_file

_NAMES = {
    PHOTOMETRIC.MINISBLACK: "MONOCHROME2",
    PHOTOMETRIC.MINISWHITE: "MONOCHROME1",
    PHOTOMETRIC.RGB: "RGB",
    PHOTOMETRIC.PALETTE: "PALETTE COLOR",
    PHOTOMETRIC.YCBCR: "RGB",  # the decoder of JPEG converts it
    PHOTOMETRIC.SEPARATED: "RGB",  # CMYK, converted here
}
_REDUCED = 1  # bit of NewSubfileType: a smaller version of another page


@dataclass(frozen=True, slots=True)
class TiffPages:
    """An open TIFF file. An `ImageReader`."""

    path: Path
    pages: tuple[Any, ...]
    size: int

    @property
    def facts(self) -> FileFacts:
        """What holds for the whole file."""
        return FileFacts(frames=len(self.pages))

    def decode(self, frame: int) -> Decoded:
        """Decode one page."""
        require_frame(self.path, frame, len(self.pages))
        page = self.pages[frame]
        with reading(self.path, "page"):
            photometric = _require_known(self.path, page)
            _require_data(self.path, page, self.size)
            values = np.asarray(page.asarray(maxworkers=1))
            tag = page.tags.get("Orientation")
            orientation = tag.value if tag else None
            return _decoded(self.path, page, values, photometric, orientation)


@contextmanager
def open_tiff(path: Path) -> Iterator[TiffPages]:
    """Open a TIFF or BigTIFF file. Smaller versions of a page and masks are left out.

    Raises:
        UnreadableFileError: Damaged, or without pages.
        UnsupportedImageError: A whole-slide image.
        TooLargeError: A page of more than the pixel budget.
    """
    with open_tiff_file(path) as tiff:
        with reading(path, "pages"):
            if (SLIDES | UNREAD_SLIDES.keys()) & tiff.flags:
                detail = "a whole slide, whose pages are no images by themselves"
                raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
            every: list[Any] = list(tiff.pages)
            pages = tuple(page for page in every if not _whole(path, page.subfiletype) & _REDUCED)
            if not pages:
                raise UnreadableFileError(path, Reason.NO_PIXELS, "no pages")
            for page in pages:
                rows, columns = _whole(path, page.imagelength), _whole(path, page.imagewidth)
                require_budget(path, rows, columns, "; of a slide, convert it to a tiled TIFF")
            size = os.fstat(tiff.filehandle.fileno()).st_size
        yield TiffPages(path, pages, size)


def _require_known(path: Path, page: Any) -> str:
    name = _NAMES.get(page.photometric)
    if name is None:
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, "colour space")
    if page.photometric == PHOTOMETRIC.YCBCR and page.compression not in JPEG:
        detail = "YCbCr without JPEG; convert it to RGB"
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
    samples = _whole(path, page.samplesperpixel)
    if page.imagedepth != 1 or samples > 5 or _is_multichannel(page, samples):
        detail = "a volume, or more channels than colours need"
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
    if page.dtype is None or page.dtype.kind not in "buif":
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, "kind of number")
    return name


def _is_multichannel(page: Any, samples: int) -> bool:
    """Tell stains or detectors side by side from grey with transparency: that is named as such."""
    grey = page.photometric in (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE)
    alpha = (EXTRASAMPLE.ASSOCALPHA, EXTRASAMPLE.UNASSALPHA)
    named = samples == 2 and tuple(page.extrasamples)[:1] in ((one,) for one in alpha)
    return grey and samples > 1 and not named


def _require_data(path: Path, page: Any, size: int) -> None:
    """Raise if strips or tiles lie beyond the end; tifffile would fill them with zeros."""
    offsets = [_whole(path, offset) for offset in page.dataoffsets]
    counts = [_whole(path, count) for count in page.databytecounts]
    if not offsets or len(offsets) != len(counts) or 0 in counts:
        raise UnreadableFileError(path, Reason.CORRUPT, "strips or tiles without data")
    if any(offset + count > size for offset, count in zip(offsets, counts, strict=True)):
        raise UnreadableFileError(path, Reason.TRUNCATED, "strips or tiles beyond the end")
    plain = page.compression == 1
    if plain and sum(counts) * 8 < page.size * _whole(path, page.bitspersample):
        raise UnreadableFileError(path, Reason.TRUNCATED, "less data than the size needs")


def _whole(path: Path, value: object) -> int:
    """Return the value of a tag, of which damage can make anything."""
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError as error:
        detail = "a tag that is no whole number"
        raise UnreadableFileError(path, Reason.CORRUPT, detail) from error


def _decoded(
    path: Path, page: Any, values: Values, photometric: str, orientation: object
) -> Decoded:
    bits = _whole(path, page.bitspersample)
    if values.dtype.kind == "b":
        values = values.astype(np.uint8)
    if values.ndim == 3 and page.axes.startswith("S"):  # one plane per channel
        values = np.moveaxis(values, 0, -1)
    if photometric == "PALETTE COLOR":
        if page.colormap is None:
            raise UnreadableFileError(path, Reason.CORRUPT, "no palette")
        palette = np.asarray(page.colormap, np.uint16).T
        return Decoded(upright(values, orientation), photometric, bits, palette=palette)
    if page.photometric == PHOTOMETRIC.SEPARATED:
        values = _from_cmyk(path, values)
    if values.ndim not in (2, 3):
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, f"{values.ndim} axes")
    flat, found = flatten(values) if values.dtype.kind == "u" else (values, photometric)
    if flat.ndim == 3 and flat.shape[2] != 3:
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, f"{flat.shape[2]} channels")
    inverted = photometric == "MONOCHROME1"
    return Decoded(upright(flat, orientation), "MONOCHROME1" if inverted else found, bits)


def _from_cmyk(path: Path, values: Values) -> Values:
    if values.dtype != np.uint8 or values.ndim != 3 or values.shape[2] != 4:
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, "CMYK other than 8 bit")
    return np.asarray(Image.fromarray(values, "CMYK").convert("RGB"))
