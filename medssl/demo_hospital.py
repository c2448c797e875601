"""An invented hospital: the files an archive might export, and a table of labels beside them."""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, FileMetaDataset, uid
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders.base import RLELosslessEncoder
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    RLELossless,
    generate_uid,
)

from medssl.demo_texture import CLASSES, draw_image, draw_look

Frames = NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Export:
    """How one department exports its images.

    Attributes:
        syntax: Transfer syntax.
        bits: Stored per value.
        inverted: MONOCHROME1, where 0 is white.
        one_file: All images of a study as frames of one file.
        folder: Where a study lies, with the numbers of patient and study to fill in.
        name: Of a file in it, with the number of the image to fill in.
    """

    syntax: UID
    bits: int
    inverted: bool = False
    one_file: bool = False
    folder: str = "radiology/{patient:03}/study1"
    name: str = "IM{number:04}"


EXPORTS = (
    Export(ExplicitVRLittleEndian, 12, folder="radiology/2024/03/{patient:03}/chest/pa"),
    Export(ImplicitVRLittleEndian, 16, folder="archive/DICOM/P{patient:05}/S1", name="I{number}"),
    Export(JPEGLSLossless, 12, name="image{number:02}.dcm"),
    Export(JPEG2000Lossless, 16, folder="transfer/{patient:03}", name="{number:08x}"),
    Export(ExplicitVRBigEndian, 12, folder="archive/unix/p{patient}", name="{number}.img"),
    Export(RLELossless, 12, inverted=True, name="image{number:02}.dcm"),
    Export(DeflatedExplicitVRLittleEndian, 16, folder="transfer/{patient:03}", name="{number:08x}"),
    Export(JPEGLosslessSV1, 16, inverted=True, name="IM-{number}"),
    Export(RLELossless, 16, one_file=True, folder="cine/{patient:03}", name="loop"),
    Export(ExplicitVRLittleEndian, 12, one_file=True, folder="cine/{patient:03}", name="loop.dcm"),
)


def write_hospital(
    folder: Path,
    labels: Path,
    *,
    patients: int = 40,
    images: int = 15,
    seed: int = 0,
    on_patient: Callable[[], None] = lambda: None,
) -> None:
    """Write an invented hospital's files below `folder`, and its patients' classes to `labels`.

    The same arguments give the same bytes. Classes and ways of exporting are independent.

    Args:
        folder: Must not exist.
        labels: CSV with the columns `patient` and `label`.
        patients: Number of patients, at least 12; the classes take turns.
        images: Number of images per patient.
        seed: Of everything drawn.
        on_patient: Called after each patient.
    """
    rows = []
    for patient in range(1, patients + 1):
        kind = CLASSES[patient % len(CLASSES)]
        export = _export_of(patient)
        frames = _draw_patient(kind, export, images, (seed, patient))
        for path, dataset in _files(patient, frames, export, seed):
            _write(dataset, folder / path)
        rows.append((_patient_id(patient), kind))
        on_patient()
    _write_what_else_lies_around(folder, seed)
    labels.parent.mkdir(parents=True, exist_ok=True)
    with labels.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("patient", "label"), *rows])


def _export_of(patient: int) -> Export:
    """Choose for as many patients at a time as there are classes, one of each."""
    return EXPORTS[(patient - 1) // len(CLASSES) % len(EXPORTS)]


def _patient_id(patient: int) -> str:
    return f"DEMO-{patient:03}"


def _draw_patient(kind: str, export: Export, images: int, seed: tuple[int, int]) -> Frames:
    """Draw `[images, rows, columns]` as stored."""
    look = draw_look(np.random.default_rng(seed))
    planes = [
        draw_image(np.random.default_rng((*seed, number)), kind, look) for number in range(images)
    ]
    values = 1.0 - np.stack(planes) if export.inverted else np.stack(planes)
    stored: Frames = np.rint(values * (2**export.bits - 1)).astype(np.uint16)
    return stored


def _files(
    patient: int, frames: Frames, export: Export, seed: int
) -> Iterator[tuple[Path, Dataset]]:
    """Give the files of one patient."""
    folder = Path(export.folder.format(patient=patient))
    groups = frames[None] if export.one_file else frames[:, None]
    for number, group in enumerate(groups, start=1):
        dataset = _describe(patient, number, seed, one_file=export.one_file)
        _put_pixels(dataset, group, export)
        yield folder / export.name.format(number=number), dataset


def _describe(patient: int, number: int, seed: int, *, one_file: bool) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID = (
        MultiFrameGrayscaleWordSecondaryCaptureImageStorage
        if one_file
        else DigitalXRayImageStorageForPresentation
    )
    dataset.SOPInstanceUID = _uid("image", seed, patient, number)
    dataset.StudyInstanceUID = _uid("study", seed, patient)
    dataset.SeriesInstanceUID = _uid("series", seed, patient)
    dataset.PatientID = _patient_id(patient)
    dataset.PatientName = f"Invented^Patient {patient}"
    dataset.Modality = "DX"
    dataset.InstanceNumber = number
    dataset.PixelSpacing = [0.8, 0.8]
    return dataset


def _uid(*parts: str | int) -> UID:
    return generate_uid(entropy_srcs=["medssl demo", *map(str, parts)])


def _put_pixels(dataset: Dataset, frames: Frames, export: Export) -> None:
    """Store `frames`, `[number, rows, columns]`, as `export` says."""
    count, dataset.Rows, dataset.Columns = frames.shape
    if export.one_file:
        dataset.NumberOfFrames = count
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME1" if export.inverted else "MONOCHROME2"
    dataset.BitsAllocated = 16
    dataset.BitsStored = export.bits
    dataset.HighBit = export.bits - 1
    dataset.PixelRepresentation = 0
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = export.syntax
    if export.syntax.is_encapsulated:
        dataset.PixelData = encapsulate([_encode(frame, dataset) for frame in frames])
        dataset["PixelData"].VR = "OB"
    else:
        order = ">u2" if export.syntax == ExplicitVRBigEndian else "<u2"
        dataset.PixelData = frames.astype(order).tobytes()
        dataset["PixelData"].VR = "OW"


def _encode(frame: Frames, dataset: Dataset) -> bytes:
    """Compress one frame without loss, as the transfer syntax says."""
    bits = dataset.BitsStored
    match dataset.file_meta.TransferSyntaxUID:
        case uid.JPEGLosslessSV1:
            code = imagecodecs.jpeg8_encode(frame, lossless=True, predictor=1, bitspersample=bits)
        case uid.JPEGLSLossless:
            code = imagecodecs.jpegls_encode(frame)
        case uid.JPEG2000Lossless:
            code = imagecodecs.jpeg2k_encode(frame, codecformat="j2k", bitspersample=bits)
        case _:
            code = RLELosslessEncoder.encode(
                frame,
                encoding_plugin="pydicom",
                rows=dataset.Rows,
                columns=dataset.Columns,
                number_of_frames=1,
                samples_per_pixel=1,
                bits_allocated=16,
                bits_stored=bits,
                pixel_representation=0,
                photometric_interpretation="MONOCHROME2",
            )
    return bytes(code)


def _write(dataset: Dataset, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def _write_what_else_lies_around(folder: Path, seed: int) -> None:
    """Add what archives hold besides good images: damage, other files, a copy, plain pictures."""
    whole, packed = (_first_file(folder, number) for number in (1, 11))
    (whole.parent / "IM9001").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (packed.parent / "image99.dcm").write_bytes(_blank_middle(packed.read_bytes()))
    (whole.parent / "copy of IM0001").write_bytes(whole.read_bytes())
    (folder / "radiology" / "README.txt").write_text("Exported for the demo.\n", encoding="utf-8")
    random = np.random.default_rng(seed)
    look = draw_look(random)
    (folder / "teaching").mkdir()
    for number, kind in enumerate(CLASSES, start=1):
        pixels = np.rint(draw_image(random, kind, look) * 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "teaching" / f"example{number}.png")


def _first_file(folder: Path, patient: int) -> Path:
    export = _export_of(patient)
    return folder / export.folder.format(patient=patient) / export.name.format(number=1)


def _blank_middle(content: bytes) -> bytes:
    third = len(content) // 3
    return content[:third] + bytes(third) + content[2 * third :]
