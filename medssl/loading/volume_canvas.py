"""One volume as a cube of 16-bit values: axes of the patient, equal spacing, borders repeated.

The cube is as long as the volume's longest side in mm. Its axes go from feet to head, from front to
back and from right to left of the patient, as slices, rows and columns of an axial series do. A
volume without a geometry keeps its axes, and its voxels are taken to be cubes.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from medssl.intensity import Window, show_volume
from medssl.loading.fitting import Fitting
from medssl.manifest import Manifest
from medssl.manifest_paths import decode_path
from medssl.volumes.geometry import volumes_of
from medssl.volumes.read import Slices
from medssl.volumes.turning import turned


class VolumeReader:
    """Reads the volumes of one manifest; holds plain values only, so that workers can have it.

    Attributes:
        root: The folder the manifest's paths start from.
        is_array: Whether every row is of a NumPy archive, which needs no decoding.
        volumes: By name.
    """

    def __init__(
        self,
        manifest: Manifest,
        *,
        canvas: int,
        channels: int,
        window: Window,
        spacing_mm: float | None = None,
    ) -> None:
        """Prepare to read cubes of `channels` x `canvas` x `canvas` x `canvas`."""
        self.root = manifest.root
        self.is_array = bool((manifest.rows["kind"] == "npz").all())
        self._canvas = canvas
        self._channels = channels
        self._window = window
        self._spacing_mm = spacing_mm
        self.volumes = volumes_by_name(manifest)
        self._names: list[str] = manifest.rows["volume"].to_list()

    def read(self, index: int) -> Tensor:
        """Return the cube of one row, uint16, `[channels, canvas, canvas, canvas]`.

        Raises:
            IngestError: A slice cannot be read any more, or a spacing is wanted and the volume has
                none.
        """
        slices = self.volumes[self._names[index]]
        shown = read_shown(slices, self.root, self._window)
        first = self.root / decode_path(slices.images[0][0])
        if self._spacing_mm is not None:
            slices.require_spacing(self.root)
        placed, spacing = turned(first, shown, slices.geometry)
        cube = to_cube(placed, spacing, self._canvas, self._spacing_mm)
        return cube.expand(self._channels, -1, -1, -1).contiguous()


def volumes_by_name(manifest: Manifest) -> dict[str, Slices]:
    """Collect what reading the volumes behind the rows of a manifest needs.

    Raises:
        TypeError: It is one of images.
    """
    if manifest.slices is None:
        raise TypeError("expected a manifest of volumes, see medssl.volumes.samples")
    kept = manifest.slices.join(manifest.rows.select("volume"), on="volume", how="semi")
    return {rows["volume"][0]: Slices.of(rows) for rows in volumes_of(kept)}


def read_shown(slices: Slices, root: Path, window: Window) -> npt.NDArray[np.float32]:
    """Return slices as they are shown, all alike, `[slices, rows, columns]`, 0 to 1.

    Raises:
        IngestError: One of them cannot be read any more.
    """
    shown = show_volume(
        slices.read(root),
        window,
        modality=slices.modality,
        bits=slices.bits,
        in_suv=slices.in_suv,
    )
    return 1 - shown if slices.photometric == "MONOCHROME1" else shown


def to_cube(
    shown: npt.NDArray[np.float32],
    spacing_mm: tuple[float, float, float],
    side: int,
    wanted_mm: float | None = None,
) -> Tensor:
    """Fit a volume into a cube without changing its aspect.

    Args:
        shown: `[slices, rows, columns]`, 0 to 1.
        spacing_mm: Between them.
        side: Of the cube, px.
        wanted_mm: Between the voxels of the cube: what is larger than the cube is cut off on both
            sides alike, to half a voxel. None makes the longest side of the volume fill it.

    Returns:
        `[1, side, side, side]`, uint16, 65535 for 1.
    """
    volume = torch.from_numpy(np.ascontiguousarray(shown))[None]
    return Fitting.of_volume(shown.shape, spacing_mm, side, wanted_mm).pixels(volume)
