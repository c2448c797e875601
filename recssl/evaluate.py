"""Measure a run beside baselines that were tuned as carefully, on the same users.

RUN/metrics.json holds

    format            1
    data              fingerprint, folder and counts of the data set
    protocol          see `recssl.measuring.Panel.describe`
    models            one per method: `name`, `settings`, how they were chosen, `new_users` (how
                      users without a learnt interaction were scored; null without any), and
                      `recssl.measuring.Panel.result`; the run comes first
    comparisons       paired differences of the first model to every other
    left_out          baselines that were not fitted, and why
    config            the resolved configuration
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from recssl.baselines import limits
from recssl.baselines.tuning import choose, fit_baseline, fits
from recssl.fold_in import FoldInScorer
from recssl.measuring import Measured, Panel
from recssl.parts import Split, learnt_of
from recssl.retrieval import EmbeddingScorer, Scorer
from recssl.settings.evaluate import BaselineName, EvaluateConfig
from recssl.settings.train import TrainConfig
from recssl.trained_run import TrainedRun, open_run
from sslcore.console import Progress
from sslcore.errors import ConfigError
from sslcore.files import write_text

RUN_NAME = "run"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    facts: dict[str, Any]  # how it was made
    found: Measured


def evaluate(run: Path, config: EvaluateConfig, progress: Progress) -> dict[str, Any]:
    """Measure the embeddings of a run and write RUN/metrics.json, or RUN/metrics_valid.json.

    Args:
        run: Folder that `recssl train` wrote.
        config: What to measure.
        progress: Told the users ranked.

    Returns:
        The content of metrics.json.

    Raises:
        CheckpointError: The run holds no embeddings, or damaged ones.
        ConfigError: Its configuration is missing or damaged, or it learnt from the part.
        DatasetError: The data set is gone, another one, or holds nothing to measure.
        OutputError: metrics.json cannot be written; an old one stays.
    """
    opened = open_run(run, config.data)
    dataset, info = opened.dataset, opened.embeddings.info
    result = evaluate_scorer(
        _scorer(opened, config),
        dataset,
        _as_trained(config, opened.config, run),
        progress,
        name=RUN_NAME,
        about={"method": info.method, "dim": info.dim, "step": info.step},
        reads_features=opened.reads_features("user"),
    )
    result["data"] = {"fingerprint": dataset.fingerprint, "folder": str(dataset.folder)} | result[
        "data"
    ]
    path = metrics_path(run, config)
    write_text(path, json.dumps(result, indent=1, allow_nan=False) + "\n")
    return result


def metrics_path(run: Path, config: EvaluateConfig) -> Path:
    """Return where metrics of a part are written: metrics.json is of the test part alone."""
    return run / ("metrics.json" if config.part == "test" else f"metrics_{config.part}.json")


def evaluate_scorer(
    scorer: Scorer | None,
    split: Split,
    config: EvaluateConfig,
    progress: Progress,
    *,
    name: str = RUN_NAME,
    about: Mapping[str, Any] | None = None,
    reads_features: bool = False,
) -> dict[str, Any]:
    """Measure a scorer beside the baselines, without a run.

    Args:
        scorer: Of the users and items of `split`; None for the baselines alone.
        split: A data set, or its parts.
        config: `data` is not looked at.
        progress: Told the users ranked, and the choices on the validation part.
        name: Of the scorer, in the result.
        about: What to write down about it.
        reads_features: Whether it knows users without a training interaction.

    Returns:
        The content of metrics.json, without where the data set is.

    Raises:
        DatasetError: No user has an interaction to find in the part, or, for tuning, in valid; or
            nothing is known of any of them.
    """
    panel = Panel(split, config, knows_everybody=reads_features)
    entries: list[_Entry] = []
    if scorer is not None:
        found, seconds = _measured(panel, scorer, progress, name)
        facts = {"settings": {}, **(about or {}), "new_users": panel.how_new_users(scorer)}
        facts["rank_seconds"] = seconds
        entries.append(_Entry(name, facts, found))
    left_out = []
    for baseline in config.baselines.names:
        reason = _refusal(baseline, split, config)
        if reason:
            progress.note(f"left out: {reason}")
            left_out.append({"name": baseline, "reason": reason})
        else:
            entries.append(_baseline(baseline, split, config, panel, progress))
    return {
        "format": _FORMAT,
        "data": _counts(split),
        "protocol": panel.describe(),
        "models": [
            {"name": entry.name, **entry.facts, **panel.result(entry.found)} for entry in entries
        ],
        "comparisons": _comparisons(panel, entries),
        "left_out": left_out,
        "config": config.model_dump(mode="json"),
    }


def _scorer(opened: TrainedRun, config: EvaluateConfig) -> Scorer:
    users, items = opened.embeddings.users, opened.embeddings.items
    if opened.reads_features("user"):
        return EmbeddingScorer(users, items)
    prepare = partial(opened.fold_in_users, config.fold_in)
    return FoldInScorer(users, items, opened.learnt, prepare)


def _as_trained(config: EvaluateConfig, trained: TrainConfig, run: Path) -> EvaluateConfig:
    """Let the baselines learn from what the run learnt from, unless something else is asked for.

    Raises:
        ConfigError: The run learnt from the part that is to be measured.
    """
    learn_from = trained.data.learn_from
    if config.part == "valid" and learn_from == "train+valid":
        raise ConfigError(
            f"part valid: {run} learnt from it (data.learn_from train+valid); take part=test, or"
            " train with data.learn_from=train"
        )
    refit_on = config.baselines.refit_on or learn_from
    baselines = config.baselines.model_copy(update={"refit_on": refit_on})
    return config.model_copy(update={"baselines": baselines})


def _refusal(name: BaselineName, split: Split, config: EvaluateConfig) -> str | None:
    wishes = config.baselines
    train = learnt_of(split, wishes.refit_on or "train")
    return limits.refusal(name, train, fits(name, wishes), wishes)


def _baseline(
    name: BaselineName, split: Split, config: EvaluateConfig, panel: Panel, progress: Progress
) -> _Entry:
    """Choose settings on the validation part, fit again, measure."""
    began = time.perf_counter()
    choice = choose(name, split, config, progress.note)
    tuned = time.perf_counter()
    refit_on = config.baselines.refit_on or "train"
    scorer = fit_baseline(
        name,
        learnt_of(split, refit_on),
        choice.settings,
        seed=config.seed,
        memory_gb=config.baselines.memory_gb,
    )
    fitted = time.perf_counter()
    found, seconds = _measured(panel, scorer, progress, name)
    facts = {
        "settings": dict(choice.settings),
        "chosen_by": choice.metric,
        "tried": choice.tried,
        "fitted_on": refit_on,
        "new_users": panel.how_new_users(scorer),
        "tune_seconds": round(tuned - began, 2),
        "fit_seconds": round(fitted - tuned, 2),
        "rank_seconds": seconds,
    }
    return _Entry(name, facts, found)


def _measured(
    panel: Panel, scorer: Scorer, progress: Progress, name: str
) -> tuple[Measured, float]:
    progress.expect(len(panel.users), unit="users")
    began = time.perf_counter()
    found = panel.measure(scorer, lambda count: progress.advance(count, model=name))
    return found, round(time.perf_counter() - began, 2)


def _comparisons(panel: Panel, entries: list[_Entry]) -> list[dict[str, Any]]:
    return [
        {
            "model": entries[0].name,
            "against": other.name,
            "differences": panel.differences(entries[0].found, other.found),
        }
        for other in entries[1:]
    ]


def _counts(split: Split) -> dict[str, int]:
    num_users, num_items = split.train.shape
    return {
        "num_users": num_users,
        "num_items": num_items,
        "train": split.train.nnz,
        "valid": split.valid.nnz,
        "test": split.test.nnz,
    }
