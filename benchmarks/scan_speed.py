"""How fast files are scanned and read, beside the libraries alone, and how memory and time grow.

Run: OMP_NUM_THREADS=1 python benchmarks/scan_speed.py [--files 1000 10000 100000]
    [--only decode series growth again]

`decode`: processor time of one core for 512 x 512 CT slices, as pydicom's
`dcmread(...).pixel_array` takes them, as the scan reads them (all checks, hashes and the manifest's
row), and as training does (window and canvas of 64 px). `series`: slices per second of real
series, as MONAI's `LoadImage` with `PydicomReader` loads a folder, and as `read_volume`. `growth`:
`medssl scan` as a process, with one worker, on folders of small files made on the spot: the first
scan, and a second one. `again`: likewise on CT slices of 512 x 512, uncompressed and compressed as
in archives. 100,000 of them are 5,000 with 20 names each.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
from matplotlib.axes import Axes
from monai.data.image_reader import PydicomReader
from monai.transforms.io.array import LoadImage
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from record import data_folder, earlier, keep, keep_chart

from medssl.config import Window
from medssl.identity import SiteKey
from medssl.loading.canvas import CanvasReader
from medssl.manifest import read_manifest
from medssl.scanning.scan import scan
from medssl.scanning.settings import ScanConfig
from medssl.scanning.walk import Found
from medssl.scanning.worker import read_file
from medssl.volumes.geometry import volumes_of
from medssl.volumes.read import read_volume
from sslcore.plots import draw_panels, series

PARTS = ("decode", "series", "growth", "again")
DECODED = 150  # files of each syntax
SLICES = 5000  # scanned twice
ROUNDS = 3
SERIES = (
    ("dicom_hippocampus_series", "Study1/13_HCropVolume"),
    ("dicom_hippocampus_series", "Study2/14_HCropVolume"),
    ("dicom_dicomdir", "98892001/CT5N"),
)
SYNTAXES = {
    "uncompressed": uid.ExplicitVRLittleEndian,
    "RLE": uid.RLELossless,
    "JPEG-LS": uid.JPEGLSLossless,
    "JPEG 2000": uid.JPEG2000Lossless,
}


def slice_of(number: int, side: int, syntax: uid.UID) -> Dataset:
    """Return a CT slice of its own pixels: smooth tissue and noise of 12 bit."""
    rng = np.random.default_rng(number)
    smooth = np.add.outer(np.arange(side), np.arange(side)) * 1500 / side
    pixels = (1024 + smooth + rng.normal(0, 20, (side, side))).astype(np.int16)
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = uid.CTImageStorage, uid.generate_uid()
    data.Modality, data.PatientID = "CT", f"P{number // 100}"
    data.StudyInstanceUID = data.SeriesInstanceUID = f"1.2.{number // 100 + 1}"
    data.Rows = data.Columns = side
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
    data.PixelSpacing, data.ImageOrientationPatient = [0.7, 0.7], [1, 0, 0, 0, 1, 0]
    data.ImagePositionPatient, data.InstanceNumber = [0, 0, number % 100], number % 100
    data.RescaleSlope, data.RescaleIntercept = 1, -1024
    data.PixelData = pixels.tobytes()
    if syntax == uid.RLELossless:
        data.compress(syntax, generate_instance_uid=False)
    elif syntax != uid.ExplicitVRLittleEndian:
        packed = (
            imagecodecs.jpegls_encode(pixels.view(np.uint16))
            if syntax == uid.JPEGLSLossless
            else imagecodecs.jpeg2k_encode(pixels, codecformat="J2K", reversible=True, level=0)
        )
        data.file_meta.TransferSyntaxUID = syntax
        data.PixelData = encapsulate([bytes(packed)])
        data["PixelData"].is_undefined_length = True
    return data


def write(folder: Path, count: int, side: int, syntax: uid.UID) -> list[Path]:
    """Write `count` slices, a hundred to a folder."""
    paths = []
    for number in range(count):
        path = folder / f"{number // 100:04d}" / f"{number:06d}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        slice_of(number, side, syntax).save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def rate(work: Callable[[Path], object], paths: list[Path]) -> float:
    """Return the best paths per second of processor time."""
    best = 0.0
    for _ in range(ROUNDS):
        began = time.process_time()
        for path in paths:
            work(path)
        best = max(best, len(paths) / (time.process_time() - began))
    return best


def decode(name: str) -> dict[str, Any]:
    """Compare three ways to read the same files."""
    with tempfile.TemporaryDirectory() as scratch:
        return _decode(name, Path(scratch) / "files")


def _decode(name: str, folder: Path) -> dict[str, Any]:
    paths = write(folder, DECODED, 512, SYNTAXES[name])
    out = folder.parent / "manifest.parquet"
    scan(folder, out, ScanConfig(workers=1))
    manifest = read_manifest(out)
    reader = CanvasReader(manifest, canvas=64, channels=1, window=Window.AUTO)
    key, rows = SiteKey(b"benchmark"), {path: row for row, path in enumerate(paths)}
    alone = rate(lambda path: pydicom.dcmread(path).pixel_array, paths)
    scanned = rate(
        lambda path: read_file(folder, Found(str(path.relative_to(folder)), ""), key), paths
    )
    trained = rate(lambda path: reader.read(rows[path]), paths)
    return {
        "syntax": name,
        "pydicom_per_s": round(alone, 1),
        "scan_per_s": round(scanned, 1),
        "training_per_s": round(trained, 1),
        "scan_of_pydicom": round(scanned / alone, 2),
        "training_of_pydicom": round(trained / alone, 2),
    }


def of_series(folder: Path) -> dict[str, Any]:
    """Compare MONAI's reader of a folder with the volume of a scan."""
    with tempfile.TemporaryDirectory() as scratch:
        scan(folder, Path(scratch) / "m.parquet", ScanConfig(workers=1))
        manifest = read_manifest(Path(scratch) / "m.parquet")
    (slices,) = volumes_of(manifest.rows)
    load = LoadImage(reader=PydicomReader(), image_only=True)
    monai = rate(load, [folder])
    here = rate(lambda _: read_volume(manifest, slices), [folder])
    return {
        "series": folder.name,
        "slices": len(slices),
        "monai_per_s": round(monai * len(slices), 1),
        "here_per_s": round(here * len(slices), 1),
    }


def scanned(folder: Path, out: Path) -> dict[str, float]:
    """Run the command, and return what it took."""
    words = [sys.executable, "-m", "medssl.cli", "scan", str(folder), "--out", str(out)]
    began = time.perf_counter()
    process = subprocess.Popen([*words, "--workers", "1"], stdout=subprocess.DEVNULL)
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, _resident(process.pid))
        time.sleep(0.05)
    if process.returncode:
        sys.exit(f"medssl scan ended with status {process.returncode}")
    return {"seconds": round(time.perf_counter() - began, 1), "peak_gb": round(peak, 3)}


def _resident(pid: int) -> float:
    """Return the memory of a process and its children, GB."""
    total = 0
    for each in [pid, *_children(pid)]:
        try:
            pages = Path(f"/proc/{each}/statm").read_text(encoding="ascii").split()[1]
        except OSError:
            continue
        total += int(pages) * os.sysconf("SC_PAGE_SIZE")
    return total / 1e9


def _children(pid: int) -> list[int]:
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            own = [int(word) for word in path.read_text(encoding="ascii").split()]
        except OSError:
            continue
        found += own + [each for child in own for each in _children(child)]
    return found


def growth(counts: list[int]) -> list[dict[str, Any]]:
    """Scan folders of growing size twice."""
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder, done = Path(scratch) / "files", 0
        for count in sorted(counts):
            for number in range(done, count):
                path = folder / f"{number // 100:05d}" / f"{number:07d}.dcm"
                path.parent.mkdir(parents=True, exist_ok=True)
                slice_of(number, 64, uid.ExplicitVRLittleEndian).save_as(
                    path, enforce_file_format=True
                )
            done = count
            out = Path(scratch) / f"{count}.parquet"
            first, second = scanned(folder, out), scanned(folder, out)
            rows.append({"files": count, "first": first, "second": second})
            print(rows[-1], file=sys.stderr, flush=True)
    return rows


def again(name: str, links: int = 1) -> dict[str, Any]:
    """Scan slices of the usual size twice; of each there are `links`, which a scan tells not."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, out = Path(scratch) / "files", Path(scratch) / "manifest.parquet"
        for path in write(folder, SLICES, 512, SYNTAXES[name]):
            for number in range(1, links):
                link = folder / f"{number:02d}" / path.relative_to(folder)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.hardlink_to(path)
        return {
            "syntax": name,
            "files": SLICES * links,
            "first": scanned(folder, out),
            "second": scanned(folder, out),
        }


def chart(rows: list[dict[str, Any]]) -> Any:
    """Draw memory and time over the number of files."""

    def paint(axes: Axes, name: str, title: str) -> None:
        counts = [row["files"] for row in rows]
        for place, which in enumerate(("first", "second")):
            values = [row[which][name] for row in rows]
            axes.plot(counts, values, "o-", color=series(place).light, label=f"{which} scan")
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("files")
        axes.set_title(title)
        axes.legend(frameon=False)

    panels = (
        lambda axes: paint(axes, "peak_gb", "Memory, GB"),
        lambda axes: paint(axes, "seconds", "Time, s"),
    )
    return draw_panels(panels, width=820, height=300)


def main() -> None:
    """Measure all three."""
    parser = argparse.ArgumentParser(description="Speed and memory of scanning.")
    parser.add_argument("--files", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    wishes = parser.parse_args()
    measures: dict[str, Callable[[], list[Any]]] = {
        "decode": lambda: [decode(name) for name in SYNTAXES],
        "series": lambda: [of_series(data_folder(name) / place) for name, place in SERIES],
        "growth": lambda: growth(wishes.files),
        "again": lambda: [again("uncompressed"), again("uncompressed", 20), again("JPEG 2000")],
    }
    for name in wishes.only:
        found = {"load_average": round(os.getloadavg()[0], 1), "rows": measures[name]()}
        before = {part: of for part, of in earlier("scan_speed", {}).items() if part != "machine"}
        keep("scan_speed", {**before, name: found})
        if name == "growth":
            keep_chart("scan_speed", chart(found["rows"]))


if __name__ == "__main__":
    main()
