"""Slides in MIRAX of a known picture, written by the published description, not by the reader.

Source:
    OpenSlide, "MIRAX format", https://openslide.org/formats/mirax/.
"""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Grid = dict[tuple[int, int], Pixels]  # images of a level by row and column
SLIDE_ID = "5F0A2C1B9D8E4F6A"
FILL = (250, 246, 240)  # red, green, blue
FORMATS = {"JPEG": "JPEG", "PNG": "PNG", "BMP24": "BMP"}


@dataclass
class Mirax:
    """What to write.

    Attributes:
        picture: Of which the photos are taken.
        corners: Where: row and column of each photo, `[down, across, 2]`.
        divisions: Images along a side of a photo.
        image: Rows and columns of an image.
        levels: How many.
        packing: `IMAGE_FORMAT`.
        positions: How the corners are written: "plain" as in version 1.9, "packed" as in 2.2, or
            "none": constant overlap.
        overlap: Rows and columns, as the settings say.
        holes: Photos that were not taken.
        shift: Added to all corners that are written.
        per_page: Items of a page of the index.
        secret: Stands wherever a scanner writes who and when.
        settings: Changed at the end.
    """

    picture: Pixels
    corners: NDArray[np.int64]
    divisions: int = 2
    image: tuple[int, int] = (32, 32)
    levels: int = 4
    packing: str = "PNG"
    positions: str = "packed"
    overlap: tuple[float, float] = (8, 8)
    holes: tuple[tuple[int, int], ...] = ()
    shift: tuple[int, int] = (-5, 70)
    per_page: int = 3
    mpp: float = 0.5
    secret: str = "nobody"
    settings: Callable[[dict[str, dict[str, Any]]], None] | None = None
    pages: list[int] = field(default_factory=list)  # where pages of the index begin, when written

    def grids(self) -> list[Grid]:
        """Return the images of each level."""
        high, wide = self.image
        each = self.divisions
        first: Grid = {}
        for down, across in np.ndindex(*self.corners.shape[:2]):
            if (down, across) in self.holes:
                continue
            top, left = self.corners[down, across]
            for row, column in np.ndindex(each, each):
                y, x = top + row * high, left + column * wide
                cut = self.picture[y : y + high, x : x + wide]
                assert cut.shape == (high, wide, 3), "the picture is too small"
                first[down * each + row, across * each + column] = cut
        found = [first]
        for level in range(1, self.levels):
            found.append(_joined(found[-1], 2**level, self.image))
        return found

    def write(self, folder: Path, name: str = "a") -> Path:
        """Write the slide; return the path of the `.mrxs` file."""
        parts = folder / name
        parts.mkdir(parents=True, exist_ok=True)
        store = _Store()
        hier = [
            [
                struct.pack("<4i", y * self.across + x, *store.put(self._encode(image)))
                for (y, x), image in sorted(grid.items())
            ]
            for grid in self.grids()
        ]
        label = [self._label() for _ in range(3)]
        attached = [[struct.pack("<5i", 0, 0, *store.put(each))] for each in label]
        if self.positions != "none":
            table = self._positions()
            attached.append([struct.pack("<5i", 0, 0, *store.put(table))])
            if self.positions == "packed":  # some slides have a second item there
                attached[-1].append(struct.pack("<5i", 0, 0, *store.put(b"more")))
        store.write(parts)
        (parts / "Index.dat").write_bytes(self._index([*hier, []], attached))
        settings = self._settings(len(store.files))
        if self.settings is not None:
            self.settings(settings)
        lines = []
        for section, values in settings.items():
            lines += [f"[{section}]", *(f"{key} = {value}" for key, value in values.items())]
        text = "\r\n".join(lines) + "\r\n"
        (parts / "Slidedat.ini").write_bytes(b"\xef\xbb\xbf" + text.encode())
        path = folder / f"{name}.mrxs"
        path.write_bytes(self._label())
        return path

    @property
    def across(self) -> int:
        return self.corners.shape[1] * self.divisions

    def _encode(self, image: Pixels) -> bytes:
        stream = io.BytesIO()
        options = {"quality": 95} if self.packing == "JPEG" else {}
        Image.fromarray(image).save(stream, FORMATS[self.packing], **options)
        return stream.getvalue()

    def _label(self) -> bytes:
        stream = io.BytesIO()
        Image.new("RGB", (64, 64)).save(stream, "JPEG", comment=self.secret.encode())
        return stream.getvalue()

    def _positions(self) -> bytes:
        parts = []
        for down, across in np.ndindex(*self.corners.shape[:2]):
            is_there = (down, across) not in self.holes
            row, column = self.corners[down, across] + self.shift if is_there else (0, 0)
            parts.append(struct.pack("<Bii", is_there, column, row))
        table = b"".join(parts)
        return zlib.compress(table) if self.positions == "packed" else table

    def _index(self, hier: list[list[bytes]], attached: list[list[bytes]]) -> bytes:
        """Lay out roots, then the two tables of records, then all pages, from the back."""
        head = b"01.02" + SLIDE_ID.encode()
        tables = len(head) + 8
        after = tables + 4 * (len(hier) + len(attached))
        pages = bytearray()
        records = []
        for items in (*hier, *attached):
            following = 0
            chunks = [items[i : i + self.per_page] for i in range(0, len(items), self.per_page)]
            for chunk in ([], *chunks)[::-1]:
                place = after + len(pages)
                self.pages.append(place)
                pages += struct.pack("<2i", len(chunk), following) + b"".join(chunk)
                following = place
            records.append(following)
        roots = struct.pack("<2i", tables, tables + 4 * len(hier))
        return head + roots + struct.pack(f"<{len(records)}i", *records) + bytes(pages)

    def _settings(self, files: int) -> dict[str, dict[str, Any]]:
        high, wide = self.image
        down = self.corners.shape[0] * self.divisions
        hierarchy: dict[str, Any] = {
            "INDEXFILE": "Index.dat",
            "HIER_COUNT": 2,
            "NONHIER_COUNT": 1 if self.positions == "none" else 2,
            "HIER_0_NAME": "Slide zoom level",
            "HIER_0_COUNT": self.levels,
            "HIER_1_NAME": "Slide mask level",
            "HIER_1_COUNT": 1,
            "NONHIER_0_NAME": "Scan data layer",
            "NONHIER_0_COUNT": 3,
            "NONHIER_0_VAL_0": "ScanDataLayer_SlideThumbnail",
            "NONHIER_0_VAL_1": "ScanDataLayer_SlideBarcode",
            "NONHIER_0_VAL_2": "ScanDataLayer_SlidePreview",
        }
        if self.positions == "plain":
            hierarchy |= {"NONHIER_1_NAME": "VIMSLIDE_POSITION_BUFFER", "NONHIER_1_COUNT": 1}
            hierarchy |= {"NONHIER_1_VAL_0": "default"}
        if self.positions == "packed":
            hierarchy |= {"NONHIER_1_NAME": "StitchingIntensityLayer", "NONHIER_1_COUNT": 1}
            hierarchy |= {"NONHIER_1_VAL_0": "StitchingIntensityLevel"}
        found: dict[str, dict[str, Any]] = {
            "GENERAL": {
                "SLIDE_NAME": self.secret,
                "SLIDE_ID": SLIDE_ID,
                "IMAGENUMBER_X": self.across,
                "IMAGENUMBER_Y": down,
                "OBJECTIVE_MAGNIFICATION": 20,
                "CameraImageDivisionsPerSide": self.divisions,
                "SLIDE_TYPE": "SLIDE_TYPE_BRIGHTFIELD",
                "SLIDE_CREATIONDATETIME": self.secret,
            },
            "HIERARCHICAL": hierarchy,
            "DATAFILE": {"FILE_COUNT": files}
            | {f"FILE_{number}": f"Data{number:04}.dat" for number in range(files)},
        }
        for level in range(self.levels):
            hierarchy[f"HIER_0_VAL_{level}"] = f"ZoomLevel_{level}"
            hierarchy[f"HIER_0_VAL_{level}_SECTION"] = f"LAYER_0_LEVEL_{level}_SECTION"
            found[f"LAYER_0_LEVEL_{level}_SECTION"] = {
                "OVERLAP_X": self.overlap[1] / 2**level,
                "OVERLAP_Y": self.overlap[0] / 2**level,
                "MICROMETER_PER_PIXEL_X": self.mpp * 2**level,
                "MICROMETER_PER_PIXEL_Y": self.mpp * 2**level,
                "IMAGE_FORMAT": self.packing,
                "IMAGE_FILL_COLOR_BGR": FILL[0] | FILL[1] << 8 | FILL[2] << 16,
                "DIGITIZER_WIDTH": wide,
                "DIGITIZER_HEIGHT": high,
                "IMAGE_CONCAT_FACTOR": min(level, 1),
            }
        return found


class _Store:
    """Two data files, which get what is stored in turn."""

    def __init__(self) -> None:
        self.files = [
            bytearray(b"01.02" + SLIDE_ID.encode() + f"{number:03}".encode() + bytes(256))
            for number in range(2)
        ]
        self._stored = 0

    def put(self, data: bytes) -> tuple[int, int, int]:
        number = self._stored % 2
        self._stored += 1
        place = len(self.files[number])
        self.files[number] += data
        return place, len(data), number

    def write(self, folder: Path) -> None:
        for number, data in enumerate(self.files):
            (folder / f"Data{number:04}.dat").write_bytes(data)


def halved(picture: Pixels) -> Pixels:
    """Return the mean of 2 x 2 pixels each."""
    rows, columns = picture.shape[0] // 2, picture.shape[1] // 2
    cut = picture[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2, 3)
    return cut.mean(axis=(1, 3)).round().astype(np.uint8)


def _joined(finer: Grid, step: int, size: tuple[int, int]) -> Grid:
    """Join 2 x 2 images to one, each halved; where one is missing the fill colour stands."""
    high, wide = size
    joined: Grid = {}
    for row, column in finer:
        place = row - row % step, column - column % step
        whole = joined.setdefault(place, np.full((2 * high, 2 * wide, 3), FILL, np.uint8))
        down, right = (row % step > 0) * high, (column % step > 0) * wide
        whole[down : down + high, right : right + wide] = finer[row, column]
    return {place: halved(whole) for place, whole in joined.items()}
