"""What one core does in a second of what `recssl.baselines.limits` counts, to state times by.

Run: OMP_NUM_THREADS=1 python benchmarks/rec_baseline_rates.py

Gowalla as LightGCN's tables have it; EASE and GF-CF also with its most popular items alone, to show
how far the count of multiplications tells the time of another size. Processor time, of one fit
each with the default settings (iALS with a tenth of its epochs).
"""

import time
from typing import Any

import numpy as np
import torch
from lightgcn_split import read_split
from record import keep
from scipy.sparse import csr_array

from recssl.baselines import limits
from recssl.baselines.tuning import DEFAULTS, fit_baseline
from recssl.matrices import count_users
from recssl.settings.evaluate import BaselineName

_MEMORY_GB = 8.0
_POPULAR: dict[BaselineName, tuple[int | None, ...]] = {  # None for all items
    "item_knn": (None,),
    "ease": (3000, 6000),
    "ials": (None,),
    "gf_cf": (6000, None),
}


def main() -> None:
    """Measure all that takes time, and print what is assumed beside it."""
    torch.set_num_threads(1)
    train = read_split("rec_gowalla").train
    rows = [
        measure(name, _only_popular(train, items))
        for name, sizes in _POPULAR.items()
        for items in sizes
    ]
    keep("rec_baseline_rates", {"data": "rec_gowalla", "threads": 1, "fits": rows})


def measure(name: BaselineName, train: csr_array) -> dict[str, Any]:
    """Fit once, and return how many multiplications that was in a second."""
    settings = dict(DEFAULTS[name])
    if name == "ials":
        settings["epochs"] = max(1, int(settings["epochs"]) // 10)
    began = time.process_time()
    fit_baseline(name, train, settings, seed=0, memory_gb=_MEMORY_GB)
    seconds = time.process_time() - began
    return {
        "baseline": name,
        "shape": list(train.shape),
        "interactions": train.nnz,
        "settings": settings,
        "processor_seconds": round(seconds, 2),
        "per_second": float(f"{limits.products(name, train, settings) / seconds:.2g}"),
        "assumed": limits.PER_SECOND[name],
    }


def _only_popular(train: csr_array, count: int | None) -> csr_array:
    if count is None:
        return train
    popular = np.sort(np.argsort(-count_users(train), kind="stable")[:count])
    chosen = csr_array(train.tocsc()[:, popular])
    chosen.sort_indices()
    return chosen


if __name__ == "__main__":
    main()
