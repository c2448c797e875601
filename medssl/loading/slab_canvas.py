"""One slice of a volume with those before and after it, as the three channels of a square."""

from torch import Tensor

from medssl.config import Window
from medssl.loading.canvas import to_canvas
from medssl.loading.fitting import Scale
from medssl.loading.volume_canvas import read_shown, volumes_by_name
from medssl.manifest import Manifest
from medssl.volumes.samples import beside


class SlabReader:
    """Reads the slabs of one manifest; attributes as those of `VolumeReader`."""

    def __init__(
        self, manifest: Manifest, *, canvas: int, window: Window, spacing_mm: float | None = None
    ) -> None:
        """Prepare to read squares of 3 x `canvas` x `canvas`, with pixels of `spacing_mm`."""
        self.root = manifest.root
        self.is_array = bool((manifest.rows["kind"] == "npz").all())
        self._canvas = canvas
        self._window = window
        self.volumes = volumes_by_name(manifest)
        self._spacing_mm = spacing_mm
        self._places = list(manifest.rows.select("volume", "slice").iter_rows())

    def read(self, index: int) -> Tensor:
        """Return the square of one row, uint16, `[3, canvas, canvas]`.

        All three are shown alike, as one volume, so that the channels can be compared.

        Raises:
            IngestError: One of its slices cannot be read any more, or a spacing is wanted and the
                volume has none.
        """
        volume, place = self._places[index]
        slices = self.volumes[volume]
        scale = None
        if self._spacing_mm is not None:
            scale = Scale(slices.require_spacing(self.root)[1:], self._spacing_mm)
        near = tuple(slices.images[number] for number in beside(place, len(slices.images)))
        shown = read_shown(slices._replace(images=near), self.root, self._window)
        return to_canvas(shown, self._canvas, 3, scale)
