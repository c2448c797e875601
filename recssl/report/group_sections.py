"""Chapters about rare and popular items, and about users with short and long histories."""

from recssl.report import words
from recssl.report.results import Bucket, Group, Method, Results
from sslcore.plots import to_svg
from sslcore.report import writing
from sslcore.report.comparing import number_cell
from sslcore.report.intervals import IntervalLine, interval_lines
from sslcore.report.measures import Measure
from sslcore.report.parts import Cell, Drawing, Drawings, Section, Table

_GROUP_METRICS = ("recall", "ndcg")


def group_sections(results: Results | None) -> list[Section]:
    """Return the chapters, as far as they were measured."""
    if results is None:
        return []
    sections = [_popularity(results), _users(results)]
    return [section for section in sections if section]


def _popularity(results: Results) -> Section | None:
    metric = f"recall@{results.k}"
    buckets = results.ours.by_popularity.get(metric, [])
    if not buckets:
        return None
    ticks = [_tick(number, len(buckets), bucket) for number, bucket in enumerate(buckets)]
    recall = [
        _line(method, [_measure(bucket.recall) for bucket in method.by_popularity[metric]])
        for method in results.models
        if metric in method.by_popularity
    ]
    share = [
        _line(method, [_measure(bucket.share) for bucket in method.by_popularity[metric]])
        for method in results.models
        if metric in method.by_popularity
    ]
    wanted = sum(bucket.wanted for bucket in buckets) or 1
    truth = [_measure(bucket.wanted / wanted) for bucket in buckets]
    share.append(IntervalLine("What users took", truth, 4))
    title = f"Recall@{results.k} by popularity"
    alt = f"Recall among the first {results.k} for items from rare to popular, per method."
    other = f"Share of all recommendations, first {results.k}"
    drawings = (
        Drawing(
            to_svg(interval_lines(recall, ticks, title=title), name="by-popularity", alt=alt),
            "How many of the items that users took in the end were in their lists.",
        ),
        Drawing(
            to_svg(interval_lines(share, ticks, title=other), name="list-share", alt=other),
            "A method above the line of what users took pushes that popularity.",
        ),
    )
    lead = (
        "Items by how often they were taken in train, rare ones on the left; each bucket holds"
        " about the same number of interactions."
    )
    table = _bucket_table(results, metric)
    return Section("popularity", "Rare and popular items", (Drawings(drawings), table), lead)


def _bucket_table(results: Results, metric: str) -> Table:
    buckets = results.ours.by_popularity[metric]
    names = [_bucket_name(number, len(buckets)) for number in range(len(buckets))]
    sizes = (
        (Cell("Items"), *(Cell(f"{bucket.items:,}") for bucket in buckets)),
        (Cell("Taken in the part measured"), *(Cell(f"{bucket.wanted:,}") for bucket in buckets)),
    )
    rows = tuple(
        (
            Cell(words.model(method)),
            *(Cell(writing.decimals(bucket.recall)) for bucket in method.by_popularity[metric]),
        )
        for method in results.models
        if metric in method.by_popularity
    )
    groups = (("", sizes), (f"Recall@{results.k}", rows))
    return Table("Buckets of popularity", ("", *names), groups)


def _users(results: Results) -> Section | None:
    groups = results.protocol.groups
    if len(groups) < 2:
        return None
    ticks = [f"{_group_name(group)}\n{_lengths(group)}" for group in groups]
    drawings = []
    for name in _GROUP_METRICS:
        metric = f"{name}@{results.k}"
        lines = [
            _line(method, [method.by_group.get(group.name, {}).get(metric) for group in groups])
            for method in results.models
        ]
        title = f"{words.METRICS[name]}@{results.k} by length of history"
        figure = interval_lines(lines, ticks, title=title)
        alt = f"{title}, per method, with intervals."
        svg = to_svg(figure, name=f"by-history-{name}", alt=alt)
        drawings.append(Drawing(svg, "Thin bars are 95 % intervals over the users of the group."))
    lead = "Users by how many items they took in train; each group is about a third of them."
    parts = (Drawings(tuple(drawings)), _group_table(results))
    return Section("users", "Short and long histories", parts, lead)


def _group_table(results: Results) -> Table:
    groups = []
    for group in results.protocol.groups:
        rows = tuple(
            (
                Cell(words.model(method)),
                *(
                    number_cell(
                        method.by_group.get(group.name, {}).get(f"{name}@{results.k}"),
                        strong=False,
                    )
                    for name in words.METRICS
                ),
            )
            for method in results.models
        )
        who = f"{_group_name(group)}: {writing.count(group.users, 'user')} of {_lengths(group)}"
        groups.append((who, rows))
    head = ("Method", *words.METRICS.values())
    return Table(f"First {results.k}, by group of users", head, tuple(groups))


def _line(method: Method, measures: list[Measure | None]) -> IntervalLine:
    tone = words.MODEL_COLORS.get(method.name, 5)
    return IntervalLine(words.model(method), measures, tone, is_main=method.name == "run")


def _measure(value: float | None) -> Measure | None:
    return None if value is None else Measure(value=value)


def _tick(number: int, count: int, bucket: Bucket) -> str:
    return f"{_bucket_name(number, count)}\n{bucket.items:,} items"


def _bucket_name(number: int, count: int) -> str:
    if number == 0:
        return "Rarest"
    return "Most popular" if number == count - 1 else str(number + 1)


def _group_name(group: Group) -> str:
    return words.GROUPS.get(group.name, group.name)


def _lengths(group: Group) -> str:
    if group.least_history == group.most_history:
        return writing.count(group.least_history, "item")
    return f"{group.least_history:,} to {group.most_history:,} items"
