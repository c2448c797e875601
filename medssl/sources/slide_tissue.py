"""Where the tissue of a slide is, and where someone drew on the glass."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from medssl.sources.cut import TileWishes
from medssl.sources.slide import Slide
from medssl.sources.slide_grid import Places

Shares = NDArray[np.float64]

_PER_TILE = 8  # px of the overview, along a side
_MOST = 4096  # px of the overview
_SATURATION = (0.04, 0.2)  # between which Otsu's threshold is taken: grey glass, pale stain
_INK = (75.0, 205.0, 0.35)  # degrees, from yellow-green to sky blue, where no stain is, as below
# Where stains are: hues of pens, degrees; saturation from which they are no haematoxylin, eosin,
# blood or DAB, all of which darken before they become so pure; and the least value of such ink.
_PENS = (
    (-10.0, 15.0, 0.75, 0.0),  # red
    (15.0, 75.0, 0.7, 0.8),  # orange and yellow
    (205.0, 230.0, 0.5, 0.0),  # blue
    (230.0, 290.0, 0.7, 0.0),  # blue to violet
)
_BLACK = 0.25  # value of black ink
_BINS = 256
_LEAST_TISSUE = 1e-6  # of a tile: one without any is never wanted
_MOST_INK = 0.05
_LEAST_FOCUS = 0.05  # of the median of the slide


class Tissue(NamedTuple):
    """What the tiles of a slide show, `[rows, columns]` of its grid.

    Attributes:
        tissue: Share of each tile that is stained.
        ink: Share that is drawn on.
    """

    tissue: Shares
    ink: Shares


class TissueTiles(NamedTuple):
    """Which tiles of a slide are wanted.

    Attributes:
        frames: Those with enough tissue and no ink.
        glass: How many have too little tissue.
        ink: How many are drawn on.
    """

    frames: list[int]
    glass: int
    ink: int


def tissue_tiles(slide: Slide, wishes: TileWishes) -> TissueTiles:
    """Look which tiles are wanted."""
    if 0 in slide.grid:
        return TissueTiles([], 0, 0)
    found = find_tissue(slide)
    is_ink = found.ink > _MOST_INK
    is_glass = (found.tissue < max(wishes.tissue, _LEAST_TISSUE)) & ~is_ink
    frames = np.flatnonzero(~(is_ink | is_glass)).tolist()
    return TissueTiles(frames, int(is_glass.sum()), int(is_ink.sum()))


def in_focus(sharpness: Sequence[float]) -> list[bool]:
    """Tell which tiles are not far less sharp, see `focus`, than most tiles of their slide."""
    if not sharpness:
        return []
    least = _LEAST_FOCUS * float(np.median(sharpness))
    return [value >= least for value in sharpness]


def find_tissue(slide: Slide) -> Tissue:
    """Look at an overview of the slide.

    Stain is what is more saturated than glass, by Otsu's threshold; specks are left out and small
    holes filled. Ink is black, green, or of another hue and purer than stains are over an area.

    Source:
        Otsu, "A threshold selection method from gray-level histograms", IEEE SMC 1979.
    """
    whole = slide.levels[0]
    tiles = int(max(whole.rows, whole.columns) / slide.step)
    overview = slide.overview(min(_MOST, _PER_TILE * tiles))
    ink, stained = look(overview)
    edges = slide.edges(*ink.shape)
    return Tissue(*(_shares(mask, *edges) for mask in (stained, ink)))


def look(overview: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which pixels are ink, and which are tissue, `[rows, columns]` each."""
    colours = np.divide(overview, 255, dtype=np.float32)
    high, low = colours.max(axis=2), colours.min(axis=2)
    saturation = np.divide(high - low, high, out=np.zeros_like(high), where=high > 0)
    ink = _ink(_hue(colours, high, low), saturation, high)
    threshold = float(np.clip(_otsu(saturation[~ink]), *_SATURATION))
    stained = (saturation > threshold) & ~ink
    return ink, _without_specks(stained) & ~ink


def _ink(
    hue: NDArray[np.float32], saturation: NDArray[np.float32], value: NDArray[np.float32]
) -> NDArray[np.bool_]:
    first, last, least = _INK
    ink = (value < _BLACK) | ((hue > first) & (hue < last) & (saturation > least))
    pen = np.zeros_like(ink)
    for first, last, least, dark in _PENS:
        is_hue = (hue - first) % 360 < last - first  # also around red, which is 0
        pen |= is_hue & (saturation > least) & (value >= dark)
    return np.asarray(ink | _without_specks(pen), np.bool_)


def focus(tile: NDArray[np.uint8]) -> float:
    """Return how sharp a tile is: the variance of its second differences, of values from 0 to 1."""
    grey = tile.mean(axis=2, dtype=np.float32) / 255
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float((around - 4 * grey[1:-1, 1:-1]).var())


def _without_specks(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Open and close the mask by 3 x 3 px; what lies at the rim goes on beyond it."""
    from scipy import ndimage  # noqa: PLC0415, a third of the start of a process, for slides only

    square, rim = np.ones((3, 3), np.bool_), 3
    wide = np.pad(mask, rim, mode="edge")
    wide = ndimage.binary_closing(ndimage.binary_opening(wide, square), square)
    return np.asarray(wide[rim:-rim, rim:-rim], np.bool_)


def _hue(
    colours: NDArray[np.float32], high: NDArray[np.float32], low: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the hue of HSV, degrees."""
    red, green, blue = np.moveaxis(colours, 2, 0)
    span = np.where(high > low, high - low, 1)
    sixth = np.where(
        high == red,
        (green - blue) / span % 6,
        np.where(high == green, (blue - red) / span + 2, (red - green) / span + 4),
    )
    return np.asarray(60 * sixth, np.float32)


def _otsu(values: NDArray[np.float32]) -> float:
    counts, edges = np.histogram(values, _BINS, (0.0, 1.0))
    below = np.cumsum(counts)
    sums = np.cumsum(counts * (edges[:-1] + edges[1:]) / 2)
    above = below[-1] - below
    valid = (below > 0) & (above > 0)
    if not valid.any():
        return 1.0
    means = sums[valid] / below[valid], (sums[-1] - sums[valid]) / above[valid]
    between = below[valid] * above[valid] * (means[0] - means[1]) ** 2
    return float(edges[1:][valid][np.argmax(between)])


def _shares(mask: NDArray[np.bool_], rows: Places, columns: Places) -> Shares:
    """Return the mean of the mask in each tile; see `Slide.edges`."""
    sums = np.pad(mask.cumsum(axis=0).cumsum(axis=1).astype(np.float64), ((1, 0), (1, 0)))
    down = sums[rows[:, 1]] - sums[rows[:, 0]]
    inside = down[:, columns[:, 1]] - down[:, columns[:, 0]]
    areas = np.outer(np.diff(rows), np.diff(columns))
    shares: Shares = np.divide(inside, areas, out=np.zeros_like(inside), where=areas > 0)
    return shares
