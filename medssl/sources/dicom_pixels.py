"""DICOM pixel data: checked against the attributes first, then decoded one frame at a time."""

import io
import math
import struct
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from medssl.errors import (
    IngestError,
    Reason,
    SegmentationError,
    UnreadableFileError,
    UnsupportedImageError,
)
from medssl.sources.decoded import Values
from medssl.sources.dicom_bits import BitField, read_bits, require_certain
from medssl.sources.dicom_codecs import PLUGIN, codestream_size
from medssl.sources.dicom_references import STRUCTURE_SET, is_segmentation, segmentation
from medssl.sources.dicom_terms import PHOTOMETRIC
from medssl.sources.dicom_values import first_text, value_of, whole_number
from medssl.sources.fragments import Fragment, group_frames, read_fragments, read_group
from medssl.sources.reading import reading, require_budget

_UNDEFINED = 0xFFFFFFFF
_KEYWORDS = {
    0x7FE00008: "FloatPixelData",
    0x7FE00009: "DoubleFloatPixelData",
    0x7FE00010: "PixelData",
}
_FLOAT_BITS = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}


@dataclass(frozen=True, slots=True)
class PixelElement:
    """Where the pixel data stands. `length` is None if undefined, as it is when compressed."""

    keyword: str
    vr: str | None
    start: int
    length: int | None
    file_size: int


@dataclass(frozen=True, slots=True)
class Layout:
    """How pixels are laid out, from the attributes of the Image Pixel module."""

    rows: int
    columns: int
    frames: int
    samples: int
    planar: int
    bits: BitField
    photometric: str

    def frame_bits(self) -> int:
        """Return the size of one uncompressed frame."""
        samples = 2 if self.photometric == "YBR_FULL_422" else self.samples
        return self.rows * self.columns * samples * self.bits.allocated


def find_pixels(path: Path, stream: BinaryIO, header: Dataset) -> PixelElement | None:
    """Read the element that the header ended before; None if the file ended first."""
    place = stream.tell()
    size = stream.seek(0, io.SEEK_END)
    stream.seek(place)
    implicit, little = header.original_encoding
    order = "<" if little else ">"
    start = stream.read(8)
    if len(start) < 8:
        return None
    group, number = struct.unpack(f"{order}HH", start[:4])
    keyword = _KEYWORDS.get(group << 16 | number)
    if keyword is None:
        return None
    vr = None if implicit else start[4:6].decode("latin-1")
    length_bytes = start[4:] if implicit else stream.read(4)
    if len(length_bytes) < 4:
        raise UnreadableFileError(path, Reason.TRUNCATED, "the file ends before its pixel data")
    (length,) = struct.unpack(f"{order}I", length_bytes)
    return PixelElement(keyword, vr, stream.tell(), None if length == _UNDEFINED else length, size)


def without_pixels(path: Path, header: Dataset, stream: BinaryIO) -> IngestError:
    """Tell an object that never had pixels from an image that was cut.

    Args:
        path: For errors.
        header: Its attributes.
        stream: What they were read from.
    """
    if len(header) == 0:
        return UnreadableFileError(path, Reason.NOT_AN_IMAGE, "no DICOM attributes")
    with reading(path, "header"):  # its kind may be unknown to pydicom, which then looks at it
        last = header.get_item(max(header.keys()))
    if first_text(path, header, "SOPClassUID") == STRUCTURE_SET:
        return segmentation(path, header)
    if is_segmentation(path, header):
        return SegmentationError(path, "a segmentation without pixels", ())
    with reading(path, "SOPClassUID"):  # silently: pydicom would print a value that is no UID
        kind = UID(first_text(path, header, "SOPClassUID") or "").name
    is_image = "Image Storage" in kind and not kind.startswith("Raw")
    if "Rows" in header or (is_image and not _ends_with(stream, last)):
        return UnreadableFileError(path, Reason.TRUNCATED, "the file ends before its pixel data")
    return UnreadableFileError(path, Reason.NO_PIXELS, "a DICOM object without Rows and pixels")


def _ends_with(stream: BinaryIO, last: object) -> bool:
    """Tell whether a file ends where its last attribute does; one that was cut rarely does."""
    end = stream.seek(0, io.SEEK_END)
    return isinstance(last, RawDataElement) and last.value_tell + last.length == end


def read_layout(path: Path, header: Dataset, element: PixelElement) -> Layout:
    """Read the attributes that the pixels cannot be decoded without.

    Raises:
        UnreadableFileError: One is missing or impossible.
        UnsupportedImageError: A kind of pixel that nothing here reads.
    """
    samples = whole_number(path, header, "SamplesPerPixel", 1)
    photometric = first_text(path, header, "PhotometricInterpretation")
    layout = Layout(
        rows=whole_number(path, header, "Rows"),
        columns=whole_number(path, header, "Columns"),
        frames=whole_number(path, header, "NumberOfFrames", 1) or 1,
        samples=samples,
        planar=whole_number(path, header, "PlanarConfiguration", 0),
        bits=read_bits(path, header, _FLOAT_BITS.get(element.keyword)),
        photometric=photometric or ("RGB" if samples == 3 else "MONOCHROME2"),
    )
    _require_known(path, layout)
    return layout


def _require_known(path: Path, layout: Layout) -> None:
    if layout.photometric not in PHOTOMETRIC:
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, "photometric interpretation")
    colour = layout.photometric.startswith(("RGB", "YBR"))
    if layout.samples != (3 if colour else 1):
        detail = f"{layout.samples} samples per pixel do not fit the photometric interpretation"
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
    allocated = layout.bits.allocated
    if allocated not in (1, 8, 16, 32, 64):
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, f"{allocated} bit")
    if layout.photometric.startswith("YBR") and allocated != 8:
        detail = f"YBR colours in {allocated} bit"
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
    if not (layout.bits.are_possible and layout.frames > 0):
        raise UnreadableFileError(path, Reason.CORRUPT, "impossible bits or frame count")
    require_budget(path, layout.rows, layout.columns)


@dataclass(frozen=True)
class PixelSource:
    """The pixels of one open file, decoded frame by frame."""

    path: Path
    stream: BinaryIO
    syntax: UID
    layout: Layout
    element: PixelElement
    header: Dataset = field(repr=False)

    def check(self) -> None:
        """Compare Rows x Columns x Frames with the data, before anything is decoded.

        Raises:
            UnreadableFileError: There is less data than the attributes ask for.
            UnsupportedImageError: As `require_certain`.
        """
        require_certain(self.path, self.layout.bits, self.syntax, self.layout.photometric)
        if self.syntax.is_encapsulated:
            with reading(self.path, "compressed pixel data"):
                _ = self._groups
            return
        element = self.element
        there = element.file_size - element.start
        if element.length is not None:
            there = min(there, element.length)
        needed = math.ceil(self.layout.frame_bits() * self.layout.frames / 8)
        if there < needed:
            detail = f"the attributes ask for {needed} bytes of pixel data, {there} are there"
            raise UnreadableFileError(self.path, Reason.TRUNCATED, detail)

    def read(self, frame: int) -> Values:
        """Decode one frame: `[rows, columns]` or, in RGB, `[rows, columns, 3]`.

        Raises:
            UnreadableFileError: The decoder refuses it, or its size is not that of the attributes.
            UnsupportedImageError: As `BitField.values`.
        """
        with reading(self.path, "pixel data"):
            if self.syntax.is_encapsulated:
                values = self._read_compressed(frame)
            else:
                values = self._read_native(frame)
        decoded = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
        return self.layout.bits.values(self.path, self.header, decoded)

    def _read_native(self, frame: int) -> Values:
        if self.layout.bits.allocated == 1 and self.syntax.is_little_endian:
            return self._read_bits(frame)
        options = self._options(self._native_layout)
        self.stream.seek(self.element.start)
        decoder = get_decoder(self.syntax)
        values, _ = decoder.as_array(self.stream, index=frame, **options)
        return np.asarray(values)

    def _read_bits(self, frame: int) -> Values:
        """Unpack a frame of single bits, which may begin inside a byte: pydicom then fails."""
        size = self.layout.frame_bits()
        first = frame * size
        self.stream.seek(self.element.start + first // 8)
        data = self.stream.read((first + size + 7) // 8 - first // 8)
        bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
        return bits[first % 8 :][:size].reshape(self.layout.rows, self.layout.columns)

    def _read_compressed(self, frame: int) -> Values:
        codestream = read_group(self.stream, self._groups[frame])
        size = codestream_size(self.syntax, codestream)
        if size and size != (self.layout.rows, self.layout.columns, self.layout.samples):
            detail = "the compressed image is not of the size that the attributes say"
            raise UnreadableFileError(self.path, Reason.CORRUPT, detail)
        options = self._options(replace(self.layout, frames=1))
        decoder = get_decoder(self.syntax)
        values, _ = decoder.as_array(
            encapsulate([codestream]), index=0, decoding_plugin=PLUGIN, **options
        )
        return np.asarray(values)

    @cached_property
    def _native_layout(self) -> Layout:
        """Take uncompressed YBR_FULL_422 that is not subsampled, a common mistake, as it is."""
        full = replace(self.layout, photometric="YBR_FULL")
        length = self.element.length or 0
        if self.layout.photometric != "YBR_FULL_422" or (
            length < full.frame_bits() // 8 * self.layout.frames
        ):
            return self.layout
        return full

    @cached_property
    def _groups(self) -> list[list[Fragment]]:
        if self.element.length is not None:
            detail = "compressed pixel data is not in fragments"
            raise UnreadableFileError(self.path, Reason.CORRUPT, detail)
        end = self.element.file_size
        pixels = read_fragments(self.path, self.stream, self.element.start, end)
        table = value_of(self.path, self.header, "ExtendedOffsetTable")
        extended = np.frombuffer(table, "<u8").tolist() if isinstance(table, bytes) else []
        return group_frames(
            self.path, self.stream, pixels, frames=self.layout.frames, extended=extended
        )

    def _options(self, layout: Layout) -> dict[str, Any]:
        options: dict[str, Any] = {
            "rows": layout.rows,
            "columns": layout.columns,
            "number_of_frames": layout.frames,
            "samples_per_pixel": layout.samples,
            "photometric_interpretation": layout.photometric,
            "bits_allocated": layout.bits.allocated,
            "pixel_keyword": self.element.keyword,
        }
        if layout.samples == 3:
            options["planar_configuration"] = layout.planar
        if self.element.keyword == "PixelData":
            options |= layout.bits.asked_for()
        if self.element.vr:
            options["pixel_vr"] = self.element.vr
        return options
