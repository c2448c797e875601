"""Decoders of compressed DICOM frames, registered with pydicom under the name `PLUGIN`.

One decoder per transfer syntax, so that a file has the same pixels on every machine, all from
imagecodecs: libjpeg-turbo for all JPEG (8 to 16 bit, lossy and lossless), CharLS for JPEG-LS,
OpenJPEG for JPEG 2000 and HTJ2K, and its PackBits for RLE. When fuzzed these raise. Of the others
within reach, two lossless JPEG decoders crashed on flipped bytes and an RLE decoder panicked.
"""

import struct
from typing import Any

import imagecodecs
import numpy as np
from pydicom import uid
from pydicom.pixels.decoders.base import get_decoder

PLUGIN = "medssl"

JPEG = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1)
JPEG_LS = (uid.JPEGLSLossless, uid.JPEGLSNearLossless)
JPEG_2000 = (uid.JPEG2000Lossless, uid.JPEG2000)
HTJ2K = (uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K)
COMPRESSED = (*JPEG, *JPEG_LS, *JPEG_2000, *HTJ2K, uid.RLELossless)
NATIVE = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
)

DECODER_DEPENDENCIES = dict.fromkeys(COMPRESSED, ("imagecodecs",))

_LOSSLESS_FRAME = 0xC3
# Start-of-frame markers: C0 to CF and, of JPEG-LS, F7, without tables (C4, C8, CC).
_FRAME_MARKERS = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})


def is_available(syntax: str) -> bool:
    """Tell pydicom that all decoders are there: they are no optional dependencies."""
    return syntax in COMPRESSED


def decode_frame(src: bytes, runner: Any) -> bytes:
    """Decode one frame for pydicom, which then corrects sign and colour.

    Args:
        src: The frame's codestream.
        runner: pydicom's `DecodeRunner`; it is told how the returned bytes are laid out.
    """
    syntax = runner.transfer_syntax
    if syntax == uid.RLELossless:
        runner.set_option("planar_configuration", 1)
        return _decode_rle(src, runner)
    if syntax in JPEG:
        values = _decode_jpeg(src, runner)
    elif syntax in JPEG_LS:
        values = imagecodecs.jpegls_decode(src)
    else:
        values = imagecodecs.jpeg2k_decode(src, numthreads=1)
        if runner.photometric_interpretation in ("YBR_ICT", "YBR_RCT"):  # undone by the decoder
            runner.set_option("photometric_interpretation", "RGB")
    runner.set_option("planar_configuration", 0)
    runner.set_option("bits_allocated", values.dtype.itemsize * 8)
    return bytes(np.ascontiguousarray(values).data)


def codestream_size(syntax: str, frame: bytes) -> tuple[int, int, int] | None:
    """Return rows, columns and components as the codestream gives them; None where it does not.

    To be compared with the DICOM attributes before decoding: a few flipped bits ask a decoder for
    gigabytes, or for minutes.
    """
    if syntax in (*JPEG_2000, *HTJ2K):
        place = frame.find(b"\xff\x4f\xff\x51")  # may stand inside a JP2 file
        if place < 0 or place + 42 > len(frame):
            return None
        right, bottom, left, top = struct.unpack_from(">4I", frame, place + 8)
        (components,) = struct.unpack_from(">H", frame, place + 40)
        return bottom - top, right - left, components
    if syntax in (*JPEG, *JPEG_LS):
        marker = _find_frame(frame)
        return marker[1:] if marker else None
    return None


def jpeg_precision(data: bytes) -> int | None:
    """Return the bits per sample of a JPEG of any process, if its header can be followed."""
    place = _frame_place(data)
    return data[place + 4] if place is not None else None


def jpeg_marker(data: bytes) -> int | None:
    """Return which start-of-frame marker, and so which JPEG process, the data has."""
    place = _frame_place(data)
    return data[place + 1] if place is not None else None


def _find_frame(data: bytes) -> tuple[int, int, int, int] | None:
    place = _frame_place(data)
    if place is None:
        return None
    rows, columns, components = struct.unpack_from(">HHB", data, place + 5)
    return data[place + 1], rows, columns, components


def _frame_place(data: bytes) -> int | None:
    """Walk the marker segments up to the start of the frame."""
    place = 2
    while place + 10 <= len(data):
        if data[place] != 0xFF:
            return None
        marker = data[place + 1]
        if marker in _FRAME_MARKERS:
            return place
        if marker == 0xFF:
            place += 1
            continue
        place += 2 + struct.unpack_from(">H", data, place + 2)[0]
    return None


def _decode_jpeg(src: bytes, runner: Any) -> np.ndarray[Any, Any]:
    if runner.samples_per_pixel == 1:
        return np.asarray(imagecodecs.jpeg8_decode(src))
    if jpeg_marker(src) == _LOSSLESS_FRAME:  # has no colour transform
        return np.asarray(imagecodecs.jpeg8_decode(src, colorspace="RGB", outcolorspace="RGB"))
    transform = _adobe_transform(src)
    is_rgb = runner.photometric_interpretation == "RGB" if transform is None else not transform
    # Converted here, which is much faster: so nothing is left to pydicom.
    runner.set_option("photometric_interpretation", "RGB")
    stored = "RGB" if is_rgb else "YCBCR"
    return np.asarray(imagecodecs.jpeg8_decode(src, colorspace=stored, outcolorspace="RGB"))


def _decode_rle(src: bytes, runner: Any) -> bytes:
    """Decode the byte planes, of each sample the most significant first, into little endian.

    Source:
        DICOM PS3.5, annex G.
    """
    pixels = runner.rows * runner.columns
    width = runner.bits_allocated // 8
    count, *offsets = struct.unpack_from("<16I", src)
    if count != runner.samples_per_pixel * width or len(src) < 64:
        raise ValueError(f"{count} segments")
    ends = [*offsets[1:count], len(src)]
    planes = np.empty((runner.samples_per_pixel, pixels, width), np.uint8)
    for number, (start, end) in enumerate(zip(offsets, ends, strict=False)):
        segment = imagecodecs.packbits_decode(src[start:end])
        if len(segment) < pixels:
            raise ValueError(f"segment of {len(segment)} bytes ends too early, truncated")
        sample, byte = divmod(number, width)
        planes[sample, :, width - 1 - byte] = np.frombuffer(segment, np.uint8, pixels)
    return planes.tobytes()


def _adobe_transform(src: bytes) -> int | None:
    place = src.find(b"\xff\xee\x00\x0eAdobe", 0, 4096)
    return src[place + 15] if 0 <= place < len(src) - 15 else None


def register() -> None:
    """Make the decoders known to pydicom; once per process."""
    for syntax in COMPRESSED:
        decoder = get_decoder(syntax)
        if PLUGIN not in decoder.available_plugins:
            decoder.add_plugin(PLUGIN, (__name__, decode_frame.__name__))


register()
