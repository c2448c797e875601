"""What kind of file this is. The content decides; the name is never looked at."""

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from medssl.errors import Reason, UnreadableFileError, UnsupportedImageError
from medssl.sources.metaimage import is_metaimage
from medssl.sources.nifti import GZIP, is_nifti
from medssl.sources.reading import reading

HEAD_BYTES = 8192
KINDS = ("dicom", "png", "jpeg", "tiff", "bmp", "npz", "nifti", "nrrd", "metaimage")

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"II+\x00\x08\x00\x00\x00", "tiff"),
    (b"MM\x00+\x00\x08\x00\x00", "tiff"),
    (b"NRRD000", "nrrd"),
)
_LATER: tuple[tuple[bytes, str], ...] = (
    (b"GIF8", "GIF image"),
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000 file"),
    (b"\xff\x4f\xff\x51", "JPEG 2000 codestream"),
    (b"\x89HDF\r\n\x1a\n", "HDF5 file"),
    (b"\x93NUMPY", "single NumPy array; an .npz in the layout of MedMNIST is read"),
)
_ARCHIVE = re.compile(rb"PK\x03\x04.{26}[^\0]{1,200}\.npy", re.DOTALL)
_VRS = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN"
    b" UR US UT UV".split()
)
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())


@dataclass(frozen=True, slots=True)
class DicomStart:
    """Where a DICOM data set begins, and how it is written there.

    Attributes:
        offset: Of the first element, bytes.
        meta: Whether that is the file meta information.
        implicit: Elements without value representation.
        little: Little endian.
    """

    offset: int
    meta: bool
    implicit: bool
    little: bool


def sniff(path: Path) -> str:
    """Return one of `KINDS`.

    Raises:
        UnreadableFileError: Empty, no image, or not readable at all.
        UnsupportedImageError: An image of a kind that has no reader yet.
    """
    with reading(path, "file"), path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head:
        raise UnreadableFileError(path, Reason.EMPTY, "0 bytes")
    if kind := _known(head):
        return kind
    if later := _later(head):
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, f"{later}: no reader yet")
    raise UnreadableFileError(path, Reason.NOT_AN_IMAGE, "content of no known image format")


def _known(head: bytes) -> str | None:
    if head[128:132] == b"DICM":  # first: its preamble may hold the header of a TIFF file
        return "dicom"
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    for kind, is_such in _CHECKS.items():
        if is_such(head):
            return kind
    return None


def find_dicom(head: bytes) -> DicomStart | None:
    """Find the first DICOM element, with or without preamble and file meta information.

    Without the DICM mark, two elements that follow each other are asked for, at the start or after
    a damaged preamble of at most 132 bytes.
    """
    if head[128:132] == b"DICM":
        start = _start_at(head, 132, strict=False)
        return start or DicomStart(132, meta=False, implicit=True, little=True)
    for offset in range(133):
        start = _start_at(head, offset, strict=True)
        if start and (offset in (0, 128) or not start.implicit):
            return start
    return None


def _start_at(head: bytes, offset: int, *, strict: bool) -> DicomStart | None:
    for little in (True, False):
        for implicit in (False, True):
            if implicit and not little:
                continue  # no transfer syntax is implicit and big endian
            first = _element(head, offset, implicit=implicit, little=little)
            if first is None or first[0] not in (0x0002, 0x0008):
                continue
            start = DicomStart(offset, first[0] == 2, implicit, little)
            if not strict or _continues(head, first, start):
                return start
    return None


def _continues(head: bytes, first: tuple[int, int, int], start: DicomStart) -> bool:
    """Tell whether a second element with a higher tag follows the first."""
    group, number, end = first
    second = _element(head, end, implicit=start.implicit, little=start.little)
    if second is None and start.meta:  # the data set may be written differently from the meta
        flipped = replace(start, implicit=not start.implicit)
        second = _element(head, end, implicit=flipped.implicit, little=True)
    return second is not None and (group, number) < second[:2] and second[0] <= 0x0020


def _element(
    head: bytes, offset: int, *, implicit: bool, little: bool
) -> tuple[int, int, int] | None:
    """Return group, number and end of the element at `offset`, if one can stand there."""
    if offset + 12 > len(head):
        return None
    order = "<" if little else ">"
    group, number = struct.unpack_from(f"{order}HH", head, offset)
    vr = head[offset + 4 : offset + 6]
    if implicit:
        (length,) = struct.unpack_from(f"{order}I", head, offset + 4)
        body = offset + 8
    elif vr in _LONG_VRS:
        (length,) = struct.unpack_from(f"{order}I", head, offset + 8)
        body = offset + 12
    else:
        (length,) = struct.unpack_from(f"{order}H", head, offset + 6)
        body = offset + 8
    plausible = length % 2 == 0 and length < HEAD_BYTES and (implicit or vr in _VRS)
    return (group, number, body + length) if plausible else None


def _is_bmp(head: bytes) -> bool:
    """Check the header's size field too: two letters alone also begin texts."""
    return head[:2] == b"BM" and len(head) >= 18 and head[14] in (12, 40, 52, 56, 64, 108, 124)


def _later(head: bytes) -> str | None:
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP image"
    return next((words for magic, words in _LATER if head.startswith(magic)), None)


def _unzipped(head: bytes) -> bytes:
    """Return the first bytes of what gzip holds, or the head of any other file."""
    if not head.startswith(GZIP):
        return head
    try:
        return zlib.decompressobj(31).decompress(head, 1024)
    except zlib.error:
        return b""


_CHECKS: dict[str, Callable[[bytes], object]] = {  # in this order
    "bmp": _is_bmp,
    "npz": _ARCHIVE.match,
    "nifti": lambda head: is_nifti(_unzipped(head)),
    "metaimage": is_metaimage,
    "dicom": find_dicom,
}
