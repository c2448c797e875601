import logging
import pickle
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from torch import Tensor

from medssl.config import Window
from medssl.errors import DataError, IngestError
from medssl.loading import cache
from medssl.loading.cache import CanvasCache
from medssl.loading.dataset import CanvasDataset, DecodedBatch, iter_canvases
from medssl.loading.loader import build_loader
from medssl.loading.sampler import StepSampler
from medssl.manifest import Manifest


def folder(root: Path, count: int = 12, size: tuple[int, int] = (10, 10)) -> Manifest:
    """Write grey images whose first pixel is their number."""
    rows = []
    for number in range(count):
        values = np.full(size, number, np.uint8)
        Image.fromarray(values).save(root / f"{number}.png")
        rows.append((f"s{number}", f"{number}.png", "png", None, 0, *size, 1))
    return table(root, rows)


def table(root: Path, rows: list[tuple[object, ...]]) -> Manifest:
    columns = ("sample", "path", "kind", "member", "frame", "rows", "columns", "channels")
    return Manifest(pl.DataFrame(rows, schema=columns, orient="row"), root)


def archive(root: Path, values: np.ndarray) -> Manifest:
    np.savez(root / "x.npz", train_images=values)
    sides = values.shape[1:3]
    channels = 3 if values.ndim == 4 else 1
    return table(
        root,
        [
            (f"s{row}", "x.npz", "npz", "train_images", row, *sides, channels)
            for row in range(len(values))
        ],
    )


def numbers(batch: DecodedBatch) -> list[int]:
    """Read the images' numbers back from their first pixel."""
    first: Tensor = batch.pixels[:, 0, 0, 0].to(torch.float32) / 257
    return first.round().int().tolist()


def dataset(manifest: Manifest, **options: float) -> CanvasDataset:
    return CanvasDataset(manifest, canvas=10, channels=1, **options)


def sampler(count: int = 12, batch: int = 4, last_step: int = 3, **options: int) -> StepSampler:
    return StepSampler(count, batch, seed=7, last_step=last_step, **options)


# Reading


def test_rows_come_in_the_order_asked_for(tmp_path: Path) -> None:
    batch = dataset(folder(tmp_path)).read_batch(torch.tensor([5, 0, 11]), epoch=4)
    assert numbers(batch) == [5, 0, 11]
    assert batch.index.tolist() == [5, 0, 11]
    assert batch.epoch == 4
    assert batch.pixels.dtype == torch.uint16


def test_archives_are_read_exactly(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (5, 10, 10), dtype=np.uint8)
    data = dataset(archive(tmp_path, values))
    assert data.is_array
    batch = data.read_batch(torch.arange(5))
    assert np.array_equal(batch.pixels[:, 0].numpy(), values.astype(np.uint16) * 257)


def test_colour_archives_give_three_channels(tmp_path: Path) -> None:
    values = np.zeros((2, 6, 6, 3), np.uint8)
    values[..., 2] = 255
    data = CanvasDataset(
        archive(tmp_path, values), canvas=6, channels=3, window=Window.AUTO, cache_gb=0
    )
    assert data[1][:, 0, 0].tolist() == [0, 0, 65535]


def test_what_is_in_the_cache_is_decoded_once(tmp_path: Path) -> None:
    data = dataset(folder(tmp_path), cache_gb=6 * 200 / 1e9)
    everything = torch.arange(12)
    data.read_batch(everything)
    for file in tmp_path.iterdir():
        file.unlink()
    assert numbers(data.read_batch(torch.arange(6))) == list(range(6))
    with pytest.raises(IngestError):
        data[6]


def test_without_a_cache_all_is_read_again(tmp_path: Path) -> None:
    data = dataset(folder(tmp_path), cache_gb=0)
    assert numbers(data.read_batch(torch.arange(12))) == list(range(12))
    assert numbers(data.read_batch(torch.arange(12))) == list(range(12))


def test_canvases_in_order_end_with_a_short_batch(tmp_path: Path) -> None:
    batches = list(iter_canvases(dataset(folder(tmp_path)), 5))
    assert [len(batch.index) for batch in batches] == [5, 5, 2]
    assert [number for batch in batches for number in numbers(batch)] == list(range(12))


def test_a_data_set_can_be_sent_to_another_process(tmp_path: Path) -> None:
    data = dataset(archive(tmp_path, np.full((3, 10, 10), 9, np.uint8)))
    assert numbers(data.read_batch(torch.arange(3))) == [9, 9, 9]
    assert numbers(pickle.loads(pickle.dumps(data)).read_batch(torch.arange(3))) == [9, 9, 9]


# Files that went away after the scan


def test_an_unreadable_file_costs_its_own_row_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = dataset(folder(tmp_path))
    (tmp_path / "3.png").write_bytes(b"not an image any more")
    (tmp_path / "7.png").unlink()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            batch = data.read_batch(torch.arange(12))
            assert batch.index.tolist() == numbers(batch) == [0, 1, 2, 4, 5, 6, 8, 9, 10, 11]
    assert data.unreadable == ("s3", "s7")
    assert len(caplog.messages) == 2  # once each, by sample, without the path
    assert caplog.messages[0].startswith("sample s3 left out")
    assert "png" not in caplog.text


def test_a_folder_that_is_gone_ends_the_run(tmp_path: Path) -> None:
    data = dataset(folder(tmp_path))
    for number in range(7):
        (tmp_path / f"{number}.png").unlink()
    with pytest.raises(DataError, match=r"7 of the 12 images .* still there"):
        data.read_batch(torch.arange(12))


def test_one_last_unreadable_file_does_not_end_reading(tmp_path: Path) -> None:
    data = dataset(folder(tmp_path, count=5))
    (tmp_path / "4.png").unlink()
    assert [numbers(batch) for batch in iter_canvases(data, 2)] == [[0, 1], [2, 3]]


def test_processes_that_train_together_miss_nothing(tmp_path: Path) -> None:
    data = dataset(folder(tmp_path))
    (tmp_path / "3.png").unlink()
    loader = build_loader(data, sampler(world=2, rank=0, batch=12, last_step=2), workers=0)
    other = build_loader(data, sampler(world=2, rank=1, batch=12, last_step=2), workers=0)
    with pytest.raises(DataError, match="1 of the 6 images"):
        list(loader) + list(other)


# The loader


@pytest.mark.parametrize("workers", [0, 1])
def test_the_loader_yields_the_batches_of_the_sampler(workers: int, tmp_path: Path) -> None:
    data, plan = dataset(folder(tmp_path)), sampler(last_step=5)
    batches = list(build_loader(data, plan, workers=workers))
    assert [numbers(batch) for batch in batches] == [step.rows for step in plan]
    assert [batch.epoch for batch in batches] == [0, 0, 0, 1, 1]


def test_what_a_worker_decoded_the_main_process_has(tmp_path: Path) -> None:
    data = dataset(folder(tmp_path))
    (tmp_path / "2.png").unlink()
    assert numbers(data.read_batch(torch.arange(2))) == [0, 1]
    list(build_loader(data, sampler(), workers=1))
    for file in tmp_path.iterdir():
        file.unlink()
    assert numbers(data.read_batch(torch.arange(12))) == [0, 1, *range(3, 12)]
    assert data.unreadable == ("s2",)


def test_by_default_arrays_are_read_without_workers(tmp_path: Path) -> None:
    values = np.zeros((12, 10, 10), np.uint8)
    assert build_loader(dataset(archive(tmp_path, values)), sampler()).num_workers == 0
    assert build_loader(dataset(folder(tmp_path)), sampler()).num_workers >= 1


def test_little_shared_memory_means_a_smaller_cache(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr(cache, "_SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(cache, "_SHARED_PART", 0.0)
    small = CanvasCache(4, (1, 8, 8), 1.0)
    small.put(1, torch.ones(1, 8, 8, dtype=torch.uint16))
    assert small.get(1) is not None
    small.share()
    assert small.get(1) is None
    assert "0 of 4 images stay in memory" in caplog.text
