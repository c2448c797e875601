"""The chapter that shows of each slide which tiles were taken for tissue, and how it is stained."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medssl.config import ReportConfig
from medssl.errors import IngestError
from medssl.manifest import Manifest
from medssl.report import words
from medssl.report.inputs import Inputs
from medssl.report.sheets import picture
from medssl.sources.cut import LEFT_OUT, Cut
from medssl.sources.slide import Slide, open_slide
from medssl.transforms.stain_normalisation import dye_amounts
from sslcore.report import writing
from sslcore.report.parts import Cell, Note, Part, Section, Sheet, Strip, Table

_OVERVIEW = 640  # px, its longer side
_TILES = 6  # beside each slide
_MEASURED = 32  # tiles of each slide whose stain is measured, at most
_STEP = 4  # of their pixels, one of so many in each direction
_PALE = 0.75  # of white over what has no row


class _Shown(NamedTuple):
    """Of one slide, its row of pictures and its row of numbers."""

    strip: Strip
    numbers: tuple[Cell, ...]


def slide_sections(inputs: Inputs, report: ReportConfig) -> list[Section]:
    """Return the chapter; none without slides, or if the images cannot be read now."""
    if inputs.manifest is None or not inputs.has_images:
        return []
    allowed = inputs.config is not None and inputs.config.data.allow_burned_in
    is_shown = (pl.col("kind") == "slide") & (pl.col("burned_in").is_null() | pl.lit(allowed))
    tiles = inputs.manifest.rows.filter(is_shown)
    slides = tiles.partition_by("path", maintain_order=True)
    if not slides:
        return []
    tried = slides[: report.sources]
    shown = list(_shown(inputs.manifest, tried))
    parts: list[Part] = [_sheet(shown), _stains(shown)] if shown else []
    if len(shown) < len(tried):
        lost = writing.count(len(tried) - len(shown), "slide")
        parts.append(Note(f"{lost} of the first {len(tried)} cannot be read now."))
    lead = f"{len(tried)} of {len(slides):,} slides." if slides[len(tried) :] else ""
    return [Section("slides", "Tiles of the slides", tuple(parts), lead)]


def _sheet(shown: list[_Shown]) -> Sheet:
    caption = (
        "Left: the slide; what is pale has no row in the manifest, as it shows glass or ink, is out"
        " of focus, lies where photos overlap, or is left out by the split. Right: tiles from its"
        " middle."
    )
    return Sheet(caption, "Slide", "Tiles", tuple(item.strip for item in shown))


def _stains(shown: list[_Shown]) -> Table:
    caption = (
        "Stain: optical density (base e) of haematoxylin and eosin, by the dyes of one reference,"
        f" in the tissue of up to {_MEASURED} tiles of a slide, evenly spread; mean, and standard"
        " deviation over pixels"
    )
    head = ("Slide of tile", "Tiles", "Microns per pixel", "Haematoxylin", "Eosin")
    return Table(caption, head, (("", tuple(item.numbers for item in shown)),))


def _shown(manifest: Manifest, slides: list[pl.DataFrame]) -> Iterator[_Shown]:
    for tiles in slides:
        try:
            cut = Cut.parse(tiles["member"][0])
            with open_slide(manifest.file(tiles["path"][0]), cut) as slide:
                frames, key = tiles["frame"].to_numpy(), words.short(tiles["sample"][0])
                count = _count(len(tiles), tiles["left_out"][0])
                yield _Shown(_strip(slide, frames, key), _numbers(slide, frames, key, count))
        except IngestError:
            continue  # counted by what is missing


def _strip(slide: Slide, frames: NDArray[np.int32], key: str) -> Strip:
    about = f"{writing.count(len(frames), 'tile')} of {slide.cut.member}"
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


def _count(tiles: int, left_out: Iterable[int] | None) -> Cell:
    """Tell how many tiles of a slide have a row, and why others have none, if that was counted."""
    if left_out is None:
        return Cell(f"{tiles:,}")
    told = ", ".join(f"{name} {count:,}" for name, count in zip(LEFT_OUT, left_out, strict=True))
    return Cell(f"{tiles:,}", f"left out: {told}")


def _numbers(slide: Slide, frames: NDArray[np.int32], key: str, count: Cell) -> tuple[Cell, ...]:
    told = "as the file says" if slide.cut.assumed is None else "assumed: the file says none"
    chosen = frames[:: -(-len(frames) // _MEASURED)]
    tiles = [slide.decode(int(frame)).values[::_STEP, ::_STEP] for frame in chosen]
    amounts = dye_amounts(np.stack(tiles))
    stains = (_amount(dye) for dye in amounts)
    mpp = Cell(f"{slide.mpp:.3g}", told)
    return Cell(key), count, mpp, *stains


def _amount(dye: NDArray[np.floating[Any]]) -> Cell:
    if not len(dye):
        return Cell("none", "no stained pixel")
    mean = f"{dye.mean():.2f}".replace("-", writing.MINUS)
    return Cell(mean, f"\N{PLUS-MINUS SIGN} {dye.std():.2f}")


def _overview(slide: Slide, frames: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Return the slide, pale where there is no tile."""
    overview = slide.overview(_OVERVIEW).astype(np.float32)
    rows, columns = slide.edges(*overview.shape[:2])
    is_pale = np.ones(overview.shape[:2], np.bool_)
    for row, column in zip(*np.divmod(frames, slide.grid[1]), strict=True):
        is_pale[slice(*rows[row]), slice(*columns[column])] = False
    overview[is_pale] += _PALE * (255 - overview[is_pale])
    free = [max(overview.shape[:2]) - side for side in overview.shape[:2]]
    margins = [(each // 2, each - each // 2) for each in free]  # as glass, not as night
    square = np.pad(overview, (*margins, (0, 0)), constant_values=255)
    return square.round().astype(np.uint8)
