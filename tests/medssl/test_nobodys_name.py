"""Names, dates and numbers planted wherever a file can hold one reach no output of the whole line.

Planted are: every DICOM attribute that holds words, names, dates or identifiers, nested and
private ones, comments of PNG, JPEG, TIFF, NIfTI, NRRD and MetaImage files and of a slide, and the
names of folders and files below the root and in an archive. Paths stand in the column `path` of a
manifest and of the list of rejected files, for the images to be found, unless `--private` is given;
nothing else may hold any.
"""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tifffile
from PIL import Image, PngImagePlugin
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from typer.testing import CliRunner

from medssl.cli import app
from medssl.sources.dicom_values import TAGS
from tests.medssl.make import dataset, metaimage, nifti, nrrd_file
from tests.medssl.test_slides import APERIO, specimen, write_slide
from tests.medssl.tiny_run import SIDE, use_tiny_backbone

WORD, DATE, NUMBER = "Qzxplanted", "19470813", "447195518"
TIME = "234917.650318"
SECRETS = (WORD.lower(), DATE, "1947-08-13", "1947, 8, 13", NUMBER, "17.650318", "17, 650318")
VALUES: dict[str, Any] = {
    **dict.fromkeys(("LO", "SH", "ST", "LT", "UT", "UC"), f"{WORD} {NUMBER}"),
    "PN": f"{WORD}^Jane",
    "AE": WORD,
    "UR": f"http://{WORD}",
    "UI": f"1.2.{NUMBER}.3",
    "DA": DATE,
    "DT": f"{DATE}{TIME}",
    "TM": TIME,
    "AS": f"{NUMBER}Y",  # longer than an age may be, so that it cannot be there by chance
    "DS": f"77.{NUMBER}",
    "IS": NUMBER,
}
PATIENTS, COUNT = 12, 3
KINDS = {"dicom", "png", "jpeg", "tiff", "nifti", "nrrd", "metaimage", "slide"}
_UNTOUCHED = {*TAGS, 0x00080016}  # how the pixels are read, and the kind of object
_READ_AND_HIDDEN = {  # read, and to be hidden all the same
    "PatientID": f"{WORD} {NUMBER}",
    "StudyInstanceUID": VALUES["UI"],
    "SeriesInstanceUID": VALUES["UI"],
    "FrameOfReferenceUID": VALUES["UI"],
    "PyramidUID": VALUES["UI"],
    "InstitutionName": WORD,
    "StationName": WORD,
    "ManufacturerModelName": WORD,
    "DeviceSerialNumber": NUMBER,
    "Modality": WORD.upper()[:16],
    "ConversionType": WORD.upper()[:16],
    "BodyPartExamined": WORD.upper()[:16],
    "ViewPosition": WORD.upper()[:16],
    "Laterality": WORD.upper()[:16],
    "ImageLaterality": WORD.upper()[:16],
    "Units": WORD.upper()[:16],
    "SUVType": WORD.upper()[:16],
    "DecayCorrection": WORD.upper()[:16],
    "CorrectedImage": WORD.upper()[:16],
    **dict.fromkeys(("SeriesDate", "AcquisitionDate"), DATE),
    **dict.fromkeys(("SeriesTime", "AcquisitionTime"), TIME),
    "PatientWeight": f"77.{NUMBER}",
    "InstanceNumber": NUMBER,
    "AcquisitionNumber": DATE,
    "TemporalPositionIdentifier": NUMBER,
    "FrameReferenceTime": NUMBER,
    "ActualFrameDuration": NUMBER,
}
_OF_PET = {  # so that the SUV are known, from a weight, times and a dose that nobody may see
    "Modality": "PT",
    "Units": "BQML",
    "CorrectedImage": ["ATTN", "DECY"],
    "DecayCorrection": "START",
}


def plant(data: Dataset) -> int:
    """Write secrets into every attribute that can hold one; return how many were planted."""
    count = 0
    for tag, (vr, multiplicity, *_) in DicomDictionary.items():
        is_single = multiplicity.split("-")[0] == "1"
        if vr in VALUES and is_single and tag not in _UNTOUCHED and tag >> 16 not in (0, 2, 4):
            data.add_new(tag, vr, VALUES[vr])
            count += 1
    for keyword, value in _READ_AND_HIDDEN.items():
        setattr(data, keyword, value)
    return count


def write_planted_dicom(path: Path, pixels: np.ndarray, patient: int, place: int) -> None:
    """Write a slice, so that its numbers are read to sort it, and may not be seen."""
    data = dataset(pixels)
    data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    data.ImagePositionPatient = [0, 0, 2 * place]
    assert plant(data) > 1000
    inner, innermost = Dataset(), Dataset()
    plant(inner)
    innermost.PatientName = VALUES["PN"]
    inner.RequestAttributesSequence = Sequence([innermost])
    data.ReferencedStudySequence = Sequence([inner])
    private = data.private_block(0x0099, WORD, create=True)
    private.add_new(1, "LO", WORD)
    data.PatientID = f"{WORD} {NUMBER} {patient}"
    data.SOPInstanceUID = f"1.2.{NUMBER}.{patient}"
    data.save_as(path)


def write_planted_pet(path: Path, pixels: np.ndarray, patient: int) -> None:
    data = dataset(pixels.astype(np.uint16))
    plant(data)
    about = Dataset()
    plant(about)
    about.RadiopharmaceuticalStartDateTime = f"{DATE}{TIME}"
    about.RadiopharmaceuticalStartTime = TIME
    about.RadionuclideTotalDose = NUMBER
    about.RadionuclideHalfLife = f"6586.{NUMBER}"
    data.RadiopharmaceuticalInformationSequence = Sequence([about])
    for keyword, value in _OF_PET.items():
        setattr(data, keyword, value)
    data.PatientID = f"{WORD} {NUMBER} {patient}"
    data.save_as(path)


def write_planted_segmentation(path: Path) -> None:
    """Write an object whose structures and series have telling names."""
    data = dataset(np.zeros((SIDE, SIDE), np.uint8))
    plant(data)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.66.4"
    segment, series = Dataset(), Dataset()
    plant(segment)
    segment.SegmentNumber, segment.SegmentLabel = 1, WORD
    data.SegmentSequence = Sequence([segment])
    series.SeriesInstanceUID = f"1.2.{NUMBER}"
    data.ReferencedSeriesSequence = Sequence([series])
    data.save_as(path)


def write_planted_folder(root: Path) -> Path:
    """Fill a folder with every kind of file; return the table of labels."""
    rng = np.random.default_rng(0)
    lines = ["patient,label"]
    for patient in range(PATIENTS):
        folder = root / f"{WORD}_{patient}_{DATE}"
        folder.mkdir(parents=True)
        ill = patient % 2
        for number in range(COUNT):
            stripes = ill * 60 * np.sin(2.0 * np.arange(SIDE))
            pixels = (90 + 80 * rng.random((SIDE, SIDE)) + stripes).clip(0, 255).astype(np.uint8)
            write_planted_dicom(folder / f"{WORD}{number}.dcm", pixels, patient, number)
            mask = Image.fromarray((pixels > 130).astype(np.uint8))
            about = PngImagePlugin.PngInfo()
            about.add_text("Author", WORD)
            mask.save(folder / f"{WORD}{number}_mask.png", pnginfo=about)
        write_planted_pet(folder / f"{WORD}pet.dcm", pixels, patient)
        lines.append(f"{WORD} {NUMBER} {patient},{'ill' if ill else 'well'}")
    write_planted_others(root / WORD, next(root.glob("*/*.dcm")).read_bytes())
    labels = root.parent / "labels.csv"
    labels.write_text("\n".join(lines))
    return labels


def write_planted_others(others: Path, dicom: bytes) -> None:
    """Write one of each other kind, and files that are set aside."""
    rng = np.random.default_rng(1)
    others.mkdir()
    noise = rng.integers(0, 255, (SIDE, SIDE, SIDE), dtype=np.uint8)
    about = PngImagePlugin.PngInfo()
    about.add_text("Author", WORD)
    Image.fromarray(noise[0]).save(others / f"{WORD}.png", pnginfo=about)
    tifffile.imwrite(others / "a.tif", noise[1], description=WORD, software=NUMBER)
    (others / "b.nii").write_bytes(nifti(noise, descrip=WORD, aux_file=NUMBER, db_name=DATE))
    (others / "c.nrrd").write_bytes(nrrd_file(noise, content=WORD))
    (others / "d.mha").write_bytes(metaimage(noise, Comment=WORD))
    exif = Image.Exif()
    exif[0x013B], exif[0x0132] = WORD, DATE  # who made it, and when
    Image.fromarray(noise[2]).save(others / f"{WORD}.jpg", exif=exif, comment=WORD)
    with zipfile.ZipFile(others / f"{WORD}.zip", "w") as archive:
        archive.comment = WORD.encode()
        archive.write(others / f"{WORD}.png", f"{WORD}/{NUMBER}/{DATE}.png")
    about_slide = f"{APERIO.format(0.5)}|Title = {WORD}|User = {NUMBER}|Date = {DATE}"
    write_slide(others / f"{WORD}.svs", specimen(), description=about_slide)
    (others / f"{WORD}.txt").write_text(WORD)
    (others / f"{NUMBER}.png").write_bytes((others / f"{WORD}.png").read_bytes()[:60])
    write_planted_segmentation(others / f"{WORD}.seg")
    (others / f"{DATE}.dcm").write_bytes(dicom[: len(dicom) - 100])
    (others / f"{DATE}b.dcm").write_bytes(dicom.replace(b"MONOCHROME2", WORD.encode() + b" "))


def texts_of(path: Path, *, with_paths: bool) -> Iterator[tuple[str, str]]:
    """Give the content of an output as text, column by column for tables."""
    if path.suffix != ".parquet":
        yield path.name, path.read_bytes().decode("latin-1")
        return
    for name, column in pl.read_parquet(path).to_dict().items():
        if with_paths or name not in ("path", "masks"):
            yield f"{path.name}:{name}", "\n".join(map(str, column.to_list()))
    yield f"{path.name}: notes", json.dumps(pl.read_parquet_metadata(path))


def invoke(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.slow
@pytest.mark.parametrize("private", [False, True])
def test_nothing_planted_comes_out_of_the_whole_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    private: bool,
) -> None:
    use_tiny_backbone(monkeypatch)
    monkeypatch.setenv("MEDSSL_KEY_FILE", str(tmp_path / "own" / "site.key"))
    labels = write_planted_folder(tmp_path / "in")
    out, run = tmp_path / "out", tmp_path / "out" / "run"
    out.mkdir()
    small = ("run.steps=3", "run.batch_size=8", "run.device=cpu", "data.workers=0")
    settings = [word for one in (*small, "image_size=16") for word in ("--set", one)]
    stored = ("--set", f"data.store={out / 'store'}")
    few = ("--split", "patient", "--fraction", 1, "--repeats", 1)
    scan = ("scan", tmp_path / "in", "--out", out / "manifest.parquet", "--labels", labels)
    tiles = ("--set", "tile_px=96")
    masks = ("--masks", "{folder}/{stem}_mask.png")
    outline = ("--split", "patient", "--shots", 1, "--repeats", 1, "--steps", 2)
    said = [
        invoke(*scan, *tiles, *masks, *(["--private"] if private else [])),
        invoke("cache", out / "manifest.parquet", "--out", out / "store", *settings),
        invoke("pretrain", out / "manifest.parquet", "--out", run, *settings, *stored),
        invoke("embed", run, out / "manifest.parquet", "--out", out / "embeddings.parquet"),
        invoke("finetune", run, "--out", out / "results", *few),
        invoke("predict", out / "results", out / "manifest.parquet", "--out", out / "p.parquet"),
        invoke("report", out / "results"),
        invoke("segment", run, "--out", out / "outlines", *outline),
        invoke("report", out / "outlines"),
        invoke("report", run),
    ]
    rows = pl.read_parquet(out / "manifest.parquet")
    assert rows["patient"].drop_nulls().n_unique() == PATIENTS
    assert rows["site"].drop_nulls().n_unique() == 1
    assert rows["moment"].count() >= PATIENTS * COUNT
    assert rows["label"].count() == PATIENTS * (COUNT + 1)
    assert (rows["suv"].drop_nulls() == "suv").sum() == PATIENTS
    assert set(rows["kind"]) == KINDS
    assert rows["masks"].count() == PATIENTS * COUNT
    assert len(pl.read_parquet(out / "rejected.parquet")) == 5
    captured = capfd.readouterr()
    contents = {"output": "".join(said), "stdout": captured.out, "stderr": captured.err}
    files = [path for path in out.rglob("*") if path.is_file()]
    for path in files:
        contents |= {
            f"{path.parent}/{name}": text for name, text in texts_of(path, with_paths=private)
        }
    assert len(files) > 10
    found = [
        (name, secret)
        for name, text in contents.items()
        for secret in SECRETS
        if secret in text.lower() or secret in name.lower()
    ]
    assert not found
