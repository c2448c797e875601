"""Batches to learn from, read ahead by processes of their own."""

from typing import cast

import torch
from torch.utils.data import DataLoader, Dataset

from medssl.loading.dataset import CanvasDataset, DecodedBatch
from medssl.loading.sampler import Step, StepSampler
from sslcore.cores import usable_cores


class _StepReader(Dataset[DecodedBatch]):
    """Reads the batch of one step; runs in the worker processes."""

    def __init__(self, dataset: CanvasDataset, *, complete: bool) -> None:
        self._dataset = dataset
        self._complete = complete

    def __getitem__(self, step: Step) -> DecodedBatch:
        rows = torch.tensor(step.rows)
        return self._dataset.read_batch(rows, step.epoch, complete=self._complete, learns=True)


def build_loader(
    dataset: CanvasDataset,
    sampler: StepSampler,
    *,
    workers: int | None = None,
    pin_memory: bool = False,
) -> DataLoader[DecodedBatch]:
    """Read the batches of `sampler`, one `DecodedBatch` per step, ahead of the training.

    Args:
        dataset: What to read from.
        sampler: Which rows, in which order.
        workers: Reading processes; by default none for arrays, else one per core less one.
        pin_memory: For a device that copies faster from pinned memory.
    """
    if workers is None:
        workers = 0 if dataset.is_array else max(1, min(8, usable_cores() - 1))
    if workers:
        dataset.share_cache()
    return DataLoader(
        _StepReader(dataset, complete=sampler.world > 1),
        batch_size=None,
        sampler=cast("torch.utils.data.Sampler[Step]", sampler),
        num_workers=workers,
        pin_memory=pin_memory,
        prefetch_factor=4 if workers else None,
    )
