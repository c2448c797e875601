"""The first lines of a report: what was done, and what came out."""

from recssl.report import words
from recssl.report.inputs import Inputs
from recssl.report.results import Method, Results
from recssl.run_parts import method_name
from sslcore.report import writing
from sslcore.report.comparing import verdict
from sslcore.report.parts import Tile

_TILES = ("recall", "ndcg", "hit_rate")


def headline(inputs: Inputs) -> str:
    """Return the result in one line."""
    results = inputs.results
    metric = f"recall@{results.k}" if results else ""
    ours = results.ours.metrics.get(metric) if results else None
    if not results or not ours:
        return _method(inputs)
    text = f"Recall@{results.k}\N{NO-BREAK SPACE}{writing.decimals(ours.value)}"
    best = results.best_baseline(metric)
    if best:
        value = writing.decimals(best.metrics[metric].value)
        text += f", best baseline ({words.model(best)})\N{NO-BREAK SPACE}{value}"
    return text


def summary(inputs: Inputs) -> str:
    """Return what was done, in one or two sentences."""
    text = f"{_method(inputs)} was trained"
    if inputs.dataset:
        facts = inputs.dataset.facts
        pairs = facts.get("counts", {}).get("train", {}).get("interactions")
        text += " on " + (f"{writing.count(pairs, 'interaction')} of " if pairs else "")
        text += f"{writing.count(inputs.dataset.num_users, 'user')} with"
        text += f" {writing.count(inputs.dataset.num_items, 'item')}"
    if inputs.log:
        text += f", for {writing.count(inputs.log[-1]['step'], 'step')}"
    text += "."
    if not inputs.results:
        return text
    protocol = inputs.results.protocol
    part = {"test": "test part", "valid": "validation part"}.get(protocol.part, protocol.part)
    return (
        f"{text} It was measured on {writing.count(protocol.users, 'user')} of the {part}, with"
        f" {protocol.ranked} ranked, beside"
        f" {writing.count(len(inputs.results.baselines), 'baseline')}."
    )


def tiles(results: Results | None) -> tuple[Tile, ...]:
    """Return one tile per important metric."""
    if not results:
        return ()
    made = [_tile(results, name) for name in _TILES]
    return tuple(tile for tile in [*made, _coverage_tile(results)] if tile)


def _tile(results: Results, name: str) -> Tile | None:
    metric = f"{name}@{results.k}"
    ours = results.ours.metrics.get(metric)
    if not ours or ours.value is None:
        return None
    best = results.best_baseline(metric)
    text, tone = verdict(
        results.ahead_of(best.name, metric) if best else None, words.model(best) if best else ""
    )
    return Tile(
        title=f"{words.METRICS[name]}@{results.k}",
        value=writing.decimals(ours.value),
        interval=writing.interval(ours),
        versus=_versus(best, metric),
        verdict=text,
        tone=tone,
    )


def _versus(best: Method | None, metric: str) -> str:
    if not best:
        return ""
    return f"best baseline: {words.model(best)} {writing.decimals(best.metrics[metric].value)}"


def _coverage_tile(results: Results) -> Tile | None:
    metric = f"coverage@{results.k}"
    if metric not in results.ours.lists:
        return None
    best = results.best_baseline(f"recall@{results.k}")
    versus = ""
    if best and metric in best.lists:
        versus = f"{words.model(best)}: {writing.percent(best.lists[metric])}"
    return Tile(
        title=f"Items in some list of {results.k}",
        value=writing.percent(results.ours.lists[metric]),
        versus=versus,
    )


def _method(inputs: Inputs) -> str:
    if inputs.embeddings:
        return words.described(inputs.embeddings.info.method)
    return words.described(method_name(inputs.config)) if inputs.config else "A recommender"
