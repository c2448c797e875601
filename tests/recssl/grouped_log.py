"""A log whose users like one group of items each, and settings to learn it quickly."""

from pathlib import Path
from typing import Any

import numpy as np

from recssl.dataset import Dataset
from recssl.settings.train import TrainConfig
from tests.recssl.logs import make_dataset

USERS, ITEMS, GROUPS = 40, 60, 4


def grouped_log(
    folder: Path, *, valid: bool = True, seed: int = 0, groups: int = GROUPS
) -> Dataset:
    """Users like the items whose number leaves the same rest, and nothing else."""
    rng = np.random.default_rng(seed)
    pairs = [
        (user, item)
        for user in range(USERS)
        for item in range(ITEMS)
        if user % groups == item % groups and rng.random() < 0.7
    ]
    rng.shuffle(pairs)
    whole = [(int(user), int(item)) for user, item in pairs]
    cut = len(whole) * 4 // 5
    held = whole[cut:]
    return make_dataset(folder, whole[:cut], held if valid else [], [], USERS, ITEMS)


def config(folder: Path, **changes: Any) -> TrainConfig:
    run = {"epochs": 4, "batch_size": 64, "device": "cpu", "patience": 0, "checkpoint_minutes": 0}
    tree: dict[str, Any] = {
        "data": {"path": folder, **changes.pop("data", {})},
        "encoder": {"name": "mf", "dim": 8, "start": "random"},
        "optim": {"learning_rate": 0.05},
        "run": run | changes.pop("run", {}),
    }
    return TrainConfig.model_validate(tree | changes)
