"""Prove metrics and data by GF-CF's published numbers, then tune all baselines and measure them.

Run: python benchmarks/rec_baselines.py [--exact] [gowalla] [yelp2018] [amazon_book_kgat]

The exact part fits GF-CF with the settings of its paper on all of train, and ends with status 1
if Recall@20 and NDCG@20 differ from the published ones in the fourth digit. It decides nothing
else. The rest (not with --exact) chooses settings on a validation part cut from train, 10 % per
user, fits again on all of train, and looks at test once.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

from lightgcn_split import cut_validation, read_split
from record import keep

from recssl.baselines import gf_cf
from recssl.evaluate import evaluate_scorer
from recssl.measuring import Panel
from recssl.parts import Parts
from recssl.settings.evaluate import BaselinesConfig, EvaluateConfig
from sslcore.console import Progress

PUBLISHED = {"gowalla": (0.1849, 0.1518), "yelp2018": (0.0697, 0.0571)}
NAMES = ("recall@20", "ndcg@20")
SHARE = 0.1
SEED = 0


def main() -> int:
    """Measure the data sets named on the command line, or all; return 1 if GF-CF disagrees."""
    names = [name for name in sys.argv[1:] if name != "--exact"]
    agrees = True
    for name in names or ["gowalla", "yelp2018", "amazon_book_kgat"]:
        full = read_split(f"rec_{name}")
        result: dict[str, Any] = {"data": f"rec_{name}"}
        if name in PUBLISHED:
            result["gf_cf_exact"] = exact(full, PUBLISHED[name])
            agrees &= result["gf_cf_exact"]["agrees"]
        if "--exact" not in sys.argv:
            result["tuned"] = tuned(full)
        keep(f"rec_baselines_{name}{'_exact' if '--exact' in sys.argv else ''}", result)
    return 0 if agrees else 1


def exact(full: Parts, published: tuple[float, float]) -> dict[str, Any]:
    """Compare GF-CF of the paper's settings with the published numbers."""
    scorer, fit = _timed(lambda: gf_cf.fit(full.train))
    panel = Panel(full, EvaluateConfig(ks=(20,), resamples=0))
    found, rank = _timed(lambda: panel.measure(scorer, lambda _: None))
    values = dict(zip(panel.metrics, found.per_user.mean(0).tolist(), strict=True))
    reached = [round(values[name], 6) for name in NAMES]
    return {
        "metrics": dict(zip(NAMES, reached, strict=True)),
        "published": dict(zip(NAMES, published, strict=True)),
        "agrees": [round(value, 4) for value in reached] == list(published),
        "fit": fit,
        "rank": rank,
    }


def tuned(full: Parts) -> dict[str, Any]:
    """Choose on a validation part, fit on all of train, measure."""
    config = EvaluateConfig(
        ks=(10, 20, 50),
        seed=SEED,
        baselines=BaselinesConfig(refit_on="train+valid", memory_gb=3.0),
    )
    parts = cut_validation(full, share=SHARE, seed=SEED)
    with Progress("baselines", unit="users") as progress:
        return evaluate_scorer(None, parts, config, progress)


def _timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """Return a result, and the seconds it took: by the clock, and of processors."""
    wall, processor = time.perf_counter(), time.process_time()
    result = work()
    return result, {
        "seconds": round(time.perf_counter() - wall, 1),
        "processor_seconds": round(time.process_time() - processor, 1),
    }


if __name__ == "__main__":
    sys.exit(main())
