"""Where the tiles of a slide lie: side by side, or within the photos that it is made of."""

import math
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from medssl.sources.slide_pyramid import Level

Places = NDArray[np.int64]


class Span(NamedTuple):
    """What a tile covers of a level along one side, px.

    Attributes:
        first: The first pixel it needs.
        last: The one after the last it needs; never one of another photo.
        begin: Where it begins; may lie within a pixel.
        end: Where it ends.
    """

    first: int
    last: int
    begin: float
    end: float


class Along(NamedTuple):
    """The tiles along one side of a slide, as many in each photo as fit; px of the slide.

    Attributes:
        step: Side of a tile.
        photo: Side of a photo; of a slide without photos, its own.
        photos: How many there are.
        each: Tiles in a photo.
        margin: What is left out of a photo before its first tile.
    """

    step: float
    photo: int
    photos: int
    each: int
    margin: int

    @classmethod
    def of(cls, step: float, side: int, photo: int | None, unit: float) -> Self:
        """Return the tiles of a slide: from its corner, or from the middle of each photo.

        Args:
            step: Side of a tile.
            side: Of the slide.
            photo: Side of a photo; None for a slide without photos.
            unit: Of the margin, so that tiles begin with a pixel of the level they are read from.
        """
        if photo is None:
            return cls(step, side, 1, int(side / step), 0)
        each = int(photo / step)
        margin = max(0.0, photo - each * step) / 2
        return cls(step, photo, side // photo, each, round(margin // unit * unit))

    @property
    def tiles(self) -> int:
        """How many there are."""
        return self.photos * self.each

    def span(self, number: int, level: Level, side: int) -> Span:
        """Return what a tile covers of a level that is `side` px long."""
        photo, index = divmod(number, self.each)
        corner, step = photo * self.photo / level.factor, self.step / level.factor
        start = corner + self.margin / level.factor
        begin, end = start + index * step, start + (index + 1) * step
        rim = side if self.photos == 1 else round(corner + self.photo / level.factor)
        return Span(math.floor(begin), min(math.ceil(end), rim), begin, end)

    def edges(self, side: int, whole: int) -> Places:
        """Return where tiles begin and end in a picture of the whole slide, `[tiles, 2]`, px.

        Args:
            side: Of the picture.
            whole: Of the slide.
        """
        photo, index = np.divmod(np.arange(self.tiles), max(self.each, 1))
        start = (photo * self.photo + self.margin)[:, None]
        places = (start + np.add.outer(index, (0, 1)) * self.step) * (side / whole)
        edges: Places = np.rint(places).astype(np.int64).clip(0, side)
        return edges
