"""The voxels of one volume of a manifest, in the unit of its modality, with their place."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medssl.errors import Reason, TooLargeError, UnreadableFileError, UnsupportedImageError
from medssl.intensity import rescaled
from medssl.manifest import Manifest
from medssl.manifest_paths import decode_path
from medssl.sources.decoded import Decoded, Suv, Values
from medssl.sources.open import open_image
from medssl.volumes.geometry import Geometry, geometry_of_rows

MOST_VOXELS = 2**30  # 4 GiB as they are read


@dataclass(frozen=True, slots=True)
class Volume:
    """Voxels and where they are.

    Attributes:
        values: `[slices, rows, columns]`, float32, in the unit of the modality, such as HU.
        geometry: Of the slices that are there: gaps are not filled.
    """

    values: NDArray[np.float32]
    geometry: Geometry


class Slices(NamedTuple):
    """What reading one volume needs, as plain values: a forked process must not call polars.

    Attributes:
        images: Path, kind, member and frame of each slice, in order.
        size: Rows and columns.
        geometry: Of the slices.
        modality: As the manifest has it.
        bits: Likewise.
        photometric: Likewise.
        in_suv: Whether all slices are PET of which SUV are known.
    """

    images: tuple[tuple[str, str, str | None, int], ...]
    size: tuple[int, int]
    geometry: Geometry
    modality: str | None
    bits: int
    photometric: str
    in_suv: bool

    @classmethod
    def of(cls, rows: pl.DataFrame) -> Self:
        """Collect it from the rows of one volume, in order.

        Args:
            rows: See `medssl.volumes.geometry.volumes_of`.
        """
        first = rows.row(0, named=True)
        return cls(
            tuple(rows.select("path", "kind", "member", "frame").iter_rows()),
            (first["rows"], first["columns"]),
            geometry_of_rows(rows),
            first["modality"],
            first["bits"],
            first["photometric"],
            bool(rows["suv"].str.starts_with(Suv.KNOWN).fill_null(value=False).all()),
        )

    def require_spacing(self, root: Path) -> tuple[float, float, float]:
        """Return the distances between slices, rows and columns, mm.

        Raises:
            UnsupportedImageError: They are not known.
        """
        if self.geometry.spacing_mm is None:
            first = root / decode_path(self.images[0][0])
            raise UnsupportedImageError(first, Reason.UNSUPPORTED, "a volume without a spacing")
        return self.geometry.spacing_mm

    def read(self, root: Path) -> NDArray[np.float32]:
        """Read all slices; each file is opened once where its slices follow each other.

        Args:
            root: Folder of the paths.

        Returns:
            `[slices, rows, columns]`, in the unit of the modality: of PET SUV by body weight, where
            all slices are in it.

        Raises:
            UnreadableFileError: A slice cannot be read, or is of another size than at the scan.
            UnsupportedImageError: A volume in colour.
            TooLargeError: More than `MOST_VOXELS`.
        """
        if len(self.images) * self.size[0] * self.size[1] > MOST_VOXELS:
            first = root / decode_path(self.images[0][0])
            detail = f"a volume of more than {MOST_VOXELS:,} voxels"
            raise TooLargeError(first, Reason.TOO_LARGE, detail)
        values = np.empty((len(self.images), *self.size), np.float32)
        for number, (path, plane) in enumerate(self._planes(root)):
            if plane.ndim == 3:
                raise UnsupportedImageError(path, Reason.UNSUPPORTED, "a volume in colour")
            if plane.shape != self.size:
                detail = "not of the size it had at the scan"
                raise UnreadableFileError(path, Reason.CORRUPT, detail)
            with np.errstate(over="ignore", invalid="ignore"):  # a scale may lead out of float32
                values[number] = plane
        return values

    def _planes(self, root: Path) -> Iterator[tuple[Path, Values]]:
        for (name, kind, member), images in groupby(self.images, lambda image: image[:3]):
            path = root / decode_path(name)
            with open_image(path, kind, member) as reader:
                for *_, frame in images:
                    yield path, self._in_unit(path, reader.decode(frame))

    def _in_unit(self, path: Path, decoded: Decoded) -> Values:
        with np.errstate(over="ignore", invalid="ignore"):
            values = rescaled(decoded.values, decoded.rescale)
        if not self.in_suv:
            return values
        if decoded.suv is None:
            raise UnreadableFileError(path, Reason.CORRUPT, "without the unit it had at the scan")
        return values * decoded.suv


def read_volume(manifest: Manifest, rows: pl.DataFrame) -> Volume:
    """Read one volume.

    Args:
        manifest: Names the root.
        rows: As for `Slices.of`.

    Raises:
        IngestError: As `Slices.read`.
    """
    slices = Slices.of(rows)
    return Volume(slices.read(manifest.root), slices.geometry)
