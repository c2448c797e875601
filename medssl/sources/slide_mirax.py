"""Whole slides in MIRAX: photos that overlap, each cut to images, and levels made of these.

The camera takes a grid of photos. Each is stored as `divisions` x `divisions` images, which do not
overlap; what does are photos. An image of a coarser level holds 2 x 2 images of the level before,
halved, whether or not they are of one photo: so a photo is taken out of the images that it is in,
and laid where it belongs, to the nearest pixel of the level.

Source:
    OpenSlide, "MIRAX format", https://openslide.org/formats/mirax/; Gilbert, "Introduction to
    MIRAX/MRXS", openslide-users, July 2012.
"""

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medssl.errors import Reason, UnreadableFileError, UnsupportedImageError
from medssl.sources.decoded import FileFacts
from medssl.sources.mirax_files import Integers, MiraxFiles, open_mirax_files
from medssl.sources.mirax_settings import Slidedat, damaged
from medssl.sources.slide_facts import plausible
from medssl.sources.slide_pyramid import Box, Level, Piece, Pixels, Pyramid, count_tiles

_FORMATS = {"JPEG": "JPEG", "PNG": "PNG", "BMP": "BMP", "BMP24": "BMP"}
_MOST_IMAGES = 1 << 20  # along a side, as pixels of one
_MOST_HALVINGS = 16
_SQUARE = 1.02  # between the sides of a pixel
_Floats = NDArray[np.float64]


class _Photos(NamedTuple):
    """The photos of which there are images.

    Attributes:
        divisions: Images along a side of one.
        across: Photos beside each other in the grid, also those without images.
        numbers: In the grid, by rows, in rising order.
        corners: First row and column of each in the slide, px.
        image: Rows and columns of an image, px.
    """

    divisions: int
    across: int
    numbers: Integers
    corners: _Floats
    image: tuple[int, int]


class _Stored(NamedTuple):
    """The images of a level.

    Attributes:
        section: Of the settings, about this level.
        halvings: How often the slide was halved for it.
        rows: Of the grid of images of the slide, from 0, of its first one.
        columns: Likewise.
        data: Offset, length and data file of each, `[images, 3]`.
    """

    section: str
    halvings: int
    rows: Integers
    columns: Integers
    data: Integers


@dataclass(frozen=True, eq=False, slots=True)
class _Placed:
    """The pieces of a level, by rows: `[7, pieces]`, the box, the first pixel, the image."""

    table: NDArray[np.int32]
    tallest: int

    def within(self, box: Box) -> Iterator[Piece]:
        """Give the pieces that show something in a box."""
        top, left, bottom, right = box
        first, last = np.searchsorted(self.table[0], (top - self.tallest, bottom))
        near = self.table[:, first:last]
        near = near[:, (near[2] > top) & (near[1] < right) & (near[3] > left)]
        for upper, begin, lower, end, row, column, image in near.T.tolist():
            yield Piece(image, (upper, begin, lower, end), (row, column))


@contextmanager
def open_mirax_pyramid(path: Path) -> Iterator[Pyramid]:
    """Open the levels of a slide in MIRAX.

    Args:
        path: The `.mrxs` file, which is not looked into: it is a picture with the label.

    Raises:
        UnreadableFileError: Damaged, or files of it are missing.
        UnsupportedImageError: Fluorescence, several focal planes, without 8-bit colours, or as
            `open_mirax_files`.
        TooLargeError: More pixels than any slide has, or images beyond the pixel budget.
    """
    files = open_mirax_files(path)
    slidedat = files.slidedat
    if "FLUORESCENCE" in slidedat.text("GENERAL", "SLIDE_TYPE", "").upper():
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, "a slide of fluorescence")
    sections = files.level_sections()
    if not sections:
        raise UnreadableFileError(path, Reason.NO_PIXELS, "a slide without levels")
    image = _image_size(slidedat, sections)
    levels = _stored_levels(files, sections)
    photos = _photos(files, levels[0], image)
    sides = _sides(path, photos)
    pyramid = tuple(
        _level(files, each, _place(path, photos, each), sides, image)
        for each in levels
        if len(each.data) and min(sides) >> each.halvings
    )
    yield Pyramid(pyramid, _microns_per_pixel(slidedat, sections[0]), FileFacts(frames=1))


def _image_size(slidedat: Slidedat, sections: list[str]) -> tuple[int, int]:
    """Return rows and columns of all images."""
    keys = ("DIGITIZER_HEIGHT", "DIGITIZER_WIDTH")
    found = {
        tuple(slidedat.whole(section, key, 1, _MOST_IMAGES) for key in keys) for section in sections
    }
    if len(found) > 1:
        detail = "a MIRAX slide with images of several sizes"
        raise UnsupportedImageError(slidedat.path, Reason.UNSUPPORTED, detail)
    rows, columns = found.pop()
    return rows, columns


def _stored_levels(files: MiraxFiles, sections: list[str]) -> list[_Stored]:
    """List the images of each level; the numbers in the grid are those of the first level."""
    settings, path = files.slidedat, files.path
    across, down = (
        settings.whole("GENERAL", f"IMAGENUMBER_{axis}", 1, _MOST_IMAGES) for axis in "XY"
    )
    halvings = accumulate(
        settings.whole(section, "IMAGE_CONCAT_FACTOR", min(level, 1), _MOST_HALVINGS)
        for level, section in enumerate(sections)
    )
    first, levels = 0, []
    for level, (section, times) in enumerate(zip(sections, halvings, strict=True)):
        first = first if level else times  # an exported slide may begin with a coarser level
        items = files.images(level)
        rows, columns = np.divmod(items[:, 0], across)
        if times > _MOST_HALVINGS or ((rows < 0) | (rows >= down)).any():
            raise damaged(path, "images outside of the grid of images")
        if ((rows | columns) & ((1 << times) - 1)).any():
            raise damaged(path, "images at places where their level has none")
        if len(np.unique(items[:, 0])) < len(items):
            detail = "a MIRAX slide with several images of one place: focal planes or channels"
            raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
        grid = rows >> first, columns >> first
        levels.append(_Stored(section, times - first, *grid, items[:, 1:]))
    if not len(levels[0].data):
        raise UnreadableFileError(path, Reason.NO_PIXELS, "a slide without images")
    return levels


def _photos(files: MiraxFiles, finest: _Stored, image: tuple[int, int]) -> _Photos:
    """Find the photos of which there are images, and where the slide that they show begins."""
    slidedat, path = files.slidedat, files.path
    divisions = slidedat.whole("GENERAL", "CameraImageDivisionsPerSide", 1, _MOST_IMAGES, 1)
    sides = [slidedat.whole("GENERAL", f"IMAGENUMBER_{axis}", 1, _MOST_IMAGES) for axis in "YX"]
    if any(side % divisions for side in sides):
        raise damaged(path, "images that make no whole photos")
    down, across = (side // divisions for side in sides)
    places = finest.rows // divisions * across + finest.columns // divisions
    numbers = np.unique(places)
    overlap = np.array([slidedat.number(finest.section, f"OVERLAP_{axis}") for axis in "YX"])
    known = files.positions(down * across)
    if slidedat.whole(finest.section, "IMAGE_CONCAT_FACTOR", 0, _MOST_HALVINGS) and (
        divisions > 1 or known is not None or overlap.any()
    ):
        detail = "a MIRAX slide whose finest level was halved before photos were laid together"
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
    if known is None:
        grid = np.stack(np.divmod(numbers, across), axis=1)
        corners = grid * (divisions * np.array(image) - overlap)
    else:
        corners = known[numbers].astype(np.float64)
    corners -= np.floor(corners.min(axis=0))
    return _Photos(divisions, across, numbers, corners, image)


def _sides(path: Path, photos: _Photos) -> tuple[int, int]:
    """Return rows and columns of the slide, px."""
    ends = photos.corners.max(axis=0) + photos.divisions * np.array(photos.image)
    rows, columns = (math.ceil(end) for end in ends.tolist())
    count_tiles(path, rows, columns, *photos.image)
    return rows, columns


def _place(path: Path, photos: _Photos, stored: _Stored) -> _Placed:
    """Lay what the images of a level show of photos where it belongs.

    A pixel of the level is taken from the photo in which its centre lies. So photos that touch in
    the slide touch in each level, also where a photo begins between two pixels.
    """
    step, sides = 1 << stored.halvings, np.array(photos.image)
    if photos.divisions % step == 0:
        images, begin, inside, size = _parts_of_photos(photos, stored)
    elif step % photos.divisions == 0:
        images, begin, inside, size = _photos_in_images(photos, stored)
    else:
        detail = "a MIRAX slide whose images hold parts of several photos"
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
    begin, inside = begin / step, inside * sides / step
    ends = begin + size * sides / step
    boxes = [np.ceil(place - 0.5).T for place in (begin, ends, begin - inside)]
    table = np.concatenate([*boxes, images[None]]).astype(np.int32)
    table = np.ascontiguousarray(table[:, np.lexsort((table[1], table[0]))])
    return _Placed(table, int((table[2] - table[0]).max(initial=0)))


def _parts_of_photos(photos: _Photos, stored: _Stored) -> tuple[Integers, _Floats, Integers, int]:
    """Return images that show a part of one photo, where they begin in the slide, px; whole."""
    each = photos.divisions
    numbers = stored.rows // each * photos.across + stored.columns // each
    found, is_there = _look_up(photos.numbers, numbers)
    images = np.flatnonzero(is_there)
    part = np.stack([stored.rows, stored.columns], axis=1)[images] % each
    begin = photos.corners[found[images]] + part * np.array(photos.image)
    return images, begin, np.zeros_like(part), 1 << stored.halvings


def _photos_in_images(photos: _Photos, stored: _Stored) -> tuple[Integers, _Floats, Integers, int]:
    """Return the image that shows each photo, where photos begin in the slide, px, and in it.

    Where in the image and how large is told in images of the finest level.
    """
    step, each = 1 << stored.halvings, photos.divisions
    grid = np.stack(np.divmod(photos.numbers, photos.across), axis=1) * each
    wanted = grid - grid % step  # the image's place
    order = np.lexsort((stored.columns, stored.rows))
    known = (stored.rows * _MOST_IMAGES + stored.columns)[order]
    found, is_there = _look_up(known, wanted[:, 0] * _MOST_IMAGES + wanted[:, 1])
    return order[found[is_there]], photos.corners[is_there], grid[is_there] % step, each


def _look_up(known: Integers, wanted: Integers) -> tuple[Integers, NDArray[np.bool_]]:
    """Return the place of each wanted number in `known`, which rises, and whether it is there."""
    found = np.searchsorted(known, wanted).clip(max=len(known) - 1)
    return found, known[found] == wanted


def _level(
    files: MiraxFiles,
    stored: _Stored,
    placed: _Placed,
    whole: tuple[int, int],
    image: tuple[int, int],
) -> Level:
    slidedat, section = files.slidedat, stored.section
    packing = _FORMATS.get(slidedat.text(section, "IMAGE_FORMAT").upper())
    if packing is None:
        detail = "a MIRAX slide with images that are no JPEG, PNG or BMP"
        raise UnsupportedImageError(files.path, Reason.UNSUPPORTED, detail)
    bgr = slidedat.whole(section, "IMAGE_FILL_COLOR_BGR", -(1 << 31), (1 << 32) - 1, 0xFFFFFF)
    fill = (bgr & 0xFF, bgr >> 8 & 0xFF, bgr >> 16 & 0xFF)
    decode = partial(_decode, files, stored.data, packing, image)
    rows, columns = (side >> stored.halvings for side in whole)
    factor = float(1 << stored.halvings)
    return Level(rows, columns, *image, factor, decode, placed.within, fill)


def _decode(
    files: MiraxFiles, data: Integers, packing: str, size: tuple[int, int], index: int
) -> Pixels:
    content = io.BytesIO(files.read(*data[index].tolist()))
    with Image.open(content, formats=[packing]) as image:
        if (image.height, image.width) != size:
            raise damaged(files.path, "an image of another size")
        if image.mode not in ("RGB", "L"):
            detail = "a slide without 8-bit colours"
            raise UnsupportedImageError(files.path, Reason.UNSUPPORTED, detail)
        return np.asarray(image.convert("RGB"))


def _microns_per_pixel(slidedat: Slidedat, section: str) -> float | None:
    sides = [slidedat.number(section, f"MICROMETER_PER_PIXEL_{axis}") for axis in "YX"]
    if min(sides) <= 0:
        return None
    if max(sides) > _SQUARE * min(sides):
        detail = "a slide with pixels that are not square"
        raise UnsupportedImageError(slidedat.path, Reason.UNSUPPORTED, detail)
    return plausible(sum(sides) / 2)
