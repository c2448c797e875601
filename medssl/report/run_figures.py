"""A map of images that shows some of them."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sslcore.plots import MUTED, draw, series
from sslcore.report.maps import bare_square, columns_of

FloatArray = NDArray[np.float64]

THUMBNAIL_SHARE = 0.066
"""Side of a thumbnail on the map, as a share of the map's."""


def thumbnail_map(
    points: FloatArray,
    groups: NDArray[np.int64],
    thumbnails: Sequence[tuple[int, NDArray[np.uint8]]],
    *,
    side: float = 380,
) -> Figure:
    """Draw some of the images of `point_map` as thumbnails at their places.

    Args:
        points: As in `point_map`.
        groups: As in `point_map`; gives the colour of the frame.
        thumbnails: Number of the image, and its pixels, `[rows, columns]` or with 3 colours.
        side: px.
    """
    half = 0.5 * THUMBNAIL_SHARE

    def paint(axes: Axes) -> None:
        axes.scatter(*columns_of(points), s=3, color=MUTED.light, alpha=0.35, lw=0)
        for index, pixels in thumbnails:
            x, y = points[index]
            box = (x - half, x + half, y - half, y + half)
            group = groups[index]
            tone = MUTED.light if group < 0 else series(int(group)).light
            axes.fill(
                [box[0], box[1], box[1], box[0]], [box[2], box[2], box[3], box[3]], color=tone
            )
            rim = 0.09 * half
            inner = (box[0] + rim, box[1] - rim, box[2] + rim, box[3] - rim)
            cmap = "gray" if pixels.ndim == 2 else None
            axes.imshow(pixels, extent=inner, cmap=cmap, vmin=0, vmax=255, zorder=3, aspect="auto")
        bare_square(axes)

    return draw(paint, width=side, height=side)
