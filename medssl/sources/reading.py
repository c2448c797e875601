"""Limits that every reader keeps, and the one place where foreign errors become typed ones."""

import errno
import logging
import os
import re
import struct
import sys
import traceback
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from medssl.errors import (
    IngestError,
    Reason,
    TooLargeError,
    UnreadableFileError,
    UnsupportedImageError,
)

PIXEL_BUDGET = 100_000_000  # of one frame

# What decoders raise on damaged bytes, found by fuzzing. The imagecodecs errors are RuntimeErrors.
_DECODER_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    StopIteration,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
# By name: a library that is not loaded raises nothing, and loading all takes half a second.
_OF_LIBRARIES = {
    "nibabel.orientations": ("OrientationError",),
    "nibabel.spatialimages": ("HeaderDataError",),
    "nrrd.errors": ("NRRDError",),
    "pydicom.errors": ("BytesLengthException", "InvalidDicomError"),
    "tifffile": ("TiffFileError",),
}
_BOMB = {"PIL.Image": ("DecompressionBombError",)}

# Of these, what a mistake in our own code raises too; see `_is_own_bug`.
_BUGS = (AssertionError, AttributeError, LookupError, TypeError)

# Of OSErrors, what the machine lacks, not the file.
_RESOURCES = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM}

_PACKAGE = __name__.partition(".")[0]

# Their messages quote values of the file, which may identify a patient. For the whole process:
# `warnings.catch_warnings` would not hold in threads.
for _name in ("pydicom", "tifffile", "PIL", "nibabel"):
    logging.getLogger(_name).setLevel(logging.CRITICAL + 1)
for _name in ("pydicom", "tifffile", "PIL", "nibabel", "nrrd", "imagecodecs", "numpy.lib"):
    warnings.filterwarnings("ignore", module=rf"{re.escape(_name)}(\.|$)")


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turn what goes wrong in a foreign decoder into an `IngestError`; our own bugs pass.

    Args:
        path: The file, for the error.
        what: What was being read, for the error.
    """
    try:
        yield
    except IngestError:
        raise
    except FileNotFoundError as error:
        raise UnreadableFileError(path, Reason.VANISHED, "no such file") from error
    except PermissionError as error:
        raise UnreadableFileError(path, Reason.NO_PERMISSION, "may not be read") from error
    except _with_loaded((MemoryError,), _BOMB) as error:
        raise TooLargeError(path, Reason.TOO_LARGE, f"{what} needs too much memory") from error
    except EOFError as error:
        raise UnreadableFileError(path, Reason.TRUNCATED, f"{what} ends too early") from error
    except _with_loaded(_DECODER_ERRORS, _OF_LIBRARIES) as error:
        if _is_own_bug(error):
            raise
        raise _damaged(path, what, error) from error


def _with_loaded(
    errors: tuple[type[BaseException], ...], of_libraries: Mapping[str, tuple[str, ...]]
) -> tuple[type[BaseException], ...]:
    """Return errors, and those of libraries that are loaded."""
    loaded = (
        getattr(sys.modules[module], name)
        for module, names in of_libraries.items()
        for name in names
        if hasattr(sys.modules.get(module), name)
    )
    return (*errors, *loaded)


def _is_own_bug(error: BaseException) -> bool:
    """Tell a mistake in this package from a decoder that meets damaged bytes."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    module = str(frames[-1].f_globals.get("__name__"))
    return isinstance(error, _BUGS) and module.partition(".")[0] == _PACKAGE


def _damaged(path: Path, what: str, error: BaseException) -> UnreadableFileError:
    if isinstance(error, OSError) and error.errno in _RESOURCES:
        detail = f"{what}: {os.strerror(error.errno)}"
        return UnreadableFileError(path, Reason.OUT_OF_RESOURCES, detail)
    words = str(error).lower()
    if any(word in words for word in ("truncated", "premature", "unexpected end")):
        return UnreadableFileError(path, Reason.TRUNCATED, f"{what} ends too early")
    return UnreadableFileError(path, Reason.CORRUPT, f"{what}: {type(error).__name__}")


def require_budget(path: Path, rows: int, columns: int, way_out: str = "") -> None:
    """Raise before anything is decoded if a frame is empty or larger than the pixel budget.

    Args:
        path: The file.
        rows: Of the frame, px.
        columns: Likewise.
        way_out: What may be done about a frame that is too large.

    Raises:
        UnreadableFileError: No rows or no columns.
        TooLargeError: More than `PIXEL_BUDGET` pixels.
    """
    if rows < 1 or columns < 1:
        raise UnreadableFileError(path, Reason.CORRUPT, f"{rows} rows x {columns} columns")
    if rows * columns > PIXEL_BUDGET:
        detail = f"{rows} x {columns} pixels, more than {PIXEL_BUDGET // 1_000_000} million"
        raise TooLargeError(path, Reason.TOO_LARGE, detail + way_out)


def require_frame(path: Path, frame: int, frames: int) -> None:
    """Raise if there is no such frame.

    Raises:
        UnsupportedImageError: `frame` is not in `0 .. frames - 1`.
    """
    if not 0 <= frame < frames:
        detail = f"frame {frame} of {frames}, counted from 0"
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
