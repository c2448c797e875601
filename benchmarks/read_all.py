"""Every file of the collections of hospital formats: read, or set aside with a reason.

Run: python benchmarks/read_all.py

For each folder the table says how many files of which kind became how many images, and for which
reasons files were set aside. The slices of NIfTI volumes are compared, value by value, with what
nibabel loads and turns to its canonical orientation.
"""

import time
from collections import Counter
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from record import data_folder, keep

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


def main() -> None:
    """Read all folders and keep the table."""
    keep("read_all", {"folders": [measure(data_folder(name)) for name in FOLDERS]})


def measure(folder: Path) -> dict[str, Any]:
    """Read every file of one folder."""
    began = time.perf_counter()
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    kinds: Counter[str] = Counter()
    images: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    aside: list[dict[str, str]] = []
    compared = differ = 0
    for path in files:
        name = str(path.relative_to(folder))
        outcome = read_file(folder, Found(name, ""), SiteKey(b"benchmark"))
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
        **({"nifti_compared": compared, "nifti_that_differ": differ} if compared else {}),
        "seconds": round(time.perf_counter() - began, 1),
    }


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
