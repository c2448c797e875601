"""Chapters about what was measured, beside the baselines."""

from recssl.report import words
from recssl.report.inputs import Inputs
from recssl.report.results import Method, Results
from sslcore.plots import to_svg
from sslcore.report import writing
from sslcore.report.comparing import difference_cell, number_cell
from sslcore.report.intervals import IntervalRow, interval_rows
from sslcore.report.parts import Cell, Drawing, Drawings, Note, Part, Points, Section, Table

_DRAWN = ("recall", "ndcg")


def result_sections(inputs: Inputs) -> list[Section]:
    """Return the chapters; one sentence for a run that was not measured yet."""
    title = "Against baselines"
    results = inputs.results
    if results is None:
        return [Section("results", title, (Note(inputs.missing["results"]),))]
    return [_comparison(results, title), _numbers(results), _lists(results)]


def _comparison(results: Results, title: str) -> Section:
    drawings = [
        drawing for name in _DRAWN for drawing in _drawing(results, f"{name}@{results.k}", name)
    ]
    parts: list[Part] = [Drawings(tuple(drawings))]
    differences = _differences(results)
    parts += [differences] if differences else []
    parts += [Note(f"Left out: {item.reason}", "neutral") for item in results.left_out]
    if not results.baselines:
        parts.append(Note("The run was measured without baselines."))
    lead = (
        "Every method ranks all items that a user has not had, for the same users; dots are means"
        " over users, bars 95 % intervals."
    )
    return Section("results", title, tuple(parts), lead)


def _drawing(results: Results, metric: str, name: str) -> list[Drawing]:
    rows = [
        IntervalRow(
            words.model(method),
            measure,
            writing.decimals(measure.value),
            words.MODEL_COLORS.get(method.name, 5),
        )
        for method in results.models
        if (measure := method.metrics.get(metric)) and measure.value is not None
    ]
    if not rows:
        return []
    title = f"{words.METRICS[name]}@{results.k}"
    figure = interval_rows(rows, title=title, from_zero=False)
    alt = f"{title} of each method: " + ", ".join(f"{row.name} {row.text}" for row in rows)
    return [Drawing(to_svg(figure, name=f"models-{name}", alt=alt), "Further right is better.")]


def _differences(results: Results) -> Table | None:
    rows = tuple(
        (
            Cell(f"This run {writing.MINUS} {words.model(method)}"),
            *(
                difference_cell(results.ahead_of(method.name, f"{name}@{results.k}"))
                for name in words.METRICS
            ),
        )
        for method in results.baselines
    )
    if not rows:
        return None
    return Table(
        caption=f"Differences in the first {results.k}, measured on the same resamples of the"
        " users; bold where the interval leaves out 0",
        head=(f"First {writing.MINUS} second", *words.METRICS.values()),
        groups=(("", rows),),
    )


def _numbers(results: Results) -> Section:
    groups = []
    for k in results.protocol.ks:
        best = {name: _best(results, f"{name}@{k}") for name in words.METRICS}
        rows = tuple(
            (
                Cell(words.model(method)),
                *(
                    number_cell(method.metrics.get(f"{name}@{k}"), strong=best[name] is method)
                    for name in words.METRICS
                ),
            )
            for method in results.models
        )
        groups.append((f"First {k}", rows))
    table = Table(
        caption="Mean over users, with its 95 % interval; the best of each column in bold",
        head=("Method", *words.METRICS.values()),
        groups=tuple(groups),
    )
    parts: list[Part] = [table, Points(tuple(_protocol(results)))]
    settings = _settings(results.baselines)
    parts += [settings] if settings else []
    return Section("numbers", "All numbers", tuple(parts), "Higher is better.")


def _best(results: Results, metric: str) -> Method | None:
    values = [
        (found.value, method)
        for method in results.models
        if (found := method.metrics.get(metric)) and found.value is not None
    ]
    return max(values, key=lambda pair: pair[0])[1] if values else None


def _protocol(results: Results) -> list[str]:
    protocol = results.protocol
    masked = writing.listed(protocol.masked) if protocol.masked else "nothing"
    text = (
        f"{writing.count(protocol.users, 'user')} with something to find in {protocol.part};"
        f" {protocol.ranked} ranked, items of {masked} left out of the lists."
    )
    lines = [text]
    known = protocol.already_seen_not_counted
    if known:
        lines.append(
            f"{writing.count(known, 'pair')} of {protocol.part} were seen before, not counted."
        )
    return lines + _new_users(results)


def _new_users(results: Results) -> list[str]:
    """Say how each method scored the users it has learnt nothing of, where there are any."""
    lines, protocol = [], results.protocol
    if protocol.users_without_history:
        ways = "; ".join(
            f"{words.model(method)}: {method.new_users}"
            for method in results.models
            if method.new_users
        )
        of_all = f"{protocol.users_without_history:,} of {writing.count(protocol.users, 'user')}"
        lines.append(f"Of {of_all} nothing was learnt, only some items are known. {ways}.")
    if protocol.users_unknown_left_out:
        left_out = writing.count(protocol.users_unknown_left_out, "user")
        lines.append(f"Left out: {left_out} of whom nothing at all is known.")
    return lines


def _settings(baselines: list[Method]) -> Table | None:
    tuned = [method for method in baselines if method.settings]
    rows = tuple(
        (
            Cell(words.model(method)),
            Cell(", ".join(f"{key} {_shown(value)}" for key, value in method.settings.items())),
            Cell(_how_chosen(method)),
        )
        for method in tuned
    )
    if not rows:
        return None
    head = ("Baseline", "Settings", "Chosen")
    return Table("Settings of the baselines", head, (("", rows),), numeric=False)


def _how_chosen(method: Method) -> str:
    if not method.chosen_by:
        return "by default"
    return f"of {len(method.tried)}, by {method.chosen_by} on the validation part"


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _lists(results: Results) -> Section:
    k = results.k
    rows = tuple(
        (Cell(words.model(method)), *(_list_cell(method, name, k) for name in words.LISTS))
        for method in results.models
    )
    table = Table(
        f"What all lists of {k} together are like", ("Method", *words.LISTS.values()), (("", rows),)
    )
    lead = "How much of the catalogue the lists reach, and how popular what they show is."
    return Section("lists", "Variety of the lists", (table,), lead)


def _list_cell(method: Method, name: str, k: int) -> Cell:
    value = method.lists.get(f"{name}@{k}")
    if value is None:
        return Cell(writing.DASH)
    if name == "coverage":
        return Cell(writing.percent(value))
    return Cell(writing.decimals(value) if name == "gini" else f"{value:,.1f}")
