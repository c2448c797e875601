"""The one door to all readers: from a path and its kind to images."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medssl.errors import Reason, UnsupportedImageError
from medssl.intensity import Window, to_display
from medssl.sources.decoded import ImageReader
from medssl.sources.dicom import open_dicom
from medssl.sources.local import local_file
from medssl.sources.npz import open_npz
from medssl.sources.raster import open_raster
from medssl.sources.slide import open_tiles
from medssl.sources.tiff import open_tiff
from medssl.sources.volumes import VOLUMES, open_volume


@contextmanager
def open_image(path: Path, kind: str, member: str | None = None) -> Iterator[ImageReader]:
    """Open a file of a kind that `medssl.sources.sniff.KINDS` lists, or a slide.

    Args:
        path: The file, which may be in an archive or a remote folder: see `medssl.sources.local`.
        kind: What `sniff` said.
        member: Which array of an npz archive, or how a slide is cut.

    Raises:
        IngestError: The file cannot be used; with path and reason.
    """
    with local_file(path) as local, _reader(local, kind, member) as reader:
        yield reader


def read_display(
    path: Path, *, kind: str, member: str | None, frame: int, window: Window
) -> NDArray[np.float32]:
    """Decode one image for training: `[channels, rows, columns]`, 0 to 1, 1 or 3 channels.

    Args:
        path: The file.
        kind: As the manifest says.
        member: Which array of an npz archive, or how a slide is cut, else None.
        frame: From 0.
        window: How stored values become 0 to 1.

    Raises:
        IngestError: The file cannot be used any more.
    """
    with open_image(path, kind, member) as reader:
        return to_display(reader.decode(frame), window)


def _reader(path: Path, kind: str, member: str | None) -> AbstractContextManager[ImageReader]:
    match kind:
        case "dicom":
            return open_dicom(path)
        case "png" | "jpeg" | "bmp":
            return open_raster(path, kind)
        case "tiff":
            return open_tiff(path)
        case "npz":
            return open_npz(path, member or "")
        case "slide":
            return open_tiles(path, member or "")
        case _ if kind in VOLUMES:
            return open_volume(path, kind)
        case _:
            raise UnsupportedImageError(path, Reason.UNSUPPORTED, "no reader for this kind")
