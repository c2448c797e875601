"""Tiles per second from a slide, beside OpenSlide's `read_region` alone, if it is installed.

Run: OMP_NUM_THREADS=1 python benchmarks/slides.py

Tiles of 256 px of the whole grid of Aperio's CMU-1-Small-Region, JPEG in tiles of 240 px, by one
thread. In order, with the slide just opened: neighbours share decoded tiles, of which both keep 32
MB. Mixed, as training asks for them on slides that are larger than any cache: nothing is kept. Both
read the same regions; OpenSlide's are neither resized nor checked. The difference of both, where
the grids agree, is told in grey levels. openslide-python is LGPL and no dependency of this project.
"""

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from record import data_folder, keep

import medssl.sources.slide_pyramid as slide_reader
from medssl.sources.cut import Cut, TileWishes
from medssl.sources.slide import open_slide
from medssl.sources.slide_tissue import find_tissue, tissue_tiles

try:
    import openslide
except ImportError:
    openslide = None

_ROUNDS = 5


def rate(opened: Callable[[], Callable[[int], object]], frames: NDArray[np.int64]) -> float:
    """Return the best frames per second of several rounds, by processor time, each opened anew."""
    best = 0.0
    for _ in range(_ROUNDS):
        read = opened()
        start = time.process_time()
        for frame in frames:
            read(int(frame))
        best = max(best, len(frames) / (time.process_time() - start))
    return round(best, 1)


def ours(path: Path, cut: Cut) -> dict[str, Any]:
    """Measure the reader, and what a scan does with a slide."""
    with ExitStack() as stack:

        def opened(cache: int = slide_reader.NEAR_BYTES) -> Callable[[int], object]:
            slide_reader.NEAR_BYTES = cache
            return stack.enter_context(open_slide(path, cut)).decode

        slide = stack.enter_context(open_slide(path, cut))
        frames = np.arange(slide.facts.frames)
        mixed = np.random.default_rng(0).permutation(frames)
        found = {
            "tiles": len(frames),
            "in_order": rate(opened, frames),
            "mixed": rate(lambda: opened(0), mixed),
        }
        opened()
        start = time.process_time()
        find_tissue(slide)
        tissue = time.process_time() - start
        start = time.process_time()
        kept = sum(1 for _ in map(slide.decode, tissue_tiles(slide, TileWishes(cut)).frames))
        scanned = time.process_time() - start
    rest = {"tissue_ms": round(1000 * tissue), "kept": kept}
    return {**found, **rest, "kept_per_s_in_a_scan": round(kept / scanned, 1)}


def theirs(path: Path, cut: Cut) -> dict[str, Any] | None:
    """Measure OpenSlide on the same regions."""
    if openslide is None:
        return None
    with open_slide(path, cut) as slide:
        side, grid, step = round(slide.step), slide.grid, slide.step
        frames = np.arange(slide.facts.frames)

        def opened(cache: int | None = None) -> Callable[[int], NDArray[np.uint8]]:
            other = openslide.OpenSlide(path)
            if cache is not None:
                other.set_cache(openslide.OpenSlideCache(cache))

            def read(frame: int) -> NDArray[np.uint8]:
                row, column = divmod(frame, grid[1])
                place = round(column * step), round(row * step)
                return np.asarray(other.read_region(place, 0, (side, side)))[..., :3]

            return read

        read = opened()
        differences = [
            np.abs(read(frame).astype(int)[: cut.px, : cut.px] - slide.decode(frame).values).mean()
            for frame in frames.tolist()
        ]
    mixed = np.random.default_rng(0).permutation(frames)
    return {
        "version": f"{openslide.__version__}, library {openslide.__library_version__}",
        "in_order": rate(opened, frames),
        "mixed": rate(lambda: opened(0), mixed),
        "mean_difference_of_tiles": round(float(np.mean(differences)), 2),
    }


def main() -> None:
    """Measure both."""
    path = data_folder("wsi_small") / "CMU-1-Small-Region.svs"
    found: dict[str, Any] = {}
    for name, mpp in (("as stored, 0.499 um", 0.499), ("resized, 0.5 um", 0.5), ("1 um", 1.0)):
        found[name] = {"here": ours(path, Cut(256, mpp))}
        if mpp < 1:
            found[name]["openslide"] = theirs(path, Cut(256, mpp))
    keep(
        "slides",
        {
            "slide": path.name,
            "threads": os.environ.get("OMP_NUM_THREADS", "all"),
            "clock": "processor time, best of rounds",
            "cuts": found,
        },
    )


if __name__ == "__main__":
    main()
