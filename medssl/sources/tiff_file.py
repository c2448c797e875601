"""What readers of images and of slides in TIFF share."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tifffile import TiffFile

from medssl.sources.reading import reading

SLIDES = frozenset(("svs", "ndpi", "scn", "philips", "bif"))  # as tifffile names them
UNREAD_SLIDES = {  # slides without a reader here, and what they are called
    "qpi": "PerkinElmer QPTIFF",
    "avs": "Argos AVS",
    "ndtiff": "NDTiff",
}
JPEG = frozenset((6, 7, 33007, 34892))  # compressions of which YCbCr comes out as RGB


@contextmanager
def open_tiff_file(path: Path) -> Iterator[TiffFile]:
    """Open a TIFF or BigTIFF file; the pages are read when they are asked for.

    What OME-XML says of pages is not followed: it may name any file, and sizes beyond the memory.

    Raises:
        UnreadableFileError: It is none, or damaged.
    """
    with reading(path, "header"):
        tiff = TiffFile(path, is_ome=False)
    with tiff:
        yield tiff
