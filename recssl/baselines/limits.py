"""What fitting a baseline takes, stated before it begins, so that no huge log is a surprise.

Memory is what stands beside the interactions at once. Time is a count of multiplications, divided
by what one core does of that kind in a second: right to a factor of a few.
"""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array

from recssl.baselines import ease
from recssl.baselines.types import Settings
from recssl.matrices import count_entries
from recssl.settings.evaluate import BaselineName, BaselinesConfig

PER_SECOND = {"item_knn": 8e6, "ease": 4e10, "ials": 4e9, "gf_cf": 1e9}
"""Of one core, as `benchmarks/rec_baseline_rates.py` measures it."""
_NEIGHBOUR = 24  # bytes of a kept neighbour: number and value, and once more to turn the matrix


def refusal(
    name: BaselineName, train: csr_array, tried: Sequence[Settings], wishes: BaselinesConfig
) -> str | None:
    """Say why a baseline is not fitted to this log, None if it is.

    Args:
        name: Which.
        train: What it would be fitted on, `[users, items]`.
        tried: The settings of all its fits, one after the other.
        wishes: Hold the limits.
    """
    if name == "popularity" or not tried:
        return None
    if name == "ease":
        reason = ease.refusal(train.shape[1], wishes.memory_gb)
        if reason:
            return reason
    needed = max(_gigabytes(name, train, settings) for settings in tried)
    if needed > wishes.memory_gb:
        return (
            f"{name} would take {needed:.3g} GB, which is more than {_named('memory_gb', wishes)}"
        )
    hours = sum(products(name, train, settings) for settings in tried) / PER_SECOND[name] / 3600
    if hours > wishes.hours:
        return (
            f"{name} would take about {hours:.3g} hours on one core for {len(tried)} fits, which is"
            f" more than {_named('hours', wishes)}"
        )
    return None


def products(name: BaselineName, train: csr_array, settings: Settings) -> float:
    """Return about how many multiplications fitting a baseline takes.

    Args:
        name: Which; popularity takes none that count.
        train: What it is fitted on, `[users, items]`.
        settings: Of the fit.
    """
    num_users, num_items = (float(side) for side in train.shape)
    match name:
        case "item_knn":
            return _pairs(train)
        case "ials":
            dim = float(settings["dim"])
            once = 2 * float(train.nnz) * dim**2 + (num_users + num_items) * dim**3 / 3
            return float(settings["epochs"]) * once
        case "gf_cf":  # about four times as many products as vectors, each made orthogonal
            vectors = min(2 * float(settings["rank"]) + 1, num_users, num_items)
            return 2 * vectors * (2 * float(train.nnz) + 2 * vectors * min(num_users, num_items))
        case _:
            return num_items**3


def _named(key: str, wishes: BaselinesConfig) -> str:
    return f"baselines.{key} {getattr(wishes, key):g}; raise it, or leave the baseline out"


def _gigabytes(name: BaselineName, train: csr_array, settings: Settings) -> float:
    num_users, num_items = (float(side) for side in train.shape)
    match name:
        case "item_knn":
            taken = min(_pairs(train), num_items * float(settings["neighbours"])) * _NEIGHBOUR
        case "ials":  # both sides, the one that is solved, and its gathered copy
            taken = 4 * float(settings["dim"]) * (num_users + num_items) * 2
        case "gf_cf":  # Lanczos vectors in float64, then the vectors of the items
            vectors = min(2 * float(settings["rank"]) + 1, num_users, num_items)
            taken = (
                8 * vectors * min(num_users, num_items) + 12 * float(settings["rank"]) * num_items
            )
        case _:
            taken = 4 * num_items**2
    return taken / 1e9


def _pairs(train: csr_array) -> float:
    """Return how many pairs of items of one user there are."""
    return float((count_entries(train).astype(np.float64) ** 2).sum())
