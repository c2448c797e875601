"""The settings of the baselines, chosen on the validation part."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, assert_never

from scipy.sparse import csr_array

from recssl.baselines import ease, gf_cf, ials, item_knn, popularity
from recssl.baselines.types import Settings
from recssl.measuring import Panel
from recssl.parts import Split
from recssl.retrieval import Scorer
from recssl.settings.evaluate import BaselineName, BaselinesConfig, EvaluateConfig

GRIDS: dict[BaselineName, list[Settings]] = {
    "popularity": [{}],
    "item_knn": [
        {"neighbours": neighbours, "shrink": shrink}
        for neighbours in (20, 100, 500)
        for shrink in (0.0, 10.0)
    ],
    "ease": [{"l2": l2} for l2 in (50.0, 200.0, 800.0)],
    "ials": [
        {"dim": 64, "epochs": 10, "unobserved_weight": weight, "l2": l2}
        for weight in (0.03, 0.1, 0.3)
        for l2 in (0.003, 0.01, 0.03)
    ],
    "gf_cf": [{"rank": 256, "ideal_weight": weight} for weight in (0.0, 0.1, 0.2, 0.3, 0.5)],
}
DEFAULTS: dict[BaselineName, Settings] = {
    "popularity": {},
    "item_knn": {"neighbours": 100, "shrink": 10.0},
    "ease": {"l2": 200.0},
    "ials": {"dim": 64, "epochs": 10, "unobserved_weight": 0.1, "l2": 0.01},
    "gf_cf": {"rank": 256, "ideal_weight": 0.3},
}


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen, and what it was chosen from.

    Attributes:
        settings: Arguments of the baseline's `fit`.
        metric: On the validation part, such as `ndcg@20`; None if nothing was tried.
        tried: Settings and metric of every trial, in the order of the grid.
    """

    settings: Settings
    metric: str | None
    tried: list[dict[str, Any]]


def fit_baseline(
    name: BaselineName, train: csr_array, settings: Settings, *, seed: int, memory_gb: float
) -> Scorer:
    """Fit one baseline.

    Args:
        name: Which.
        train: `[num_users, num_items]`, canonical.
        settings: Arguments of its `fit`, see `GRIDS`.
        seed: Of iALS and GF-CF; the others draw nothing.
        memory_gb: See `recssl.baselines.ease.fit`.

    Raises:
        ConfigError: A setting out of range, or EASE on too many items.
    """
    given: dict[str, Any] = dict(settings)
    match name:
        case "popularity":
            return popularity.fit(train)
        case "item_knn":
            return item_knn.fit(train, **given)
        case "ease":
            return ease.fit(train, memory_gb=memory_gb, **given)
        case "ials":
            return ials.fit(train, seed=seed, **given)
        case "gf_cf":
            return gf_cf.fit(train, seed=seed, **given)
        case _:
            assert_never(name)


def fits(name: BaselineName, wishes: BaselinesConfig) -> list[Settings]:
    """Return the settings of all fits that a choice and the fit after it take."""
    last = GRIDS[name][:1] if wishes.tune else [DEFAULTS[name]]
    return [*GRIDS[name], *last] if is_tuned(name, wishes) else last


def is_tuned(name: BaselineName, wishes: BaselinesConfig) -> bool:
    """Say whether there is something to choose."""
    return wishes.tune and len(GRIDS[name]) > 1


def choose(
    name: BaselineName, split: Split, config: EvaluateConfig, note: Callable[[str], None]
) -> Choice:
    """Fit every candidate on train and keep the best on the validation part.

    The test part is not looked at. Of equal candidates the first in the grid is kept; one that is
    alone, or no wish to tune, needs no trial.

    Args:
        name: Which baseline.
        split: Its parts train and valid are read.
        config: `config.baselines` says what is best.
        note: Told each candidate and what it reached.

    Raises:
        DatasetError: The validation part holds nothing to find.
    """
    wishes = config.baselines
    if not is_tuned(name, wishes):
        return Choice(DEFAULTS[name], None, [])
    metric = f"{wishes.select_by}@{wishes.select_at}"
    panel = Panel(split, _for_choice(config))
    tried: list[dict[str, Any]] = []
    for settings, scorer in _candidates(name, split.train, config):
        reached = panel.mean(scorer, metric, lambda _: None)
        note(f"{name} {_words(settings)}: {metric} {reached:.4f} on the validation part")
        tried.append({"settings": dict(settings), metric: reached})
    best = max(tried, key=lambda trial: trial[metric])
    return Choice(best["settings"], metric, tried)


def _candidates(
    name: BaselineName, train: csr_array, config: EvaluateConfig
) -> Iterator[tuple[Settings, Scorer]]:
    grid = GRIDS[name]
    if name == "gf_cf":  # its candidates differ in a weight only: one decomposition serves all
        scorer = gf_cf.fit(train, rank=int(grid[0]["rank"]), seed=config.seed)
        for settings in grid:
            yield settings, scorer.with_weight(float(settings["ideal_weight"]))
        return
    memory = config.baselines.memory_gb
    for settings in grid:
        yield (
            settings,
            fit_baseline(name, train, settings, seed=config.seed, memory_gb=memory),
        )


def _for_choice(config: EvaluateConfig) -> EvaluateConfig:
    """Return how candidates are measured: one rank, the validation part, no intervals."""
    wishes: BaselinesConfig = config.baselines
    return EvaluateConfig(
        part="valid",
        ks=(wishes.select_at,),
        max_users=wishes.tune_users,
        resamples=0,
        seed=config.seed,
    )


def _words(settings: Settings) -> str:
    return ", ".join(f"{key} {value:g}" for key, value in settings.items())
