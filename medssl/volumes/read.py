"""The voxels of one volume of a manifest, in the unit of its modality, with their place."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medssl.errors import Reason, UnreadableFileError, UnsupportedImageError
from medssl.intensity import rescaled
from medssl.manifest import Manifest
from medssl.sources.decoded import Values
from medssl.sources.open import open_image
from medssl.volumes.geometry import Geometry, geometry_of_rows

_FILE = ("path", "kind", "member")


@dataclass(frozen=True, slots=True)
class Volume:
    """Voxels and where they are.

    Attributes:
        values: `[slices, rows, columns]`, float32, in the unit of the modality, such as HU.
        geometry: Of the slices that are there: gaps are not filled.
    """

    values: NDArray[np.float32]
    geometry: Geometry


def read_volume(manifest: Manifest, slices: pl.DataFrame) -> Volume:
    """Read all slices of a volume; each file is opened once where its slices follow each other.

    Args:
        manifest: Names the root.
        slices: The rows of one volume, in order: see `medssl.volumes.geometry.volumes_of`.

    Raises:
        UnreadableFileError: A slice cannot be read, or is of another size than at the scan.
        UnsupportedImageError: A volume in colour.
    """
    size = (slices["rows"][0], slices["columns"][0])
    values = np.empty((len(slices), *size), np.float32)
    for number, (path, plane) in enumerate(_planes(manifest, slices)):
        if plane.ndim == 3:
            raise UnsupportedImageError(path, Reason.UNSUPPORTED, "a volume in colour")
        if plane.shape != size:
            raise UnreadableFileError(path, Reason.CORRUPT, "not of the size it had at the scan")
        values[number] = plane
    return Volume(values, geometry_of_rows(slices))


def _planes(manifest: Manifest, slices: pl.DataFrame) -> Iterator[tuple[Path, Values]]:
    rows = slices.select(*_FILE, "frame").iter_rows()
    for (name, kind, member), frames in groupby(rows, lambda row: row[:3]):
        path = manifest.file(name)
        with open_image(path, kind, member) as reader:
            for *_, frame in frames:
                yield path, rescaled(reader.decode(frame))
