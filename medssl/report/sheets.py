"""Thumbnails, and the sheets made of them."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image

from medssl.config import Window
from medssl.errors import IngestError
from medssl.manifest import Manifest
from medssl.manifest_paths import decode_path
from medssl.sources.open import read_display
from sslcore.report.parts import Picture

Pixels = NDArray[np.uint8]

_SIDE = 104  # px on the page
_DENSITY = 2  # stored pixels per px, for sharp screens
_QUALITY = 90


@dataclass(frozen=True, slots=True)
class Images:
    """Gives the pixels of samples, from the folder that the manifest starts from.

    Attributes:
        rows: Sample to its row of the manifest.
        root: Folder of the paths.
        window: How stored values become brightness.
    """

    rows: dict[str, dict[str, Any]]
    root: Path
    window: Window

    def pixels(self, sample: str) -> Pixels | None:
        """Return `[rows, columns]` or `[rows, columns, 3]`; None if it cannot be read now."""
        row = self.rows.get(sample)
        if row is None:
            return None
        path = self.root / decode_path(row["path"])
        place = {"kind": row["kind"], "member": row["member"], "frame": row["frame"]}
        try:
            display = read_display(path, **place, window=self.window)
        except IngestError:
            return None
        if row.get("box"):  # of a patch
            top, bottom, left, right = row["box"]
            display = display[:, top:bottom, left:right]
        return to_bytes(display)


def open_images(manifest: Manifest, window: Window, samples: Sequence[str]) -> Images:
    """Prepare reading the named samples."""
    wanted = manifest.rows.filter(pl.col("sample").is_in(list(samples)))
    rows = {row["sample"]: row for row in wanted.iter_rows(named=True)}
    return Images(rows, manifest.root, window)


def to_bytes(display: NDArray[np.float32]) -> Pixels:
    """Turn `[channels, rows, columns]` in 0 to 1 into what an image file holds."""
    scaled = (np.clip(display, 0, 1) * 255).round().astype(np.uint8)
    return scaled[0] if len(scaled) == 1 else np.ascontiguousarray(scaled.transpose(1, 2, 0))


def fitted(pixels: Pixels, side: int) -> Pixels:
    """Scale the longer side to `side` and centre the image on a black square."""
    longer = max(pixels.shape[:2])
    size = [max(1, round(length * side / longer)) for length in pixels.shape[1::-1]]
    image = Image.fromarray(pixels).resize((size[0], size[1]), Image.Resampling.LANCZOS)
    square = Image.new(image.mode, (side, side))
    square.paste(image, ((side - size[0]) // 2, (side - size[1]) // 2))
    return np.asarray(square)


def picture(pixels: Pixels, *, alt: str, lines: tuple[str, ...] = (), color: str = "") -> Picture:
    """Make a thumbnail; small images are stored as they are, and enlarged by the browser."""
    image = Image.fromarray(pixels)
    image.thumbnail((_SIDE * _DENSITY, _SIDE * _DENSITY), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    code = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Picture(f"data:image/jpeg;base64,{code}", alt, _SIDE, lines, color)
