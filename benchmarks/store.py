"""Reading images from the store of `medssl cache` beside decoding them, and ways to lay it out.

Run: python benchmarks/store.py

One process reads all images of each data set, one by one in random order, as a run with views of
224 px does: decoded from the files, and from the store (files and store in the memory of the
system, as after the first epoch). Then the same canvases are laid out in other ways: one file as
they are (the store), the same without checking each canvas, each compressed with zlib (level 1),
one Arrow file in which polars looks a row up, a Zarr array of a chunk for each, plain and with its
default compression, and a tar file for WebDataset, which is read in order, as it has no other way.
The last two need `pip install zarr webdataset`, and are left out without.
"""

import importlib.util
import io
import random
import shutil
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from record import data_folder, keep

from medssl.config import PretrainConfig
from medssl.loading.dataset import CanvasDataset
from medssl.manifest import Manifest, read_manifest
from medssl.run_data import resolve, usable_images
from medssl.run_images import open_images
from medssl.scanning.scan import scan
from medssl.scanning.settings import ScanConfig

SETS = ("dicom_hippocampus_series", "dicom_files", "img_brain_mri", "path_monuseg", "wsi_small")
MOST = 400  # images of each set


@dataclass(frozen=True, slots=True)
class Images:
    """One data set, with and without a store."""

    manifest: Manifest
    config: PretrainConfig

    @classmethod
    def of(cls, name: str, scratch: Path) -> "Images":
        """Scan a data set and settle how it is read."""
        path = scratch / f"{name}.parquet"
        scan(data_folder(name), path, ScanConfig())
        found = read_manifest(path)
        config = resolve(
            PretrainConfig.model_validate({"data": {"path": path}, "image_size": 224}), found
        )
        images = usable_images(found, config.data)
        rows = images.rows.sample(min(MOST, len(images)), seed=0, shuffle=True)
        return cls(Manifest(rows, images.root), config)

    def open(self, store: Path | None) -> CanvasDataset:
        """Open it without keeping anything in memory."""
        plain = open_images(self.manifest, self.config, cache_gb=0)
        if store is None:
            return plain
        data = self.config.data.model_copy(update={"store": store, "cache_gb": 0.0})
        return open_images(self.manifest, self.config.model_copy(update={"data": data}))


def main() -> None:
    """Measure all sets."""
    scratch = Path(tempfile.mkdtemp())
    try:
        keep("store", {"sets": {name: measure(name, scratch) for name in SETS}})
    finally:
        shutil.rmtree(scratch)


def measure(name: str, scratch: Path) -> dict[str, Any]:
    """Return milliseconds for each image, and sizes."""
    images = Images.of(name, scratch)
    folder = scratch / f"{name}_store"
    plain, stored = images.open(None), images.open(folder)
    canvases = [stored[row].numpy() for row in range(len(stored))]  # fills it
    raw, packed = canvases[0].nbytes, [zlib.compress(each.tobytes(), 1) for each in canvases]
    arrow = scratch / f"{name}.arrow"
    pl.DataFrame({"canvas": [each.tobytes() for each in canvases]}).write_ipc(arrow)
    table = pl.read_ipc(arrow)["canvas"]
    (path,) = folder.glob("*/canvases.npy")
    mapped = np.load(path, mmap_mode="r")
    ways: dict[str, Callable[[int], Any]] = {
        "decoded": lambda row: plain[row],
        "store": lambda row: stored[row],
        "store_unchecked": lambda row: mapped[row].copy(),
        "zlib": lambda row: np.frombuffer(zlib.decompress(packed[row]), np.uint16).copy(),
        "arrow": lambda row: np.frombuffer(table[row], np.uint16).copy(),
    }
    if importlib.util.find_spec("zarr"):
        ways |= _zarr_ways(canvases, scratch / f"{name}_zarr")
    milliseconds = {way: round(_each(read, len(canvases)), 3) for way, read in ways.items()}
    if importlib.util.find_spec("webdataset"):
        milliseconds["webdataset"] = round(_webdataset(canvases, scratch / f"{name}.tar"), 3)
    files = {images.manifest.file(path) for path in images.manifest.rows["path"]}
    return {
        "images": len(canvases),
        "shape": list(canvases[0].shape),
        "milliseconds": milliseconds,
        "decoded_over_store": round(milliseconds["decoded"] / milliseconds["store"], 1),
        "kilobytes_each": {
            "files": round(sum(file.stat().st_size for file in files) / len(canvases) / 1e3, 1),
            "store": round(raw / 1e3, 1),
            "zlib": round(sum(map(len, packed)) / len(packed) / 1e3, 1),
        },
    }


def _zarr_ways(
    canvases: list[np.ndarray[Any, Any]], folder: Path
) -> dict[str, Callable[[int], Any]]:
    import zarr  # noqa: PLC0415 - an extra of this benchmark

    shape = canvases[0].shape
    arrays = {}
    for way, packing in (("zarr", None), ("zarr_packed", "auto")):
        arrays[way] = zarr.create_array(
            store=str(folder / way),
            shape=(len(canvases), *shape),
            chunks=(1, *shape),
            dtype=canvases[0].dtype,
            compressors=packing,
        )
        arrays[way][:] = np.stack(canvases)
    return {way: array.__getitem__ for way, array in arrays.items()}


def _webdataset(canvases: list[np.ndarray[Any, Any]], path: Path) -> float:
    """Return milliseconds for each of all canvases in order, the best of three passes."""
    import webdataset  # noqa: PLC0415 - likewise

    with tarfile.open(path, "w") as file:
        for row, canvas in enumerate(canvases):
            content = io.BytesIO()
            np.save(content, canvas)
            entry = tarfile.TarInfo(f"{row:06d}.npy")
            entry.size = content.tell()
            content.seek(0)
            file.addfile(entry, content)
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        for sample in webdataset.WebDataset(str(path), shardshuffle=False):
            np.load(io.BytesIO(sample["npy"]))
        best = min(best, time.perf_counter() - start)
    return best / len(canvases) * 1e3


def _each(read: Callable[[int], Any], count: int) -> float:
    """Return milliseconds for each of `count` reads in random order, the best of three rounds."""
    order, best = list(range(count)), float("inf")
    for seed in range(3):
        random.Random(seed).shuffle(order)
        start = time.perf_counter()
        for row in order:
            read(row)
        best = min(best, time.perf_counter() - start)
    return best / count * 1e3


if __name__ == "__main__":
    main()
