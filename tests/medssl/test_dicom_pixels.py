"""Stored values in every transfer syntax, and what is refused before anything is decoded."""

import struct
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from medssl.errors import IngestError, Reason
from medssl.sources import dicom, dicom_pixels, reading
from medssl.sources.decoded import Decoded
from medssl.sources.dicom import open_dicom
from tests.medssl.make import (
    LOSSLESS,
    LOSSY,
    add_pixels,
    colours,
    dataset,
    encode,
    ramp,
    write_dicom,
)


def decode(path: Path, frame: int = 0) -> Decoded:
    with open_dicom(path) as file:
        return file.decode(frame)


def refusal(path: Path, frame: int = 0) -> IngestError:
    with pytest.raises(IngestError) as caught:
        decode(path, frame)
    return caught.value


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda syntax: syntax.keyword)
def test_lossless_syntaxes_give_back_every_grey_value(tmp_path: Path, syntax: UID) -> None:
    for values in (ramp(), ramp(top=200, dtype="uint8")):
        found = decode(write_dicom(tmp_path / "a", values, syntax))
        assert np.array_equal(found.values, values)
        assert found.values.dtype == values.dtype


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda syntax: syntax.keyword)
def test_lossless_syntaxes_give_back_every_colour(tmp_path: Path, syntax: UID) -> None:
    found = decode(write_dicom(tmp_path / "a", colours(), syntax))
    assert np.array_equal(found.values, colours())
    assert found.channels == 3


@pytest.mark.parametrize("syntax", LOSSY, ids=lambda syntax: syntax.keyword)
def test_lossy_syntaxes_come_close(tmp_path: Path, syntax: UID) -> None:
    deep = syntax != uid.JPEGBaseline8Bit
    values = ramp(64, 64) if deep else ramp(64, 64, top=250, dtype="uint8")
    changes: dict[str, Any] = {"BitsStored": 12, "HighBit": 11} if deep else {}
    found = decode(write_dicom(tmp_path / "a", values, syntax, **changes)).values
    assert found.dtype == values.dtype
    assert np.abs(found.astype(int) - values).max() <= 0.01 * values.max()


def test_lossy_colour_is_converted_once(tmp_path: Path) -> None:
    path = write_dicom(
        tmp_path / "a",
        colours(64, 64),
        uid.JPEGBaseline8Bit,
        PhotometricInterpretation="YBR_FULL",
    )
    assert np.abs(decode(path).values.astype(int) - colours(64, 64)).mean() < 2


@pytest.mark.parametrize(
    "syntax", [uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.RLELossless]
)
@pytest.mark.parametrize("dtype", ["int16", "int32", "uint32", "int8"])
def test_signed_and_wide_values_keep_their_sign(tmp_path: Path, syntax: UID, dtype: str) -> None:
    if syntax == uid.RLELossless and dtype.endswith("32"):
        pytest.skip("no encoder for 32 bit")
    values = (ramp(top=200, dtype="int64") - 100).clip(np.iinfo(dtype).min).astype(dtype)
    assert np.array_equal(decode(write_dicom(tmp_path / "a", values, syntax)).values, values)


def test_values_below_bits_stored_are_signed_by_their_own_top_bit(tmp_path: Path) -> None:
    stored = np.array([[0x0FFF, 0x0800], [0x07FF, 0]], np.uint16)  # 12 bit: -1, -2048, 2047, 0
    path = write_dicom(tmp_path / "a", stored, PixelRepresentation=1, BitsStored=12, HighBit=11)
    assert decode(path).values.tolist() == [[-1, -2048], [2047, 0]]


def test_one_bit_frames_that_begin_inside_a_byte(tmp_path: Path) -> None:
    bits = np.random.default_rng(0).integers(0, 2, (3, 3, 5), dtype=np.uint8)
    packed = np.packbits(bits.reshape(-1), bitorder="little").tobytes()
    path = write_dicom(
        tmp_path / "a", bits, BitsAllocated=1, BitsStored=1, HighBit=0, PixelData=packed
    )
    for frame in range(3):
        found = decode(path, frame)
        assert np.array_equal(found.values, bits[frame])
        assert found.bits == 1


@pytest.mark.parametrize(("keyword", "dtype"), [("Float", "float32"), ("DoubleFloat", "float64")])
def test_float_pixels_are_read(tmp_path: Path, keyword: str, dtype: str) -> None:
    values = np.linspace(-1, 1, 24).reshape(4, 6).astype(dtype)
    data = dataset(np.zeros(values.shape, np.uint16))
    del data.PixelData
    setattr(data, f"{keyword}PixelData", values.tobytes())
    data.save_as(tmp_path / "a", enforce_file_format=True)
    assert np.array_equal(decode(tmp_path / "a").values, values)


@pytest.mark.parametrize("syntax", [*LOSSLESS, *LOSSY], ids=lambda syntax: syntax.keyword)
def test_each_frame_is_decoded_alone(tmp_path: Path, syntax: UID) -> None:
    frames = np.stack([ramp(top=top, dtype="uint8") for top in (60, 120, 240)])
    path = write_dicom(tmp_path / "a", frames, syntax)
    for number in (2, 0, 1):
        found = decode(path, number).values.astype(int)
        assert np.abs(found - frames[number]).max() <= (12 if syntax in LOSSY else 0)


def test_reading_one_native_frame_does_not_read_the_others(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a", np.stack([ramp()] * 50))
    with open_dicom(path) as file:
        seen: list[int] = []
        read = file.pixels.stream.read
        file.pixels.stream.read = lambda size=-1: (seen.append(size), read(size))[1]  # type: ignore[method-assign, assignment]
        file.decode(30)
    assert 0 <= max(seen) <= 2 * ramp().nbytes


def test_frames_in_several_fragments_follow_the_offset_table(tmp_path: Path) -> None:
    frames = [ramp(top=top, dtype="uint8") for top in (60, 240)]
    streams = [encode(frame, uid.JPEG2000Lossless) for frame in frames]
    for has_table in (True, False):
        data = encapsulate(streams, fragments_per_frame=3, has_bot=has_table)
        path = write_dicom(tmp_path / "a", np.stack(frames), uid.JPEG2000Lossless, PixelData=data)
        _mark_undefined(path, data)
        for number, frame in enumerate(frames):
            assert np.array_equal(decode(path, number).values, frame)


def _mark_undefined(path: Path, data: bytes) -> None:
    """Set the length of the pixel data to undefined, as compressed data has it."""
    content = path.read_bytes()
    place = content.index(b"\xe0\x7f\x10\x00")
    end = b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"
    path.write_bytes(content[:place] + b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff" + data + end)


def test_uncompressed_ybr_422_is_expanded_and_a_wrong_flag_forgiven(tmp_path: Path) -> None:
    grey = np.full((4, 6, 3), 128, np.uint8)  # YBR of middle grey
    full = write_dicom(tmp_path / "full", grey, PhotometricInterpretation="YBR_FULL_422")
    half = write_dicom(
        tmp_path / "half", grey, PhotometricInterpretation="YBR_FULL_422", PixelData=b"\x80" * 48
    )
    for path in (full, half):
        found = decode(path)
        assert found.values.shape == (4, 6, 3)
        assert (found.values == 128).all()
        assert found.photometric == "YBR_FULL_422"


def test_palette_indices_stay_and_colours_are_given_beside(tmp_path: Path) -> None:
    values = np.array([[0, 1], [2, 3]], np.uint8)
    tables: dict[str, Any] = {}
    for name, step in (("Red", 256), ("Green", 512), ("Blue", 1024)):
        tables[f"{name}PaletteColorLookupTableDescriptor"] = [4, 0, 16]
        words = np.arange(4, dtype="<u2") * step
        tables[f"{name}PaletteColorLookupTableData"] = words.tobytes()
    path = write_dicom(tmp_path / "a", values, PhotometricInterpretation="PALETTE COLOR", **tables)
    found = decode(path)
    assert np.array_equal(found.values, values)
    assert found.channels == 3
    assert found.colours()[1, 1].tolist() == [768, 1536, 3072]


def test_less_data_than_the_attributes_ask_for_is_refused_before_decoding(tmp_path: Path) -> None:
    for changes in ({"NumberOfFrames": 1000}, {"Rows": 60000}, {"BitsAllocated": 32}):
        error = refusal(write_dicom(tmp_path / "a", ramp(), **changes))
        assert error.reason is Reason.TRUNCATED, changes
        assert "bytes of pixel data" in error.detail


def test_compressed_data_with_fewer_pieces_than_frames_is_refused(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a", ramp(), uid.JPEG2000Lossless, NumberOfFrames=1_000_000)
    assert refusal(path).reason is Reason.TRUNCATED


def test_a_compressed_image_of_another_size_is_refused_before_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(dicom_pixels, "get_decoder", never)
    for syntax in (uid.JPEG2000Lossless, uid.JPEGLSLossless, uid.JPEGLosslessSV1):
        error = refusal(write_dicom(tmp_path / "a", ramp(), syntax, Rows=8))
        assert error.reason is Reason.CORRUPT
        assert "size" in error.detail


def test_a_frame_beyond_the_pixel_budget_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_dicom(tmp_path / "a", ramp(20, 30))
    assert decode(path).values.shape == (20, 30)
    monkeypatch.setattr(reading, "PIXEL_BUDGET", 599)
    assert refusal(path).reason is Reason.TOO_LARGE


def test_a_deflated_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_dicom(tmp_path / "a", np.zeros((512, 512), "u1"), LOSSLESS[3])
    assert path.stat().st_size < 5000
    monkeypatch.setattr(dicom, "INFLATED_BUDGET", 100_000)
    assert refusal(path).reason is Reason.TOO_LARGE


def test_a_cut_file_is_truncated_wherever_it_is_cut(tmp_path: Path) -> None:
    for syntax in (uid.ExplicitVRLittleEndian, uid.JPEG2000Lossless, uid.RLELossless):
        path = write_dicom(tmp_path / "a", ramp(), syntax)
        content = path.read_bytes()
        for keep in (len(content) - 20, content.index(b"\xe0\x7f\x10\x00") + 2):
            path.write_bytes(content[:keep])
            assert refusal(path).reason is Reason.TRUNCATED, (syntax, keep)


@pytest.mark.parametrize(
    "changes",
    [
        {"PhotometricInterpretation": "HSV"},
        {"SamplesPerPixel": 4},
        {"PhotometricInterpretation": "RGB"},
        {"BitsAllocated": 12, "BitsStored": 12},
    ],
)
def test_pixels_of_a_kind_that_nothing_reads_are_unsupported(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    assert refusal(write_dicom(tmp_path / "a", ramp(), **changes)).reason is Reason.UNSUPPORTED


def test_a_missing_attribute_is_named(tmp_path: Path) -> None:
    error = refusal(write_dicom(tmp_path / "a", ramp(), Rows=None))
    assert error.reason is Reason.CORRUPT
    assert "Rows" in error.detail


def test_a_frame_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a", ramp())
    for frame in (-1, 1):
        assert "frame" in refusal(path, frame).detail


# which bits of a cell a value is

CELLS = LOSSLESS[:5]  # syntaxes in which whole cells are stored
# bits: of a cell, of a value, the highest of them, those of overlays
FIELDS = [(16, 12, 15, ()), (16, 10, 13, (0, 3, 14, 15)), (16, 12, 12, (0, 15)), (8, 5, 7, (1,))]


@pytest.mark.parametrize("syntax", CELLS, ids=lambda syntax: syntax.keyword)
@pytest.mark.parametrize("field", FIELDS, ids=str)
@pytest.mark.parametrize("signed", [0, 1])
def test_values_are_taken_from_the_bits_that_they_are_in(
    tmp_path: Path, syntax: UID, field: tuple[int, int, int, tuple[int, ...]], signed: int
) -> None:
    allocated, stored, high, overlays = field
    rng = np.random.default_rng(0)
    low = -(1 << stored - 1) if signed else 0
    values = rng.integers(low, low + (1 << stored), (3, 8, 10))
    values[:, 0, :2] = low, low + (1 << stored) - 1
    cells = (values & (1 << stored) - 1) << (high + 1 - stored)
    about: dict[str, Any] = {"BitsStored": stored, "HighBit": high, "PixelRepresentation": signed}
    data = dataset(cells.astype(f"u{allocated // 8}"), syntax, **about)
    for number, bit in enumerate(overlays):
        cells |= rng.integers(0, 2, cells.shape) << bit
        data.add_new(0x60000100 + (number << 17), "US", allocated)
        data.add_new(0x60000102 + (number << 17), "US", bit)
    put(data, cells.astype(f"u{allocated // 8}"), syntax)
    data.save_as(tmp_path / "a", enforce_file_format=True)
    for frame in (2, 0, 1):
        found = decode(tmp_path / "a", frame)
        assert found.values.tolist() == values[frame].tolist()
        assert found.values.dtype.kind == ("i" if signed else "u")
        assert found.bits == stored


def put(data: FileDataset, cells: NDArray[Any], syntax: UID) -> None:
    """Store cells, whatever is in them; in RLE the bytes of each plane, the highest first."""
    if syntax != uid.RLELossless:
        add_pixels(data, cells, syntax)
        return
    frames = []
    for cell in cells:
        planes = [cell >> shift & 255 for shift in range(8 * (cells.itemsize - 1), -1, -8)]
        segments = [bytes(imagecodecs.packbits_encode(each.astype(np.uint8))) for each in planes]
        begins = np.cumsum([64, *map(len, segments)])[: len(segments)].tolist()
        header = struct.pack("<16I", len(segments), *begins, *[0] * (15 - len(segments)))
        frames.append(header + b"".join(segments))
    data.PixelData = encapsulate(frames)
    data["PixelData"].is_undefined_length = True


def test_colours_in_the_upper_bits_are_moved_down(tmp_path: Path) -> None:
    values = colours() >> 2
    path = write_dicom(tmp_path / "a", values << 2, BitsStored=6, HighBit=7)
    assert np.array_equal(decode(path).values, values)


def test_bits_below_a_value_that_hold_no_overlay_make_it_uncertain(tmp_path: Path) -> None:
    """As where HighBit alone is wrong, and values are in the lowest bits all the same."""
    path = write_dicom(tmp_path / "a", ramp(), BitsStored=12, HighBit=15)
    error = refusal(path)
    assert (error.reason, "leave out" in error.detail) == (Reason.UNSUPPORTED, True)


@pytest.mark.parametrize("syntax", [*LOSSLESS[5:], *LOSSY], ids=lambda syntax: syntax.keyword)
def test_a_codestream_whose_values_may_be_higher_bits_is_set_aside(
    tmp_path: Path, syntax: UID
) -> None:
    values = ramp(top=250, dtype="uint8") if syntax == uid.JPEGBaseline8Bit else ramp()
    bits = values.itemsize * 8
    about = {"BitsStored": bits - 4, "HighBit": bits - 1}
    error = refusal(write_dicom(tmp_path / "a", values, syntax, **about))
    assert error.reason is Reason.UNSUPPORTED
    assert "HighBit is not BitsStored - 1 in a compressed image" in error.detail


@pytest.mark.parametrize("high", [10, 16, 65535])
def test_a_highest_bit_that_cannot_be_is_corrupt(tmp_path: Path, high: int) -> None:
    error = refusal(write_dicom(tmp_path / "a", ramp(), BitsStored=12, HighBit=high))
    assert (error.reason, "impossible bits" in error.detail) == (Reason.CORRUPT, True)


def test_without_a_highest_bit_values_are_in_the_lowest(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a", ramp(), BitsStored=12, HighBit=None)
    assert np.array_equal(decode(path).values, ramp())
