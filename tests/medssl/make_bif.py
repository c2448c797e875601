"""Slides in BIF of a known picture, written by the published description, not by the reader.

Source:
    Roche, "BIF image file format for digital pathology", version 1.0, 2020.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
SOFTWARE = "ScanOutputManager 1.1.0.15854"


@dataclass(frozen=True)
class Bif:
    """What to write.

    Attributes:
        photos: `[down, across, rows, columns, 3]`.
        mpp: `ScanRes`, as text; None leaves it out.
        encoded: `ScanRes` once more, at level 0; None leaves out all of the scanner's element, as
            newer ones do.
        levels: Their numbers, in the order of the file.
        padded: Pixels that coarser levels jut out.
        planes: `Z-layers`.
        big: Whether it is BigTIFF; older scanners did without.
        compression: Of the levels.
        secret: Stands wherever a scanner writes who, when and where.
    """

    photos: Pixels
    mpp: str | None = "0.25"
    encoded: str | None = "0.250000"
    levels: tuple[int, ...] = (0, 1, 2)
    padded: int = 0
    planes: int = 1
    big: bool = True
    compression: str = "deflate"
    secret: str = "nobody"

    def level(self, number: int) -> Pixels:
        """Return the photos side by side, overlaps included, halved so often."""
        stored = np.concatenate(np.concatenate(self.photos, axis=1), axis=1)
        for _ in range(number):
            rows, columns = (side // 2 for side in stored.shape[:2])
            halves = stored[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2, 3)
            stored = halves.mean(axis=(1, 3)).round().astype(np.uint8)
        return stored

    def write(self, path: Path) -> Path:
        """Write the file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        small = np.zeros((48, 32, 3), np.uint8)
        scanner = f'<?xml version="1.0"?><Metadata>{self._scanner(self.mpp)}</Metadata>'
        with tifffile.TiffWriter(path, bigtiff=self.big) as file:
            self._write(file, small, "Label_Image", scanner)
            self._write(file, small[..., 0], "Probability_Image", "")
            for number in self.levels:
                xmp = "" if number else self._encode_info()
                described = f"level={number} mag={40 / 2**number:g} quality=95"
                pad = self.padded if number else 0
                stored = np.pad(self.level(number), ((0, pad), (0, pad), (0, 0)))
                self._write(file, stored, described, xmp, tiled=True)
        return path

    def _write(
        self,
        file: tifffile.TiffWriter,
        pixels: Pixels,
        about: str,
        xmp: str,
        *,
        tiled: bool = False,
    ) -> None:
        rows, columns = self.photos.shape[2:4]
        file.write(
            pixels,
            photometric="minisblack" if pixels.ndim == 2 else "rgb",
            tile=(rows, columns) if tiled else None,
            compression=self.compression if tiled else None,
            description=about,
            software=SOFTWARE,
            metadata=None,
            extratags=[(700, 1, len(xmp), xmp.encode(), True)] if xmp else [],
        )

    def _scanner(self, mpp: str | None) -> str:
        told = "" if mpp is None else f"ScanRes='{mpp}'"
        return (
            f'<iScan Magnification="40" UserName="{self.secret}" SlideAnnotation="ScanRes=\'9\''
            f" {self.secret}\" {told} Z-layers='{self.planes}' Z-spacing='1'>"
            '<AOI0 Left="450" Top="1381" Right="633" Bottom="1465"/></iScan>'
        )

    def _encode_info(self) -> str:
        joint = (
            '<TileJointInfo FlagJoined="1" Confidence="100" Direction="LEFT" Tile1="1" Tile2="2"'
            ' OverlapX="24" OverlapY="0"/>'
        )
        scanner = self._scanner(self.encoded) if self.encoded else ""
        return (
            f'<?xml version="1.0"?><EncodeInfo Ver=\'2\'><SlideInfo BaseName="{self.secret}">'
            f"{scanner}</SlideInfo><SlideStitchInfo>{joint * 20}</SlideStitchInfo></EncodeInfo>"
        )


def photographed(
    picture: Pixels, rows: int = 192, columns: int = 160, overlap: int = 24, **about: object
) -> tuple[Bif, NDArray[np.int64]]:
    """Return photos of a picture that overlap, none as planned, and where each begins in it."""
    down, across = (
        (side - photo - 8) // (photo - overlap) + 1
        for side, photo in zip(picture.shape[:2], (rows, columns), strict=True)
    )
    steps = np.array([rows, columns]) - overlap
    jitter = np.random.default_rng(5).integers(0, 9, (down, across, 2))
    corners = np.stack(np.mgrid[0:down, 0:across], axis=2) * steps + jitter
    photos = [
        [picture[top : top + rows, left : left + columns] for top, left in line] for line in corners
    ]
    return replace(Bif(np.array(photos)), **about), corners  # type: ignore[arg-type]
