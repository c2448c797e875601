"""Text in the pixels of an image: letters of one height on one line, on even ground.

Nothing is read. A line is `_LETTERS` or more parts that stand on one base, of one height, close
together, thin, and clearly brighter or darker than the ground between them, which is even: as
programs draw a name into a picture, and as tissue and noise hardly ever fall. Most of an image has
too few sharp edges for a line, and only the rest is looked at closely.

Not found are single letters and short words, slanted or joined handwriting, letters of less than
8 px or more than 64 px, and letters on ground that is as restless as they are. The script
`benchmarks/burned_in.py` measures both mistakes.
"""

from collections.abc import Iterator
from typing import cast

import numpy as np
from numpy.typing import NDArray

from medssl.sources.decoded import Decoded, Values

Grey = NDArray[np.uint8]
Mask = NDArray[np.bool_]

_LONGEST = 2048  # px; larger images are looked at at a half, a third, ... of their size
_LETTERS = 5  # on a line, at least
_PARTS = 4  # that they are, where some touch
_STEP = 48  # grey levels of 256 between ink and ground
_UNEVEN = 30  # grey levels between the 5th and the 66th percentile of the ground, at most
_ABOVE = (40, 112)  # grey levels from the middle of a region to what divides them
_HEIGHTS = (5, 64)  # px of a letter
_APART = 32  # px between columns of edges that can be of one line
_LARGEST = 1e30  # value of a float image, so that no difference is too large
_MOST_PARTS = 1000  # of one region; what has more is texture
_EVERY_NEIGHBOUR = np.ones((3, 3), np.bool_)


def shows_text(decoded: Decoded) -> bool:
    """Tell whether a line of 5 letters or more is anywhere in an image."""
    grey = _shrink(_as_grey(decoded.colours(), decoded.bits))
    for rows, columns in _restless(grey):
        part = grey[rows, columns]
        for ink in (part, 255 - part):
            ground = int(np.median(ink))
            levels = [ground + above for above in _ABOVE if ground + above < 255]
            if any(_has_line(ink, ink >= level) for level in levels):
                return True
    return False


def _as_grey(values: Values, bits: int) -> Grey:
    """Return `[rows, columns]`, 0 to 255: 8 bit as they are, others from their least to largest."""
    with np.errstate(over="ignore", invalid="ignore"):
        if values.ndim == 3:
            wide = np.uint16 if values.dtype == np.uint8 else np.float32
            total = values[..., 0].astype(wide) + values[..., 1] + values[..., 2]
            values = (total // 3).astype(values.dtype)
        if values.dtype == np.uint8 and bits == 8:
            return values
        exact = values.astype(np.float32)
    if values.dtype.kind == "f":
        exact = np.clip(np.nan_to_num(exact), -_LARGEST, _LARGEST)
    low, high = float(exact.min()), float(exact.max())
    if not high > low:
        return np.zeros(values.shape, np.uint8)
    grey: Grey = ((exact - low) / (high - low) * 255).astype(np.uint8)
    return grey


def _shrink(grey: Grey) -> Grey:
    """Return means of squares, so that no side is longer than `_LONGEST`."""
    step = min(-(-max(grey.shape) // _LONGEST), *grey.shape)
    if step <= 1:
        return grey
    rows, columns = (side // step * step for side in grey.shape)
    total = np.zeros((rows // step, columns // step), np.uint32)
    for row in range(step):
        for column in range(step):
            total += grey[row:rows:step, column:columns:step]
    means: Grey = (total // (step * step)).astype(np.uint8)
    return means


def _restless(grey: Grey) -> Iterator[tuple[slice, slice]]:
    """Yield the regions with as many sharp edges, row by row, as a line of letters has."""
    if grey.shape[1] < 3:
        return
    left, right = grey[:, :-2], grey[:, 2:]
    is_edge = np.maximum(right, left) - left >= _STEP
    starts = is_edge[:, 1:] > is_edge[:, :-1]
    busy = _counts(starts) >= _LETTERS
    for top, bottom in _runs(busy, gap=1, least=_HEIGHTS[0] - 1):
        band = starts[top:bottom]
        for first, last in _runs(cast("Mask", band.any(axis=0)), gap=_APART, least=2 * _LETTERS):
            counts = _counts(band[:, first:last])
            if np.count_nonzero(counts >= _LETTERS) >= _HEIGHTS[0] - 1:
                yield slice(max(0, top - 3), bottom + 3), slice(max(0, first - 2), last + 18)


def _counts(flags: Mask) -> NDArray[np.uint16]:
    """Return the true flags of each row; NumPy's own count is three times slower."""
    return np.asarray(flags.view(np.uint8).sum(axis=1, dtype=np.uint16))


def _runs(flags: Mask, *, gap: int, least: int) -> list[tuple[int, int]]:
    """Return begin and end of the runs of true flags that are long enough, over short gaps."""
    changes = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]])))
    runs: list[tuple[int, int]] = []
    for begin, end in zip(changes[::2].tolist(), changes[1::2].tolist(), strict=True):
        if runs and begin - runs[-1][1] <= gap:
            runs[-1] = (runs[-1][0], end)
        else:
            runs.append((begin, end))
    return [(begin, end) for begin, end in runs if end - begin >= least]


def _has_line(ink: Grey, mask: Mask) -> bool:
    boxes = _letters(mask)
    if not _PARTS <= len(boxes) <= _MOST_PARTS:
        return False
    is_beside = _on_one_line(boxes)
    waiting = np.count_nonzero(is_beside, axis=1) >= _PARTS
    for first in np.flatnonzero(waiting).tolist():
        if waiting[first]:
            line = _unbroken(boxes, np.flatnonzero(is_beside[first]))
            waiting[line] = False
            if _count(boxes[line]) >= _LETTERS and _is_drawn(ink, mask, boxes[line]):
                return True
    return False


def _letters(mask: Mask) -> NDArray[np.int64]:
    """Return top, bottom, left and right of the parts that are shaped like letters, by left."""
    from scipy import ndimage  # noqa: PLC0415, takes a third of a second, and few files need it

    labels, count = ndimage.label(mask, structure=_EVERY_NEIGHBOUR)
    found = [
        (rows.start, rows.stop, columns.start, columns.stop)
        for rows, columns in ndimage.find_objects(labels)
    ]
    boxes = np.array(found, np.int64).reshape(-1, 4)
    heights, widths = boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2]
    filled = np.bincount(labels.ravel(), minlength=count + 1)[1:] / (heights * widths)
    is_thin = widths <= 0.45 * heights  # such as I and 1, which fill their box
    is_letter = is_thin | ((widths <= 3 * heights) & (filled >= 0.15) & (filled <= 0.95))
    kept = boxes[is_letter & (heights >= _HEIGHTS[0]) & (heights <= _HEIGHTS[1])]
    return kept[np.argsort(kept[:, 2], kind="stable")]


def _on_one_line(boxes: NDArray[np.int64]) -> Mask:
    """Tell for each letter which of it and those further right have its base and its height."""
    bases, heights = boxes[:, 1], boxes[:, 1] - boxes[:, 0]
    is_level = np.abs(bases - bases[:, None]) <= np.maximum(1, 0.12 * heights)[:, None]
    is_alike = np.abs(heights - heights[:, None]) <= np.maximum(1, 0.15 * heights)[:, None]
    return np.triu(is_level & is_alike)


def _unbroken(boxes: NDArray[np.int64], line: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the letters of a line up to the first gap that is too wide, or overlap."""
    height = boxes[line[0], 1] - boxes[line[0], 0]
    gaps = boxes[line[1:], 2] - boxes[line[:-1], 3]
    torn = np.flatnonzero((gaps > 1.6 * height) | (gaps < -0.2 * height))
    return line[: torn[0] + 1] if len(torn) else line


def _count(boxes: NDArray[np.int64]) -> int:
    """Return how many letters the parts of a line are, some of which touch; 0 of too few parts."""
    heights, widths = boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2]
    return int(np.maximum(1, np.rint(widths / heights)).sum()) if len(boxes) >= _PARTS else 0


def _is_drawn(ink: Grey, mask: Mask, boxes: NDArray[np.int64]) -> bool:
    """Tell letters on even ground from texture, and from the marks of a ruler, which are alike."""
    if len(np.unique(boxes[:, 3] - boxes[:, 2])) < 2:
        return False
    rows = slice(boxes[:, 0].min(), boxes[:, 1].max())
    columns = slice(boxes[0, 2], boxes[:, 3].max())
    is_ink = mask[rows, columns]
    if not 0.1 <= is_ink.mean() <= 0.7:
        return False
    ground = ink[rows, columns][~is_ink]
    low, middle, high = np.percentile(ground, (5, 50, 66))
    contrast = np.median(ink[rows, columns][is_ink]) - middle
    return bool(high - low <= _UNEVEN and contrast - (high - low) >= _STEP)
