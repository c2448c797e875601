"""DICOM series as volumes beside the NIfTI files that dcm2niix made of them.

Run: python benchmarks/series_agree.py

Each folder is scanned. Every volume that the scan puts together from DICOM files is brought to
nibabel's closest canonical orientation and compared with the reference of the same size that is
nearest to it: the largest difference of a voxel, and of a number of the affine, mm. Where a
reference holds other units, as dcm2niix chooses for Philips, `scale` is the factor between the two,
and the difference is what is left after it, in steps of the stored integers.
"""

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from record import data_folder, keep

from medssl.manifest import read_manifest
from medssl.scanning.scan import scan
from medssl.scanning.settings import ScanConfig
from medssl.sources.volume import LPS
from medssl.volumes.geometry import volumes_of
from medssl.volumes.read import read_volume

FOLDERS = ("dicom_mr_series", "dicom_enhanced_mr")


class Reference(NamedTuple):
    """One volume of a reference file, in canonical orientation."""

    name: str
    values: NDArray[np.float64]
    affine: NDArray[np.float64]
    step: float  # of the stored integers


def references(folder: Path) -> list[Reference]:
    """Read all volumes of all reference files."""
    found = []
    for path in sorted(folder.rglob("*.nii")):
        image = nib.load(path)
        values = np.asarray(image.dataobj, np.float64)
        slope = abs(float(image.dataobj.slope))
        times = values.reshape(*values.shape[:3], -1)
        for time in range(times.shape[3]):
            volume = times[..., time]
            found.append(Reference(f"{path.name} {time}", *canonical(volume, image.affine), slope))
    return found


def canonical(
    values: NDArray[Any], affine: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Turn voxels so that their axes go to the right, to the front, to the head."""
    turned = nib.as_closest_canonical(nib.Nifti1Image(values.astype(np.float64), affine))
    return np.asarray(turned.dataobj), turned.affine


def compare(
    values: NDArray[np.float64], affine: NDArray[np.float64], reference: Reference
) -> dict[str, Any]:
    """Return how far two volumes of one size are from each other."""
    scale = float((values * reference.values).sum() / (reference.values**2).sum())
    scale = 1.0 if abs(scale - 1) < 1e-3 else scale
    left = np.abs(values - scale * reference.values).max() / abs(scale)
    return {
        "reference": reference.name,
        "scale": float(f"{scale:.6g}"),
        "voxels_steps": float(f"{left / reference.step:.3g}"),
        "affine_mm": float(f"{np.abs(affine - reference.affine).max():.2g}"),
    }


def measure(folder: Path) -> dict[str, Any]:
    """Scan a folder and compare its DICOM volumes."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "manifest.parquet"
        scan(folder, out, ScanConfig())
        manifest = read_manifest(out)
    known = references(folder)
    rows = []
    for slices in volumes_of(manifest.rows):
        if slices["kind"][0] != "dicom":
            continue
        volume = read_volume(manifest, slices)
        if volume.geometry.affine is None:
            raise AssertionError("a DICOM volume without a geometry")
        values, affine = canonical(volume.values, LPS @ volume.geometry.affine)
        compared = [
            compare(values, affine, one) for one in known if one.values.shape == values.shape
        ]
        nearest = min(compared, key=lambda found: found["voxels_steps"])
        rows.append({"slices": len(slices), **nearest})
    return {"folder": folder.name, "references": len(known), "volumes": rows}


def main() -> None:
    """Compare all folders and keep the table."""
    keep("series_agree", {"folders": [measure(data_folder(name)) for name in FOLDERS]})


if __name__ == "__main__":
    main()
