"""Masks in image files: a value per pixel that says what it is, 0 where it is nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medssl.errors import Reason, UnsupportedImageError
from medssl.intensity import rescaled
from medssl.masks.slices import Slice
from medssl.sources.decoded import Decoded, ImageReader, Linear
from medssl.sources.local import local_file
from medssl.sources.open import open_image
from medssl.sources.place import Plane
from medssl.sources.sniff import sniff
from medssl.sources.volumes import VOLUMES

COLOUR = 1 << 24  # added to red, green and blue of a mask in colour
_HIGHEST = COLOUR - 1
_SAME_PLACE = 0.1  # mm off the image
_WHOLE = 1e-3  # off a whole number, as scaled values are

Values = NDArray[np.int64]


class ValueFiles:
    """Reads masks of images, and keeps the volume that was unpacked last."""

    def __init__(self) -> None:
        self._last: tuple[Path, ImageReader] | None = None

    def read(self, path: Path, image: Slice) -> Values:
        """Return the values in the grid of an image, `[rows, columns]`, int64, from 0.

        A colour is `COLOUR` plus its 24 bit; black is 0, as any value of 0 is.

        Raises:
            IngestError: It cannot be read, holds no whole numbers, or does not fit the image.
        """
        with self._opened(path) as reader:
            if reader.facts.frames != image.frames:
                raise _unfit(path, "another number of slices or frames than the image")
            decoded = reader.decode(image.frame)
        if decoded.values.shape[:2] != image.shape:
            raise _unfit(path, "other rows or columns than the image")
        if (
            decoded.place
            and decoded.place.plane
            and not _is_at(decoded, decoded.place.plane, image)
        ):
            raise _unfit(path, "another place in the patient than the image")
        return _whole(path, decoded)

    @contextmanager
    def _opened(self, path: Path) -> Iterator[ImageReader]:
        if self._last and self._last[0] == path:
            yield self._last[1]
            return
        self._last = None
        with local_file(path) as local:
            kind = sniff(local)
            if kind == "jpeg":
                raise _unfit(path, "a JPEG, whose values are not exact; save it as PNG or TIFF")
            with open_image(local, kind) as reader:
                if kind in VOLUMES:  # all in memory, and nothing of it in the file any more
                    self._last = path, reader
                yield reader


def name_of(value: int) -> str:
    """Return what a value is called: its digits, or its colour as `#rrggbb`."""
    return f"#{value - COLOUR:06x}" if value >= COLOUR else str(value)


def _whole(path: Path, decoded: Decoded) -> Values:
    shown = decoded.shown()
    if shown.ndim == 3:
        if shown.dtype != np.uint8:
            raise _unfit(path, "a mask in colours of more than 8 bit")
        red, green, blue = np.moveaxis(shown.astype(np.int64), 2, 0)
        code = red << 16 | green << 8 | blue
        return np.where(code > 0, code + COLOUR, 0)
    values = shown.astype(np.float64)
    if isinstance(decoded.rescale, Linear):
        values = rescaled(values, decoded.rescale)
    whole = np.rint(values)
    if not np.isfinite(values).all() or (np.abs(values - whole) > _WHOLE).any():
        raise _unfit(path, "a mask of other values than whole numbers; save it as integers")
    if whole.min() < 0 or whole.max() > _HIGHEST:
        raise _unfit(path, "a mask of values below 0, or beyond 24 bit")
    return whole.astype(np.int64)


def _is_at(decoded: Decoded, plane: Plane, image: Slice) -> bool:
    """Tell whether two slices lie in one place; of an image without a place all masks do."""
    off = image.in_pixels(np.array([plane.position, np.add(plane.position, plane.right)]))
    if off is None:
        return True
    return image.has_grid(plane, decoded.spacing_mm) and bool(np.abs(off[:, 2]).max() < _SAME_PLACE)


def _unfit(path: Path, detail: str) -> UnsupportedImageError:
    return UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
