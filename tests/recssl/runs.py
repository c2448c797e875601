"""Finished runs for the tests of what comes after training, without training."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recssl.dataset import Dataset, write_dataset
from recssl.matrices import normalised
from recssl.run_folder import Embeddings, EmbeddingsInfo, RunFolder
from recssl.settings.train import TrainConfig
from tests.recssl.logs import Pairs, make_dataset

USERS, ITEMS, GROUPS, DIM = 48, 40, 4, 6


def grouped_pairs(seed: int = 0, *, share: float = 0.9) -> Pairs:
    """Users like items whose number leaves the same rest; the last item is nobody's."""
    rng = np.random.default_rng(seed)
    return [
        (user, item)
        for user in range(USERS)
        for item in range(ITEMS - 1)
        if user % GROUPS == item % GROUPS and rng.random() < share
    ]


def grouped_dataset(folder: Path, **ids: Any) -> Dataset:
    """Write a log of `grouped_pairs`: a part of them train, the others valid and test."""
    pairs = grouped_pairs()
    cuts = len(pairs) * 3 // 5, len(pairs) * 4 // 5
    order = np.random.default_rng(1).permutation(len(pairs))
    train, valid, test = ([pairs[at] for at in sorted(part)] for part in np.split(order, cuts))
    return make_dataset(folder, train, valid, test, USERS, ITEMS, **ids)


def with_features(dataset: Dataset, folder: Path) -> Dataset:
    """Write the data set again, each item with the text `kind` that names its group."""
    kinds = [f"kind{number % GROUPS} thing" for number in range(dataset.num_items)]
    sizes = [float(number % 7) if number % 5 else None for number in range(dataset.num_items)]
    items = dataset.items.with_columns(pl.Series("kind", kinds), pl.Series("size", sizes))
    return write_dataset(folder, dataset.interactions.collect(), dataset.users, items)


def propagated_embeddings(dataset: Dataset, seed: int = 0) -> tuple[NDArray[np.float32], ...]:
    """Return users and items as a run with a readout of one layer leaves them."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(GROUPS, DIM))
    sides = [
        (centres[np.arange(count) % GROUPS] + 0.1 * rng.normal(size=(count, DIM)))
        for count in (dataset.num_users, dataset.num_items)
    ]
    matrix = normalised(dataset.train)
    users, items = sides
    return (
        (users + matrix @ items).astype(np.float32),
        (items + matrix.T @ users).astype(np.float32),
    )


def make_run(
    folder: Path,
    dataset: Dataset,
    embeddings: tuple[NDArray[np.float32], ...] | None = None,
    *,
    fingerprint: str | None = None,
    **config: Any,
) -> Path:
    """Write the folder of a run with the given embeddings, or those of its groups."""
    users, items = embeddings or propagated_embeddings(dataset)
    run = RunFolder(folder)
    folder.mkdir()
    tree = {"data": {"path": dataset.folder, **config.pop("data", {})}, **config}
    run.write_config(TrainConfig.model_validate(tree))
    info = EmbeddingsInfo(
        fingerprint=fingerprint or dataset.fingerprint,
        data=str(dataset.folder.resolve()),
        method="mf+sampled_softmax",
        dim=users.shape[1],
        step=7,
    )
    run.write_embeddings(Embeddings(users, items, info))
    return folder
