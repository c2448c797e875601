import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from medssl.intensity import Window
from medssl.loading import canvas
from medssl.loading.canvas import CanvasReader, choose_canvas, choose_channels, to_canvas
from medssl.manifest import Manifest
from medssl.manifest_paths import encode_path
from medssl.sources.npz import NpzImages, open_npz


def table(root: Path, rows: list[tuple[object, ...]]) -> Manifest:
    columns = ("sample", "path", "kind", "member", "frame", "rows", "columns", "channels")
    return Manifest(pl.DataFrame(rows, schema=columns, orient="row"), root)


def test_the_aspect_is_kept_and_borders_are_repeated() -> None:
    display = np.zeros((1, 4, 8), np.float32)
    display[:, 0] = 0.25
    display[:, -1] = 0.75
    canvas = to_canvas(display, 8, 1).to(torch.float32)[0] / 65535
    assert canvas[:3].flatten().tolist() == pytest.approx([0.25] * 24, abs=1e-4)
    assert canvas[3:5].flatten().tolist() == [0] * 16
    assert canvas[5:].flatten().tolist() == pytest.approx([0.75] * 24, abs=1e-4)


def test_sixteen_bit_survive() -> None:
    display = (np.arange(64, dtype=np.float32) / 65535).reshape(1, 8, 8)
    assert to_canvas(display, 8, 1).flatten().tolist() == list(range(64))


def test_shrinking_averages() -> None:
    checkers = np.indices((64, 64)).sum(axis=0) % 2
    canvas = to_canvas(checkers[None].astype(np.float32), 8, 1).to(torch.float32) / 65535
    assert canvas[:, 1:-1, 1:-1].flatten().tolist() == pytest.approx([0.5] * 36, abs=0.02)


def test_colour_becomes_grey_by_luma_and_grey_is_repeated() -> None:
    green = np.zeros((3, 4, 4), np.float32)
    green[1] = 1
    assert to_canvas(green, 4, 1)[0, 0, 0] == round(0.587 * 65535)
    assert to_canvas(green[1:2], 4, 3)[:, 0, 0].tolist() == [65535] * 3


@pytest.mark.parametrize("size", [(1, 9), (9, 1), (1, 1), (3, 200)])
def test_extreme_shapes_become_canvases(size: tuple[int, int]) -> None:
    canvas = to_canvas(np.ones((1, *size), np.float32), 8, 1)
    assert canvas.flatten().tolist() == [65535] * 64


@pytest.mark.parametrize(
    ("sides", "image_size", "canvas"),
    [((28, 28), 28, 28), ((512, 400), 64, 74), ((30, 40), 64, 40), ((28, 28), 64, 28)],
)
def test_the_canvas_is_somewhat_larger_than_the_view_but_never_than_the_images(
    sides: tuple[int, int], image_size: int, canvas: int, tmp_path: Path
) -> None:
    manifest = table(
        tmp_path, [("a", "a", "png", None, 0, 8, 8, 1), ("b", "b", "png", None, 0, *sides, 1)]
    )
    assert choose_canvas(manifest, image_size) == canvas


def test_one_image_in_colour_makes_all_three_channels(tmp_path: Path) -> None:
    grey = ("a", "a", "png", None, 0, 8, 8, 1)
    assert choose_channels(table(tmp_path, [grey])) == 1
    assert choose_channels(table(tmp_path, [grey, ("b", "b", "png", None, 0, 8, 8, 3)])) == 3


def test_a_name_that_is_not_utf_8_is_found_again(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(tmp_path / name)
    manifest = table(tmp_path, [("s", encode_path(name), "png", None, 0, 8, 8, 1)])
    reader = CanvasReader(manifest, canvas=8, channels=1, window=Window.AUTO)
    assert reader.read(0).flatten().tolist() == [65535] * 64


def test_threads_load_an_array_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "x.npz", images=np.zeros((8, 4, 4), np.uint8))
    rows = [(f"s{row}", "x.npz", "npz", "images", row, 4, 4, 1) for row in range(8)]
    reader = CanvasReader(table(tmp_path, rows), canvas=8, channels=1, window=Window.AUTO)
    opened = []

    @contextmanager
    def open_slowly(path: Path, member: str) -> Iterator[NpzImages]:
        opened.append(path)
        time.sleep(0.05)
        with open_npz(path, member) as images:
            yield images

    monkeypatch.setattr(canvas, "open_npz", open_slowly)
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(reader.read, range(8)))) == 8
    assert len(opened) == 1
