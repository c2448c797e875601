"""Every file of the collections of hospital formats: read, or set aside with the right reason.

Run: python benchmarks/read_all.py

For each folder the table says how many files of which kind became how many images, and for which
reasons files were set aside. These are compared with `EXPECTED`, written by hand from what the
files are. The slices of NIfTI volumes are compared, value by value, with what nibabel loads and
turns to its canonical orientation; `dicom_files.py` does that with single DICOM files, and
`series_agree.py` with series. The script ends with 1 where anything differs.
"""

import sys
import time
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from record import data_folder, keep

from medssl.errors import Reason
from medssl.identity import SiteKey
from medssl.scanning.walk import Found
from medssl.scanning.worker import read_file
from medssl.sources.decoded import Linear
from medssl.sources.volumes import open_volume

FOLDERS = (
    "dicom_dicomdir",
    "dicom_enhanced_mr",
    "dicom_files",
    "dicom_hippocampus_series",
    "dicom_mr_series",
    "nifti_samples",
    "seg_hippocampus",
    "wsi_small",
    "path_monuseg",
)
NO_IMAGES = (".md", ".csv", ".json", ".bval", ".bvec", ".xml", ".txt")  # beside the data
EXPECTED = {  # of the files that hold no image to learn from; all others are to be read
    **{f"*{suffix}": Reason.NOT_AN_IMAGE for suffix in NO_IMAGES},
    "dicom_dicomdir/TINY_ALPHA/README": Reason.NOT_AN_IMAGE,
    "dicom_dicomdir/*DICOMDIR*": Reason.NO_PIXELS,
    "dicom_dicomdir/TINY_ALPHA/PT000000/*": Reason.NO_PIXELS,  # whole objects without Rows
    "dicom_files/rtplan.dcm": Reason.NO_PIXELS,
    "dicom_files/test-SR.dcm": Reason.NO_PIXELS,
    "dicom_files/waveform_ecg.dcm": Reason.NO_PIXELS,
    "dicom_files/liver.dcm": Reason.SEGMENTATION,
    "dicom_files/liver_1frame.dcm": Reason.SEGMENTATION,
    "wsi_small/boxes.tiff": Reason.UNSUPPORTED,  # says no microns per pixel
    "wsi_small/boxes_0.dcm": Reason.NO_TILES,  # a slide of 16 x 16 px, without tissue
    "wsi_small/boxes_1.dcm": Reason.UNSUPPORTED,  # its thumbnail
}


def main() -> None:
    """Read all folders, keep the table, and end with 1 if anything in it is not right."""
    folders = [measure(data_folder(name)) for name in FOLDERS]
    keep("read_all", {"folders": folders})
    wrong = [f"{each['folder']}/{item['file']}" for each in folders for item in each["wrong"]]
    differ = sum(each.get("nifti_that_differ", 0) for each in folders)
    if wrong or differ:
        sys.exit(f"not as expected: {', '.join(wrong)}; {differ} NIfTI files differ from nibabel's")


def measure(folder: Path) -> dict[str, Any]:
    """Read every file of one folder."""
    began = time.perf_counter()
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    kinds: Counter[str] = Counter()
    images: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    aside: list[dict[str, str]] = []
    wrong: list[dict[str, str | None]] = []
    compared = differ = 0
    for path in files:
        name = str(path.relative_to(folder))
        outcome = read_file(folder, Found(name, ""), SiteKey(b"benchmark"))
        expected = expected_reason(f"{folder.name}/{name}")
        found = outcome.aside and str(outcome.aside.reason)
        if found != expected:
            wrong.append({"file": name, "expected": expected, "found": found})
        if outcome.aside:
            reasons[outcome.aside.reason] += 1
            if path.suffix not in NO_IMAGES:
                detail = outcome.aside.detail
                aside.append({"file": name, "reason": outcome.aside.reason, "detail": detail})
            continue
        kind = outcome.rows[0]["kind"]
        kinds[kind] += 1
        images[kind] += len(outcome.rows)
        if kind == "nifti":
            compared += 1
            differ += not _is_equal(path)
    return {
        "folder": folder.name,
        "files": len(files),
        "read": dict(kinds),
        "images": dict(images),
        "set_aside": dict(reasons),
        "set_aside_beside_texts": aside,
        "wrong": wrong,
        **({"nifti_compared": compared, "nifti_that_differ": differ} if compared else {}),
        "seconds": round(time.perf_counter() - began, 1),
    }


def expected_reason(file: str) -> str | None:
    """Return the reason for which a file is to be set aside; None if it is to be read.

    Args:
        file: Folder and path in it.
    """
    fitting = (reason for pattern, reason in EXPECTED.items() if fnmatchcase(file, pattern))
    return next(map(str, fitting), None)


def _is_equal(path: Path) -> bool:
    """Compare all slices with those of nibabel, as an independent reader."""
    image = nib.as_closest_canonical(nib.load(path))
    voxels = np.asarray(image.dataobj)
    voxels = voxels.reshape(*voxels.shape, *[1] * (4 - voxels.ndim))
    turned = voxels[::-1, ::-1]  # to the left, to the back
    zooms = np.array(image.header.get_zooms()[:3])
    order = np.argsort(zooms)
    across = order[2] if zooms[order[2]] > 1.2 * zooms[order[1]] else 2
    if across != 2:
        turned = turned[:, :, ::-1]
    axes = {2: (3, 2, 1, 0), 1: (3, 1, 2, 0), 0: (3, 0, 2, 1)}[int(across)]
    expected = turned.transpose(axes).reshape(-1, *(turned.shape[axis] for axis in axes[2:]))
    with open_volume(path, "nifti") as reader:
        found = np.stack([reader.decode(frame).values for frame in range(reader.facts.frames)])
        scale = reader.rescale or Linear(1, 0)
    found = found * scale.slope + scale.intercept
    return bool(found.shape == expected.shape and np.allclose(found, expected, rtol=1e-6))


if __name__ == "__main__":
    main()
