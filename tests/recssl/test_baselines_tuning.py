"""Settings are chosen on the validation part and on nothing else."""

import re
from typing import get_args

import numpy as np
import pytest
from scipy.sparse import csr_array

from recssl.baselines import tuning
from recssl.baselines.limits import refusal
from recssl.baselines.tuning import DEFAULTS, GRIDS, choose, fit_baseline, fits
from recssl.errors import DatasetError
from recssl.measuring import Panel
from recssl.parts import Parts
from recssl.settings.evaluate import BaselineName, BaselinesConfig, EvaluateConfig
from tests.recssl.ranking_by_hand import matrix, random_pairs

SMALL: dict[str, list[dict[str, float | int]]] = {
    "popularity": [{}],
    "item_knn": [{"neighbours": 1, "shrink": 0.0}, {"neighbours": 5, "shrink": 5.0}],
    "ease": [{"l2": 1.0}, {"l2": 50.0}],
    "ials": [
        {"dim": 2, "epochs": 2, "unobserved_weight": weight, "l2": 0.01} for weight in (0.1, 1.0)
    ],
    "gf_cf": [{"rank": 3, "ideal_weight": weight} for weight in (0.0, 1.0)],
}


def split(seed: int = 0, *, users: int = 30, items: int = 15) -> Parts:
    rng = np.random.default_rng(seed)
    pairs = sorted(random_pairs(rng, users, items, 0.5))
    part = rng.integers(4, size=len(pairs))
    chosen = [{pair for pair, where in zip(pairs, part, strict=True) if where in kept}
              for kept in ((0, 1), (2,), (3,))]  # fmt: skip
    return Parts(*(matrix(some, users, items) for some in chosen))


def config(**baselines: object) -> EvaluateConfig:
    given = {"select_at": 5, **baselines}
    return EvaluateConfig(baselines=BaselinesConfig.model_validate(given))


@pytest.mark.parametrize("name", ["item_knn", "ease", "ials", "gf_cf"])
def test_the_best_of_the_grid_on_the_validation_part_is_chosen(
    name: BaselineName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "GRIDS", SMALL)
    parts, notes = split(), list[str]()
    choice = choose(name, parts, config(), notes.append)
    panel = Panel(parts, EvaluateConfig(part="valid", ks=(5,), resamples=0))
    reached = []
    for settings in SMALL[name]:
        scorer = fit_baseline(name, parts.train, settings, seed=0, memory_gb=1)
        reached.append(panel.mean(scorer, "ndcg@5", lambda _: None))
    assert [trial["ndcg@5"] for trial in choice.tried] == pytest.approx(reached)
    assert choice.settings == SMALL[name][int(np.argmax(reached))]
    assert choice.metric == "ndcg@5"
    assert len(notes) == 2
    assert name in notes[0]


def test_the_choice_does_not_change_with_the_test_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "GRIDS", SMALL)
    parts = split()
    other = parts._replace(test=split(9).test)
    first, second = (choose("ease", some, config(), lambda _: None) for some in (parts, other))
    assert first == second


@pytest.mark.parametrize(("name", "tune"), [("popularity", True), ("ials", False)])
def test_nothing_is_tried_where_there_is_no_choice(name: BaselineName, tune: bool) -> None:
    choice = choose(name, split(), config(tune=tune), lambda _: None)
    assert (choice.settings, choice.metric, choice.tried) == (DEFAULTS[name], None, [])


def test_without_validation_interactions_nothing_is_chosen() -> None:
    parts = split()
    empty = parts._replace(valid=matrix(set(), 30, 15))
    with pytest.raises(DatasetError, match="part valid"):
        choose("ease", empty, config(), lambda _: None)


def test_every_baseline_has_a_grid_and_its_defaults_fit() -> None:
    names = get_args(BaselineName)
    assert set(names) == set(GRIDS) == set(DEFAULTS)
    parts = split()
    for name in names:
        for settings in (DEFAULTS[name], GRIDS[name][0], GRIDS[name][-1]):
            scorer = fit_baseline(name, parts.train, settings, seed=0, memory_gb=1)
            assert scorer.scores(np.array([3, 0])).shape == (2, 15)


WIDE = csr_array(
    (np.ones(4_000_000, np.float32), np.tile(np.arange(40), 100_000), np.arange(0, 4_000_001, 40)),
    shape=(100_000, 30_000_000),
)


@pytest.mark.parametrize("name", ["item_knn", "ease", "ials", "gf_cf"])
def test_what_would_not_fit_is_refused_with_what_it_takes_and_the_setting(
    name: BaselineName,
) -> None:
    wishes = BaselinesConfig()
    small = split().train
    assert refusal(name, small, fits(name, wishes), wishes) is None
    tight = BaselinesConfig(memory_gb=0.01)
    assert re.search(r" GB.*baselines\.memory_gb 0\.01", refusal_of(name, WIDE, tight))
    hasty = BaselinesConfig(memory_gb=1e9, hours=1e-5)
    text = refusal_of(name, WIDE, hasty)
    assert re.search(r"hours on one core for \d+ fits.*baselines\.hours 1e-05", text)


def refusal_of(name: BaselineName, train: csr_array, wishes: BaselinesConfig) -> str:
    reason = refusal(name, train, fits(name, wishes), wishes)
    assert reason is not None
    return reason


def test_popularity_is_never_refused() -> None:
    wishes = BaselinesConfig(memory_gb=1e-9, hours=1e-9)
    assert refusal("popularity", WIDE, fits("popularity", wishes), wishes) is None


def test_without_a_choice_there_is_one_fit() -> None:
    assert fits("ials", BaselinesConfig(tune=False)) == [DEFAULTS["ials"]]
    assert len(fits("ials", BaselinesConfig())) == len(GRIDS["ials"]) + 1
