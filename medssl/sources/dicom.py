"""DICOM files: from the header to one image per frame."""

import io
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from medssl.errors import Reason, TooLargeError, UnreadableFileError, UnsupportedImageError
from medssl.sources.burned_in import suspect_text
from medssl.sources.decoded import Decoded, FileFacts, Values
from medssl.sources.dicom_bits import OVERLAY_TAGS
from medssl.sources.dicom_codecs import COMPRESSED, NATIVE
from medssl.sources.dicom_looks import frame_looks, read_palette
from medssl.sources.dicom_pixels import (
    Layout,
    PixelElement,
    PixelSource,
    find_pixels,
    read_layout,
    without_pixels,
)
from medssl.sources.dicom_place import frame_place
from medssl.sources.dicom_references import refuse_segmentations
from medssl.sources.dicom_suv import PRIVATE_TAGS, Scale, read_scale
from medssl.sources.dicom_terms import MODALITIES
from medssl.sources.dicom_values import TAGS, first_text
from medssl.sources.dicomdir import DETAIL, DICOMDIR
from medssl.sources.label_terms import TERMS, as_term
from medssl.sources.mosaic import TAGS as MOSAIC_TAGS
from medssl.sources.mosaic import Mosaic, read_mosaic
from medssl.sources.reading import reading, require_frame
from medssl.sources.sniff import HEAD_BYTES, DicomStart, find_dicom

INFLATED_BUDGET = 1 << 30  # bytes of a deflated data set
_PIXEL_TAGS = frozenset((0x7FE00008, 0x7FE00009, 0x7FE00010))
_NUMBERED = ("ManufacturerModelName", "DeviceSerialNumber")
_STATION = ("Manufacturer", "ManufacturerModelName", "StationName")
WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"


@dataclass(frozen=True)
class DicomFile:
    """An open DICOM file whose attributes fit its pixel data. An `ImageReader`."""

    path: Path
    header: Dataset
    syntax: UID
    layout: Layout
    pixels: PixelSource

    @cached_property
    def facts(self) -> FileFacts:
        """What holds for the whole file."""
        return FileFacts(
            frames=self._mosaic.count if self._mosaic else self.layout.frames,
            modality=self._modality,
            transfer_syntax=str(self.syntax),
            burned_in=suspect_text(self.path, self.header),
            patient_id=first_text(self.path, self.header, "PatientID"),
            study_uid=first_text(self.path, self.header, "StudyInstanceUID"),
            series_uid=first_text(self.path, self.header, "SeriesInstanceUID"),
            site=first_text(self.path, self.header, "InstitutionName"),
            scanner=self._scanner,
            suv=self._scale.how if self._scale else None,
            terms=self._terms,
        )

    def decode(self, frame: int) -> Decoded:
        """Decode one frame, from 0; others are neither read nor decoded.

        The slices of a mosaic are its frames.

        Raises:
            IngestError: There is no such frame, or it cannot be decoded.
        """
        require_frame(self.path, frame, self.facts.frames)
        return self._mosaic.place(self._first, frame) if self._mosaic else self._decode(frame)

    def _decode(self, frame: int) -> Decoded:
        values = self.pixels.read(frame)
        with reading(self.path, "display attributes"):
            looks = frame_looks(self.path, self.header, frame, values)
            place = frame_place(self.path, self.header, frame)
        return Decoded(
            values=values,
            photometric=self.layout.photometric,
            bits=self.layout.bits.stored,
            modality=self._modality,
            palette=self._palette,
            suv=self._scale.factor if self._scale else None,
            place=place,
            **looks,
        )

    @cached_property
    def _mosaic(self) -> Mosaic | None:
        layout = self.layout
        if layout.frames > 1 or layout.samples > 1:
            return None
        return read_mosaic(self.path, self.header, layout.rows, layout.columns)

    @cached_property
    def _first(self) -> Decoded:
        return self._decode(0)

    @cached_property
    def _modality(self) -> str | None:
        modality = first_text(self.path, self.header, "Modality")
        return modality if modality in MODALITIES else None

    @cached_property
    def _scanner(self) -> str | None:
        """Return model and serial number; without that, maker, model and station."""
        number = first_text(self.path, self.header, "DeviceSerialNumber")
        keywords = _NUMBERED if number else _STATION
        words = [first_text(self.path, self.header, keyword) or "" for keyword in keywords]
        return "\n".join(words) if any(words) else None

    @cached_property
    def _scale(self) -> Scale | None:
        return read_scale(self.path, self.header) if self._modality == "PT" else None

    @property
    def _terms(self) -> dict[str, str]:
        said = {word: first_text(self.path, self.header, word) for word in TERMS}
        found = {word: as_term(word, text) for word, text in said.items() if text}
        return {word: term for word, term in found.items() if term}

    @cached_property
    def _palette(self) -> Values | None:
        if self.layout.photometric != "PALETTE COLOR":
            return None
        return read_palette(self.path, self.header, self.layout.bits.allocated)


@contextmanager
def open_dicom(path: Path) -> Iterator[DicomFile]:
    """Open a DICOM file of one or more images and check its attributes against its size.

    Raises:
        UnsupportedImageError: A whole slide, which `medssl.sources.slide` opens.
        SegmentationError: Structures in other images, which `medssl.masks` reads.
        IngestError: As `open_frames`.
    """
    with open_frames(path, check=refuse_segmentations) as file:
        if is_whole_slide(path, file.header):
            detail = "a file of a whole slide, whose frames are no images by themselves"
            raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
        yield file


@contextmanager
def open_frames(
    path: Path,
    *,
    also: Sequence[int] = (),
    check: Callable[[Path, Dataset], None] | None = None,
) -> Iterator[DicomFile]:
    """Open a DICOM file as `open_dicom`, be it of a whole slide or not.

    Files without preamble, file meta information or transfer syntax are read as their bytes
    suggest.

    Args:
        path: The file.
        also: Tags of attributes to read beside those that readers here use.
        check: Looks at the attributes before the pixels are looked at; may raise.

    Raises:
        UnreadableFileError: Damaged, truncated, without pixels, or no DICOM file.
        UnsupportedImageError: A transfer syntax or kind of pixel that no decoder here reads.
        TooLargeError: More than the pixel budget, or a deflated file beyond `INFLATED_BUDGET`.
    """
    with reading(path, "file"):
        file = path.open("rb")
    with file:
        header, syntax, stream, element = read_header(path, file, also)
        if check:
            check(path, header)
        if element is None:
            raise without_pixels(path, header, stream)
        layout = read_layout(path, header, element)
        pixels = PixelSource(path, stream, syntax, layout, element, header)
        pixels.check()
        yield DicomFile(path, header, syntax, layout, pixels)


def read_header(
    path: Path, file: BinaryIO, also: Sequence[int] = ()
) -> tuple[Dataset, UID, BinaryIO, PixelElement | None]:
    """Read the attributes that readers here use, and where the pixel data is.

    Args:
        path: For errors.
        file: Its content, open at the start.
        also: Tags of further attributes.

    Returns:
        The attributes; the transfer syntax; the stream that the pixel data is read from, which is
        `file` unless that is deflated; and the place in it, None if there is no pixel data.

    Raises:
        IngestError: As `open_frames`.
    """
    with reading(path, "header"):
        start = find_dicom(file.read(HEAD_BYTES))
        if start is None:
            raise UnreadableFileError(path, Reason.NOT_AN_IMAGE, "no DICOM data set")
        file.seek(start.offset)
        meta = _read_meta(file) if start.meta else Dataset()
        if first_text(path, meta, "MediaStorageSOPClassUID") == DICOMDIR:
            raise UnreadableFileError(path, Reason.NO_PIXELS, DETAIL)
        named = first_text(path, meta, "TransferSyntaxUID")
        body = file.tell()
        syntax = UID(named) if named else _syntax_of(file, start)
        if syntax not in NATIVE and syntax not in COMPRESSED:
            name = syntax.name if syntax.is_transfer_syntax else "unknown"
            raise UnsupportedImageError(path, Reason.UNSUPPORTED, f"transfer syntax {name}")
        stream = file
        if syntax == DeflatedExplicitVRLittleEndian:
            stream = io.BytesIO(_inflate(path, file))
            body = 0
        stream.seek(body)
        header = read_dataset(
            stream, syntax.is_implicit_VR, syntax.is_little_endian, None, _at_pixels,
            specific_tags=[*TAGS, *OVERLAY_TAGS, *MOSAIC_TAGS, *PRIVATE_TAGS, *also],
        )  # fmt: skip
        element = find_pixels(path, stream, header)
    return header, syntax, stream, element


def _read_meta(file: BinaryIO) -> Dataset:
    return read_dataset(
        file, False, True, None, _after_meta, specific_tags=[0x00020002, 0x00020010]
    )


def _syntax_of(file: BinaryIO, start: DicomStart) -> UID:
    """Guess the transfer syntax of a file that names none; compressed ones always do."""
    place = file.tell()
    if start.meta:
        start = find_dicom(file.read(HEAD_BYTES)) or start
        file.seek(place)
    if start.implicit:
        return NATIVE[0]
    return NATIVE[1] if start.little else NATIVE[3]


def _inflate(path: Path, file: BinaryIO) -> bytes:
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = engine.decompress(file.read(), INFLATED_BUDGET)
    if engine.unconsumed_tail:
        detail = f"inflates to more than {INFLATED_BUDGET >> 20} MiB"
        raise TooLargeError(path, Reason.TOO_LARGE, detail)
    if not engine.eof:
        raise UnreadableFileError(path, Reason.TRUNCATED, "deflated data ends too early")
    return inflated


def _at_pixels(tag: Any, *_: Any) -> bool:
    return tag in _PIXEL_TAGS


def _after_meta(tag: Any, *_: Any) -> bool:
    return int(tag) >> 16 != 2


def is_whole_slide(path: Path, header: Dataset) -> bool:
    """Tell whether the attributes are those of a whole slide, its label and overview included."""
    return first_text(path, header, "SOPClassUID") == WHOLE_SLIDE
