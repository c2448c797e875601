"""A patch of a volume as a cube, cut out of the volume without bringing all of it to the spacing.

To read a patch its whole volume is decoded, as files are compressed and the window is that of all
voxels. It is kept for the next patch: in order, a volume is decoded once for all of its patches.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from medssl.errors import IngestError
from medssl.intensity import Window
from medssl.loading.fitting import padded, stored
from medssl.loading.volume_canvas import read_shown, volumes_by_name
from medssl.manifest import Manifest
from medssl.manifest_paths import decode_path
from medssl.volumes.patches import Triple, grid_of, in_axis
from medssl.volumes.turning import turned


@dataclass(frozen=True, eq=False)
class ShownVolume:
    """A volume as it is shown, at its own spacing.

    Attributes:
        values: With the axes of the patient, `[slices, rows, columns]`, uint16, 65535 for 1.
        sides: Of it at the spacing of its patches, px.
    """

    values: npt.NDArray[np.uint16]
    sides: Triple

    def patch(self, corner: Triple, side: int) -> Tensor:
        """Return the cube that begins at `corner`, `[1, side, side, side]`, uint16.

        What the whole volume would be at that spacing; see `medssl.volumes.patches`.
        """
        shares = [
            in_axis(count, length, first, min(first + side, length))
            for count, length, first in zip(self.values.shape, self.sides, corner, strict=True)
        ]
        part = self.values[tuple(voxels for voxels, _ in shares)]
        cube = torch.from_numpy(part.astype(np.float32) / 65535)
        for _, share in shares:  # the axis that is done goes last, until they are in order again
            cube = torch.tensordot(cube, torch.from_numpy(share), dims=([0], [1]))
        return stored(padded(cube[None, None], side)[0])


class PatchReader:
    """Reads the patches of one manifest; attributes as those of `VolumeReader`, and two more.

    Attributes:
        rows: Of the patches of each volume.
        decoded: Volumes so far.
    """

    def __init__(self, manifest: Manifest, *, channels: int, window: Window) -> None:
        """Prepare to read cubes of `channels` x `side` x `side` x `side`.

        Raises:
            TypeError: A manifest of other samples.
        """
        if manifest.patch is None:
            raise TypeError("expected a manifest of patches, see medssl.volumes.samples")
        self.root = manifest.root
        self.is_array = bool((manifest.rows["kind"] == "npz").all())
        self._patch = manifest.patch
        self._channels = channels
        self._window = window
        self.volumes = volumes_by_name(manifest)
        self._kept = _KeptVolumes()
        self.decoded = 0
        self.rows: dict[str, list[int]] = {}
        self._places: list[tuple[str, Triple]] = []
        for row, (name, corner) in enumerate(manifest.rows.select("volume", "corner").iter_rows()):
            self.rows.setdefault(name, []).append(row)
            self._places.append((name, tuple(corner)))

    def beside(self, index: int) -> list[int]:
        """Return the rows of the patches of the same volume."""
        return self.rows[self._places[index][0]]

    def read(self, index: int) -> Tensor:
        """Return the cube of one row, uint16, `[channels, side, side, side]`.

        Raises:
            IngestError: A slice of its volume cannot be read any more, or the volume cannot be cut.
        """
        name, corner = self._places[index]
        cube = self._kept.get(name, self._load).patch(corner, self._patch.side)
        return cube.expand(self._channels, -1, -1, -1).contiguous()

    def _load(self, name: str) -> ShownVolume:
        slices = self.volumes[name]
        first = self.root / decode_path(slices.images[0][0])
        shape = (len(slices.images), *slices.size)
        grid = grid_of(first, shape, slices.geometry, self._patch)
        placed, _ = turned(first, read_shown(slices, self.root, self._window), slices.geometry)
        values = np.empty(placed.shape, np.uint16)
        for number, plane in enumerate(placed):  # one by one: volumes are large
            values[number] = stored(torch.from_numpy(np.ascontiguousarray(plane))).numpy()
        self.decoded += 1
        return ShownVolume(values, grid.sides)


class _KeptVolumes:
    """What threads read patches of: each keeps its last volume, and those who want one share it.

    A volume that cannot be read is not tried again.
    """

    def __init__(self) -> None:
        self._own = threading.local()
        self._latest: ShownVolume | None = None  # outlives its thread
        self._all: WeakValueDictionary[str, ShownVolume] = WeakValueDictionary()
        self._failed: dict[str, IngestError] = {}
        self._locks: dict[str, threading.Lock] = {}

    def get(self, name: str, load: Callable[[str], ShownVolume]) -> ShownVolume:
        with self._locks.setdefault(name, threading.Lock()):
            volume = self._all.get(name)
            if volume is None:
                self._own.volume = self._latest = None  # it goes before another comes
                volume = self._loaded(name, load)
                self._all[name] = volume
            self._own.volume = self._latest = volume
        return volume

    def _loaded(self, name: str, load: Callable[[str], ShownVolume]) -> ShownVolume:
        if name not in self._failed:
            try:
                return load(name)
            except IngestError as error:
                self._failed[name] = error.bare()  # without the voxels read so far
        raise self._failed[name].bare()

    def __reduce__(self) -> tuple[type["_KeptVolumes"], tuple[()]]:
        return _KeptVolumes, ()  # nothing of it goes to another process
