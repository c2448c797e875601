"""Errors of the medical domain.

SSLError
    IngestError               one input could not be used; carries the path and a reason
        UnreadableFileError   damaged, truncated, or not of the format its content suggests
        UnsupportedImageError readable, but of a kind no reader here handles
        TooLargeError         larger than the pixel budget
        SegmentationError     structures in other images, which are no image to learn from
    DataError                 a folder, manifest, label file or split that cannot be worked with
"""

from enum import StrEnum
from pathlib import Path
from typing import Self

from sslcore.errors import SSLError


class Reason(StrEnum):
    """Why a file was set aside; the values stand in `rejected.parquet`."""

    EMPTY = "empty"
    NOT_AN_IMAGE = "not_an_image"
    NO_PIXELS = "no_pixels"
    NO_TILES = "no_tiles"  # of tissue, in a slide
    SEGMENTATION = "segmentation"  # masks of other images
    TRUNCATED = "truncated"
    CORRUPT = "corrupt"
    UNSUPPORTED = "unsupported"
    OTHER_LEVEL = "other_level"  # of a slide, which is read from another file beside it
    TOO_LARGE = "too_large"
    NO_PERMISSION = "no_permission"
    VANISHED = "vanished"
    OUT_OF_RESOURCES = "out_of_resources"  # of the machine: disk for temporary files, open files
    NOT_FETCHED = "not_fetched"  # of a remote folder
    DECODER_CRASHED = "decoder_crashed"
    DECODER_TIMEOUT = "decoder_timeout"
    READER_BUG = "reader_bug"  # a mistake of this project, not of the file


class IngestError(SSLError):
    """One input could not be used.

    Attributes:
        path: The file or folder.
        reason: The code, for tables.
        detail: What is wrong in words. Never a value read from the file, which could identify a
            patient.
    """

    def __init__(self, path: Path, reason: Reason, detail: str) -> None:
        super().__init__(path, reason, detail)  # all three, so that the error can be pickled
        self.path = path
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}: {self.detail}"

    def bare(self) -> Self:
        """Return itself, to be kept: without what its traceback and other errors hold in memory."""
        self.__cause__ = self.__context__ = None
        return self.with_traceback(None)


class UnreadableFileError(IngestError):
    """Damaged, truncated, or not of the format its content suggests."""


class UnsupportedImageError(IngestError):
    """Readable, but of a kind no reader here handles."""


class TooLargeError(IngestError):
    """Larger than the pixel budget, which guards against decompression bombs."""


class SegmentationError(IngestError):
    """A DICOM object that holds structures in other images.

    Attributes:
        series: UIDs of the series of these images, in clear.
    """

    def __init__(self, path: Path, detail: str, series: tuple[str, ...]) -> None:
        super().__init__(path, Reason.SEGMENTATION, detail)
        self.args = (path, detail, series)  # so that the error can be pickled
        self.series = series


class DataError(SSLError):
    """A folder, manifest, label file or split that cannot be worked with."""
