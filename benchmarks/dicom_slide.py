"""A slide in DICOM against the same slide in SVS: equal tiles, and tiles per second of both.

Run: OMP_NUM_THREADS=1 python benchmarks/dicom_slide.py

The JPEG tiles of Aperio's CMU-1-Small-Region are put into a DICOM file as they are, so that both
files hold the same pixels; every tile of 256 px is compared. By one thread and processor time, the
slides just opened.
"""

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from pydicom import uid
from pydicom.encaps import encapsulate
from record import data_folder, keep
from slides import rate

from medssl.sources.cut import Cut, TileWishes
from medssl.sources.slide import open_slide
from medssl.sources.slide_tissue import tissue_tiles
from tests.medssl.test_dicom_slides import save, slide

MPP = 0.499  # as the file says


def rewrap(source: Path, target: Path) -> Path:
    """Write the first level of an SVS file as DICOM, without decoding its tiles."""
    with tifffile.TiffFile(source) as file:
        page: Any = file.pages[0]
        codes = []
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            file.filehandle.seek(offset)
            codes.append(page.jpegtables[:-2] + file.filehandle.read(count)[2:])
    data = slide(np.zeros((64, 64, 3), np.uint8), mpp=MPP, syntax=uid.JPEGBaseline8Bit)
    data.Rows, data.Columns = page.tilelength, page.tilewidth
    data.TotalPixelMatrixRows, data.TotalPixelMatrixColumns = page.imagelength, page.imagewidth
    data.NumberOfFrames = len(codes)
    data.PixelData = encapsulate(codes)
    return save(target, data)


def measure(path: Path, cut: Cut) -> tuple[dict[str, Any], np.ndarray[Any, Any]]:
    """Return speed and number of tiles, and the tiles themselves."""
    with ExitStack() as stack:
        opened = stack.enter_context(open_slide(path, cut))
        frames = np.arange(opened.facts.frames)
        kept = tissue_tiles(opened, TileWishes(cut)).frames
        tiles = np.stack([opened.decode(int(frame)).values for frame in frames])
        speed = rate(lambda: stack.enter_context(open_slide(path, cut)).decode, frames)
    return {"tiles": len(frames), "with_tissue": len(kept), "per_second": speed}, tiles


def main() -> int:
    """Compare both; return 1 if a tile differs."""
    source = data_folder("wsi_small") / "CMU-1-Small-Region.svs"
    found: dict[str, Any] = {}
    differences = []
    with tempfile.TemporaryDirectory() as folder:
        copy = rewrap(source, Path(folder) / "slide.dcm")
        for mpp in (MPP, 1.0):
            svs, ours = measure(source, Cut(256, mpp))
            dicom, theirs = measure(copy, Cut(256, mpp))
            differences.append(int(np.abs(ours.astype(int) - theirs).max()))
            found[f"{mpp} um"] = {"svs": svs, "dicom": dicom, "largest_difference": differences[-1]}
    keep("dicom_slide", {"slide": source.name, "clock": "processor time", "cuts": found})
    return 1 if any(differences) else 0


if __name__ == "__main__":
    sys.exit(main())
