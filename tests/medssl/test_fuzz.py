"""Whatever bytes come: an image or an `IngestError`, nothing else.

Decoding runs in this process: no decoder that `medssl.sources` uses has crashed it. Scans and
loaders decode in processes of their own all the same.
"""

import gzip
import io
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import DataElement, Dataset, uid

from medssl.errors import IngestError, Reason
from medssl.identity import SiteKey
from medssl.intensity import Window, to_display
from medssl.scanning.walk import Found
from medssl.scanning.worker import read_file
from medssl.sources.dicom_values import texts
from medssl.sources.open import open_image
from medssl.sources.sniff import sniff
from tests.medssl.make import (
    LOSSLESS,
    LOSSY,
    colours,
    metaimage,
    nifti,
    nrrd_file,
    ramp,
    write_dicom,
)

_DICOM = {syntax.keyword: syntax for syntax in (*LOSSLESS, *LOSSY)}
_DEEP_PNG, _GREY_TIFF = "png 16", "tiff pages"
_RASTER = ("PNG", "JPEG", "BMP", "TIFF", "npz", _DEEP_PNG, _GREY_TIFF, "tiff lzw", "jpeg lossless")
_VOLUMES = ("nifti", "nifti gz", "nifti 2", "nrrd", "nrrd gz", "metaimage", "metaimage zlib")
FORMATS = (*_DICOM, "palette", "several frames", *_RASTER, *_VOLUMES)


@cache
def sample(name: str) -> bytes:
    """Return a small valid file."""
    buffer = io.BytesIO()
    if name in _DICOM or name in ("palette", "several frames"):
        return _dicom_sample(name)
    if name in _VOLUMES:
        return _volume_sample(name)
    match name:
        case "npz":
            np.savez_compressed(
                buffer, train_images=ramp(8, 8, dtype="uint8")[None], train_labels=np.array([1])
            )
        case "png 16":
            return bytes(imagecodecs.png_encode(colours().astype(np.uint16) * 256))
        case "tiff pages":
            tifffile.imwrite(buffer, np.stack([ramp(), ramp()]), photometric="minisblack")
        case "tiff lzw":
            tifffile.imwrite(buffer, colours(), compression="lzw", predictor=True)
        case "jpeg lossless":
            return bytes(imagecodecs.jpeg8_encode(ramp(), lossless=True, bitspersample=16))
        case _:
            Image.fromarray(colours()).save(buffer, name)
    return buffer.getvalue()


def _volume_sample(name: str) -> bytes:
    voxels = np.stack([ramp(), ramp()])
    kind, _, how = name.partition(" ")
    if kind == "nrrd":
        return nrrd_file(voxels, packing="gzip" if how else "raw")
    if kind == "metaimage":
        return metaimage(voxels, packed=bool(how))
    volume = nifti(voxels, version=2 if how == "2" else 1)
    return gzip.compress(volume, mtime=0) if how == "gz" else volume


def _dicom_sample(name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        if name == "several frames":
            frames = np.stack([ramp(dtype="uint8", top=top) for top in (9, 99)])
            return write_dicom(path, frames, uid.JPEG2000Lossless).read_bytes()
        if name == "palette":
            tables = {
                f"{colour}PaletteColorLookupTable{part}": value
                for colour in ("Red", "Green", "Blue")
                for part, value in (("Descriptor", [256, 0, 16]), ("Data", bytes(512)))
            }
            values = ramp(top=255, dtype="uint8")
            write_dicom(path, values, PhotometricInterpretation="PALETTE COLOR", **tables)
            return path.read_bytes()
        values = ramp(top=250, dtype="uint8") if "Baseline" in name else ramp()
        return write_dicom(
            path, values, _DICOM[name], WindowCenter="9", WindowWidth="8"
        ).read_bytes()


def read_all(path: Path) -> None:
    """Decode every frame as scan and training do."""
    kind = sniff(path)
    member = "train_images" if kind == "npz" else None
    with open_image(path, kind, member) as reader:
        for frame in range(min(reader.facts.frames, 3)):
            to_display(reader.decode(frame), Window.AUTO)


def damage(content: bytes, flips: list[tuple[float, int]], keep: float) -> bytes:
    """Flip bits at relative places, then cut."""
    damaged = bytearray(content)
    for place, bit in flips:
        damaged[int(place * len(damaged))] ^= 1 << bit
    return bytes(damaged[: int(keep * len(damaged))])


places = st.floats(0, 1, exclude_max=True)
flips = st.lists(st.tuples(places, st.integers(0, 7)), max_size=8)


@pytest.mark.parametrize("name", FORMATS)
def test_the_samples_are_whole(tmp_path: Path, name: str) -> None:
    (tmp_path / "a").write_bytes(sample(name))
    read_all(tmp_path / "a")


@settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(FORMATS), flips, st.one_of(st.just(1.0), places))
@example("JPEG", [], 0.0)
def test_damaged_files_give_an_image_or_an_ingest_error(
    tmp_path: Path, name: str, flips: list[tuple[float, int]], keep: float
) -> None:
    path = tmp_path / "a"
    path.write_bytes(damage(sample(name), flips, keep))
    with suppress(IngestError):
        read_all(path)


@pytest.mark.parametrize("vr", [b"SQ", b"UN", b"OB", b"US", b"UL", b"FD", b"AT", b"DS", b"??"])
@pytest.mark.parametrize("content", [b"", b"\1\2\3" * 9, b"\xfe\xff\x00\xe0\x22\0\0\0" + bytes(34)])
def test_a_transfer_syntax_of_another_type_is_no_mistake_of_ours(
    tmp_path: Path, vr: bytes, content: bytes
) -> None:
    before, _, after = sample("ExplicitVRLittleEndian").partition(b"\x02\x00\x10\x00UI")
    (tmp_path / "a").write_bytes(before + b"\x02\x00\x10\x00" + vr + content + after)
    outcome = read_file(tmp_path, Found("a", "stamp"), SiteKey(b"k"))
    assert outcome.aside is None or outcome.aside.reason != Reason.READER_BUG, outcome.aside


def test_no_text_is_made_of_what_a_sequence_holds(tmp_path: Path) -> None:
    """As from a file that says that its modality is one."""
    header, inner = Dataset(), Dataset()
    inner.PatientName = "Jane Doe"
    header.add_new("OperatorIdentificationSequence", "SQ", [inner])
    element = header["OperatorIdentificationSequence"]
    header[0x00080060] = DataElement(0x00080060, "SQ", element.value)
    assert texts(tmp_path, header, "Modality") == []


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(FORMATS), st.integers(4, 400), st.binary(max_size=300))
def test_any_bytes_after_a_true_beginning_are_set_aside_or_read(
    tmp_path: Path, name: str, keep: int, rest: bytes
) -> None:
    (tmp_path / "a").write_bytes(sample(name)[:keep] + rest)
    outcome = read_file(tmp_path, Found("a", "stamp"), SiteKey(b"k"))
    assert (outcome.aside is None) == bool(outcome.rows)
