"""The chapter that shows of each slide which tiles were taken for tissue."""

from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medssl.config import ReportConfig
from medssl.errors import IngestError
from medssl.manifest import Manifest
from medssl.report import words
from medssl.report.inputs import Inputs
from medssl.report.sheets import picture
from medssl.sources.slide import Slide, open_tiles
from sslcore.report import writing
from sslcore.report.parts import Section, Sheet, Strip

_OVERVIEW = 640  # px, its longer side
_TILES = 6  # beside each slide
_PALE = 0.75  # of white over what has no row


def slide_sections(inputs: Inputs, report: ReportConfig) -> list[Section]:
    """Return the chapter; none without slides, or if they cannot be read now."""
    if inputs.manifest is None or not inputs.has_images:
        return []
    strips = tuple(_strips(inputs.manifest, report.sources))
    if not strips:
        return []
    caption = (
        "Left: the slide; what is pale has no row in the manifest, as it shows glass or ink, is out"
        " of focus, or is left out by the split. Right: tiles from its middle."
    )
    sheet = Sheet(caption, "Slide", "Tiles", strips)
    return [Section("slides", "Tiles of the slides", (sheet,))]


def _strips(manifest: Manifest, most: int) -> Iterator[Strip]:
    tiles = manifest.rows.filter(pl.col("kind") == "slide")
    for slide in tiles.partition_by("path", maintain_order=True)[:most]:
        try:
            yield _strip(manifest, slide)
        except IngestError:
            continue


def _strip(manifest: Manifest, tiles: pl.DataFrame) -> Strip:
    key = words.short(tiles["sample"][0])
    about = f"{writing.count(len(tiles), 'tile')} of {tiles['member'][0]}"
    frames = tiles["frame"].to_numpy()
    with open_tiles(manifest.file(tiles["path"][0]), tiles["member"][0]) as slide:
        lead = picture(
            _overview(slide, frames),
            alt=f"Slide of tile {key}",
            lines=(f"slide of tile {key}", about),
        )
        middle = frames[(len(frames) - 1) // 2 :][:_TILES]
        shown = [
            picture(slide.decode(int(frame)).values, alt=f"Tile {frame} of the slide")
            for frame in middle
        ]
    return Strip(lead, tuple(shown))


def _overview(slide: Slide, frames: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Return the slide, pale where there is no tile."""
    overview = slide.overview(_OVERVIEW).astype(np.float32)
    rows, columns = slide.edges(*overview.shape[:2])
    is_pale = np.ones(overview.shape[:2], np.bool_)
    for row, column in zip(*np.divmod(frames, slide.grid[1]), strict=True):
        is_pale[rows[row] : rows[row + 1], columns[column] : columns[column + 1]] = False
    overview[is_pale] += _PALE * (255 - overview[is_pale])
    free = [max(overview.shape[:2]) - side for side in overview.shape[:2]]
    margins = [(each // 2, each - each // 2) for each in free]  # as glass, not as night
    square = np.pad(overview, (*margins, (0, 0)), constant_values=255)
    return square.round().astype(np.uint8)
