"""One manifest row as a square 16-bit canvas: aspect or size kept, borders repeated outwards.

The free strips of an image that is not square repeat its border rows or columns: black air stays
black, white glass stays white, and no frame of a constant colour gives away the size of the image,
by which an encoder could tell scanners or patients apart.
"""

import math
import threading

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from medssl.config import StainMethod, Window
from medssl.errors import Reason, UnsupportedImageError
from medssl.intensity import to_display
from medssl.loading.fitting import Fitting, Scale, stored
from medssl.manifest import Manifest
from medssl.manifest_paths import decode_path
from medssl.sources.local import local_file
from medssl.sources.npz import NpzImages, open_npz
from medssl.sources.open import read_display
from medssl.transforms.stain_normalisation import NormalizeStain
from medssl.volumes.assemble import SPACING

CANVAS_VERSION = 2  # raised when the canvas of an unchanged image may come out differently
MARGIN = 1.15  # of the canvas over the view, so that a crop of the whole shrinks only a little
_LOADING = threading.Lock()
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def choose_canvas(manifest: Manifest, image_size: int) -> int:
    """Choose the side of the canvas for views of `image_size` px.

    Somewhat larger than the view, but not larger than the largest image: images are not enlarged
    before the crop does it.
    """
    of_volumes = ["slices"] if manifest.holds_volumes else []
    sides = manifest.rows.select("rows", "columns", *of_volumes).max_horizontal().max()
    longest = int(sides) if isinstance(sides, int) else image_size
    return max(8, min(math.ceil(image_size * MARGIN), longest))


def choose_channels(manifest: Manifest) -> int:
    """Return 3 if any image has colour, else 1."""
    return 3 if (manifest.rows["channels"] == 3).any() else 1


class CanvasReader:
    """Reads the rows of one manifest; holds plain values only, so that workers can have it.

    Attributes:
        root: The folder the manifest's paths start from.
        is_array: Whether every row is a slice of a NumPy archive, which needs no decoding.
    """

    def __init__(
        self,
        manifest: Manifest,
        *,
        canvas: int,
        channels: int,
        window: Window,
        stain: StainMethod | None = None,
        spacing_mm: float | None = None,
    ) -> None:
        """Prepare to read canvases of `channels` x `canvas` x `canvas`, each pixel `spacing_mm`.

        Raises:
            ValueError: A method for stains, and not 3 channels.
        """
        if stain and channels != 3:
            raise ValueError(f"stain {stain!r} needs 3 channels, got {channels}")
        rows = manifest.rows
        self.root = manifest.root
        self.is_array = bool((rows["kind"] == "npz").all())
        self._canvas = canvas
        self._channels = channels
        self._window = window
        self._normalize = NormalizeStain(stain) if stain else None
        self._paths: list[str] = rows["path"].to_list()
        self._kinds: list[str] = rows["kind"].to_list()
        self._members: list[str | None] = rows["member"].to_list()
        self._frames: list[int] = rows["frame"].to_list()
        self._arrays: dict[tuple[str, str], NpzImages] = {}
        self._spacing_mm = spacing_mm
        self._scales = scales_of(rows, spacing_mm)

    def read(self, index: int) -> Tensor:
        """Return the canvas of one row, uint16.

        Raises:
            IngestError: The file cannot be read any more, or a spacing is wanted and it has none.
        """
        path, kind, member = self._paths[index], self._kinds[index], self._members[index]
        place, scale = self.root / decode_path(path), self._scales[index]
        if scale is None and self._spacing_mm is not None:
            raise UnsupportedImageError(place, Reason.UNSUPPORTED, "an image without a spacing")
        if kind == "npz":
            decoded = self._array(path, member or "").decode(self._frames[index])
            return self._to_canvas(to_display(decoded, self._window), scale)
        display = read_display(
            place,
            kind=kind,
            member=member,
            frame=self._frames[index],
            window=self._window,
        )
        return self._to_canvas(display, scale)

    def _to_canvas(self, display: npt.NDArray[np.float32], scale: Scale | None) -> Tensor:
        canvas = to_canvas(display, self._canvas, self._channels, scale)
        if self._normalize is None:
            return canvas
        return stored(self._normalize(canvas.float() / 65535))

    def _array(self, path: str, member: str) -> NpzImages:
        """Load an array once in each process; rows come in random order from several of them."""
        with _LOADING:  # or each of several threads would load it
            if (path, member) not in self._arrays:
                with (
                    local_file(self.root / decode_path(path)) as file,
                    open_npz(file, member) as images,
                ):
                    self._arrays[path, member] = images
            return self._arrays[path, member]

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_arrays": {}}


def scales_of(rows: pl.DataFrame, wanted_mm: float | None) -> list[Scale | None]:
    """Return the scale of each row of a manifest; None where its spacing is not known, or wanted.

    Args:
        rows: Of a manifest.
        wanted_mm: Between the pixels of a canvas; None lets images fill it.
    """
    if wanted_mm is None:
        return [None] * len(rows)
    return [
        None if None in spacing else Scale(spacing, wanted_mm)
        for spacing in rows.select(SPACING).iter_rows()
    ]


def to_canvas(
    display: npt.NDArray[np.float32], side: int, channels: int, scale: Scale | None = None
) -> Tensor:
    """Fit an image into a square without changing its aspect.

    Args:
        display: `[1 or 3, rows, columns]`, 0 to 1.
        side: Of the square, px; the longer side of the image becomes this long.
        channels: 1 or 3.
        scale: Gives pixels a size instead; what is larger than the square is cut off on both sides.

    Returns:
        `[channels, side, side]`, uint16, 65535 for 1.
    """
    image = _with_channels(torch.from_numpy(np.ascontiguousarray(display)), channels)
    rows, columns = image.shape[1:]
    return Fitting.of_image(rows, columns, side, scale).pixels(image)


def _with_channels(image: Tensor, channels: int) -> Tensor:
    if len(image) == channels:
        return image
    if channels == 1:
        return (torch.tensor(_LUMA)[:, None, None] * image).sum(dim=0, keepdim=True)
    return image.expand(3, -1, -1)
