"""The files of a MIRAX slide (3DHISTECH): `Slidedat.ini`, its index, and the data it points to.

They lie in a folder beside `NAME.mrxs` that is called `NAME`. Nothing outside of that folder is
opened, nor is the `.mrxs` file itself, a picture of the whole glass. Of the attached data only
those that say where photos lie are read: others are pictures of the label, and who scanned when.

Source:
    OpenSlide, "MIRAX format", https://openslide.org/formats/mirax/.
"""

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from medssl.errors import Reason, TooLargeError, UnreadableFileError, UnsupportedImageError
from medssl.sources.mirax_settings import Slidedat, damaged, read_slidedat
from medssl.sources.reading import reading

SUFFIX = ".mrxs"
Integers = NDArray[np.int64]

_ZOOM = "Slide zoom level"
_POSITIONS = ("VIMSLIDE_POSITION_BUFFER", "default")
_PACKED_POSITIONS = ("StitchingIntensityLayer", "StitchingIntensityLevel")
_POSITION = np.dtype([("flag", "u1"), ("x", "<i4"), ("y", "<i4")])
_UNKNOWN_PLACES = (
    "StitchingLevelForHWCoord"  # of newer scanners; positions then mean something else
)
_VERSION_BYTES = 5
_SETTINGS_BYTES = 1 << 22
_INDEX_BYTES = 1 << 26
_DATA_BYTES = 1 << 27  # of one image or one table
_MOST_NAMES = 4096  # of layers, of their levels, of data files
_MOST_PHOTOS = 10_000_000


@dataclass(frozen=True, slots=True)
class MiraxFiles:
    """The open files of a slide. Data files are opened for each reading, so forks share nothing.

    Attributes:
        slidedat: The settings.
        index: The content of the index file.
        data: The data files.
        sizes: Theirs, bytes.
    """

    slidedat: Slidedat
    index: bytes
    data: tuple[Path, ...]
    sizes: Integers

    @property
    def path(self) -> Path:
        """The slide."""
        return self.slidedat.path

    def level_sections(self) -> list[str]:
        """Return the names of the sections about each level."""
        layer, _ = self._zoom_layer()
        return [
            self.slidedat.text("HIERARCHICAL", f"HIER_{layer}_VAL_{level}_SECTION")
            for level in range(self._count(f"HIER_{layer}_COUNT"))
        ]

    def images(self, level: int) -> Integers:
        """Return number, offset, length and data file of the images of a level, `[images, 4]`."""
        _, before = self._zoom_layer()
        items = self._items(0, before + level, 4)
        self._require_data(items)
        return items

    def positions(self, photos: int) -> Integers | None:
        """Return row and column of each photo, `[photos, 2]`; None if they are nowhere written.

        Args:
            photos: How many there have to be.
        """
        if photos > _MOST_PHOTOS:
            raise TooLargeError(self.path, Reason.TOO_LARGE, f"more than {_MOST_PHOTOS:,} photos")
        size = photos * _POSITION.itemsize
        data = self._attached(*_POSITIONS)
        if data is None:
            packed = self._attached(*_PACKED_POSITIONS)
            if packed is None:
                return None
            with reading(self.path, "positions of photos"):
                data = zlib.decompressobj().decompress(packed, size + 1)
        if len(data) != size:
            raise damaged(self.path, "positions of more or fewer photos than there are")
        table = np.frombuffer(data, _POSITION)
        if (table["flag"] > 1).any():
            raise damaged(self.path, "positions of photos of another layout")
        return np.stack([table["y"], table["x"]], axis=1).astype(np.int64)

    def read(self, offset: int, length: int, file: int) -> bytes:
        """Read from a data file.

        Raises:
            UnreadableFileError: It has become shorter.
        """
        with reading(self.path, "data file"), self.data[file].open("rb") as stream:
            stream.seek(offset)
            data = stream.read(length)
        if len(data) < length:
            raise UnreadableFileError(self.path, Reason.TRUNCATED, "images beyond the end")
        return data

    def _zoom_layer(self) -> tuple[int, int]:
        """Return the number of the layer of levels, and how many records are before its own."""
        before = 0
        for layer in range(self._count("HIER_COUNT")):
            if self.slidedat.text("HIERARCHICAL", f"HIER_{layer}_NAME") == _ZOOM:
                return layer, before
            before += self._count(f"HIER_{layer}_COUNT")
        raise damaged(self.path, "Slidedat.ini without levels")

    def _attached(self, name: str, value: str) -> bytes | None:
        """Return the data attached under two names."""
        for record, names in enumerate(self._attachments()):
            if names == (name, value):
                items = self._items(1, record, 5)
                self._require_data(items)
                return self.read(*items[0, 2:].tolist()) if len(items) else None
        return None

    def _attachments(self) -> Iterator[tuple[str, str]]:
        for layer in range(self._count("NONHIER_COUNT", 0)):
            name = self.slidedat.text("HIERARCHICAL", f"NONHIER_{layer}_NAME")
            for level in range(self._count(f"NONHIER_{layer}_COUNT")):
                yield name, self.slidedat.text("HIERARCHICAL", f"NONHIER_{layer}_VAL_{level}")

    def _count(self, key: str, default: int | None = None) -> int:
        return self.slidedat.whole("HIERARCHICAL", key, 0, _MOST_NAMES, default)

    def _items(self, root: int, record: int, width: int) -> Integers:
        """Follow the pages of a record; each has so many items of `width` numbers."""
        begin = _VERSION_BYTES + len(self.slidedat.text("GENERAL", "SLIDE_ID"))
        table = self._numbers(begin + 4 * root, 1)[0]
        page = int(self._numbers(int(table) + 4 * record, 1)[0])
        parts = [np.empty(0, np.int64)]
        used = 0
        while page:
            count, following = self._numbers(page, 2).tolist()
            used += 8 + 4 * width * count
            if count < 0 or used > len(self.index):
                raise damaged(self.path, "pages of the index in a circle, or larger than it")
            parts.append(self._numbers(page + 8, width * count))
            page = following
        return np.concatenate(parts).reshape(-1, width)

    def _numbers(self, at: int, count: int) -> Integers:
        if not 0 <= at <= len(self.index) - 4 * count:
            raise damaged(self.path, "an index that points beyond its ends")
        return np.frombuffer(self.index, "<i4", count, at).astype(np.int64)

    def _require_data(self, items: Integers) -> None:
        """Check the last three numbers of items: offset, length and data file."""
        offset, length, file = items[:, -3:].T
        if ((file < 0) | (file >= len(self.data)) | (offset < 0) | (length < 1)).any():
            raise damaged(self.path, "an index that points to no data")
        if (length > _DATA_BYTES).any():
            raise TooLargeError(self.path, Reason.TOO_LARGE, "an image of more than 128 MiB")
        if (offset + length > self.sizes[file]).any():
            raise UnreadableFileError(self.path, Reason.TRUNCATED, "images beyond the end")


def is_mirax(path: Path | str) -> bool:
    """Tell by the name whether a file is a slide in MIRAX: by its content it is a picture."""
    return str(path).lower().endswith(SUFFIX)


def open_mirax_files(path: Path) -> MiraxFiles:
    """Read the settings and the index of a slide, and find its data files.

    Args:
        path: The `.mrxs` file.

    Raises:
        UnreadableFileError: Files are missing, damaged, or of different slides.
        UnsupportedImageError: Links, or names that lead out of the slide's folder; positions of
            photos that are not known to be understood.
        TooLargeError: Settings or an index larger than any slide has.
    """
    folder = path.with_suffix("")
    text = _content(path, folder, "Slidedat.ini", _SETTINGS_BYTES).decode("utf-8-sig", "replace")
    if _UNKNOWN_PLACES in text:
        detail = "a MIRAX slide whose photos are placed as only newer scanners do; convert it to"
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, f"{detail} DICOM or TIFF")
    slidedat = read_slidedat(path, text)
    name = slidedat.text("HIERARCHICAL", "INDEXFILE")
    index = _content(path, folder, name, _INDEX_BYTES)
    _require_same_slide(slidedat, index)
    count = slidedat.whole("DATAFILE", "FILE_COUNT", 1, _MOST_NAMES)
    names = [slidedat.text("DATAFILE", f"FILE_{number}") for number in range(count)]
    data = tuple(_inside(path, folder, each) for each in names)
    with reading(path, "data file"):
        sizes = [each.stat().st_size for each in data]
    return MiraxFiles(slidedat, index, data, np.array(sizes, np.int64))


def _require_same_slide(slidedat: Slidedat, index: bytes) -> None:
    """Compare the slide's identifier, which newer scanners write as UTF-16 and cut off."""
    name = slidedat.text("GENERAL", "SLIDE_ID")
    written = index[_VERSION_BYTES : _VERSION_BYTES + len(name)]
    encoded = (name.encode("utf-8", "replace"), name.encode("utf-16-le", "replace"))
    if written not in {each[: len(name)] for each in encoded}:
        raise damaged(slidedat.path, "an index of another slide")


def _content(path: Path, folder: Path, name: str, most: int) -> bytes:
    file = _inside(path, folder, name)
    with reading(path, "settings and index"), file.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > most:
            raise TooLargeError(path, Reason.TOO_LARGE, f"an index of more than {most >> 20} MiB")
        return stream.read(size)


def _inside(path: Path, folder: Path, name: str) -> Path:
    file = folder / name
    with reading(path, "names of files"):
        is_link, is_there = file.is_symlink() or folder.is_symlink(), file.is_file()
    if PurePath(name).name != name or "\\" in name or is_link:
        raise _outside(path)
    if not is_there:
        detail = "files of this MIRAX slide are not in the folder of its name beside it"
        raise UnreadableFileError(path, Reason.VANISHED, detail)
    return file


def _outside(path: Path) -> UnsupportedImageError:
    detail = "a MIRAX slide with links, or data outside of its folder"
    return UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
