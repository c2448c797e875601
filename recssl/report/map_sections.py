"""Chapters that show the embeddings of items: a map, and nearest neighbours."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recssl.dataset import Dataset
from recssl.encoders.towers import has_features
from recssl.health import BUCKETS
from recssl.matrices import count_users
from recssl.metrics import popularity_buckets
from recssl.popularity_column import taste
from recssl.report.inputs import Inputs
from recssl.report.item_names import ItemNames
from recssl.run_folder import Embeddings
from recssl.settings.report import ReportConfig
from recssl.settings.train import TowersConfig
from sslcore.plots import to_svg
from sslcore.report import writing
from sslcore.report.choosing import apart, evenly, in_turns
from sslcore.report.maps import point_map
from sslcore.report.parts import Cell, Drawing, Drawings, Note, Part, Prose, Section, Table, Tables
from sslcore.report.projection import (
    FEWEST,
    FloatArray,
    nearest,
    project,
    share_of_equal_neighbours,
    unit_rows,
)

IntArray = NDArray[np.int64]

_MOST_COMPARED = 20_000  # items among which neighbours are looked for
_LABEL_GAP = 0.055  # of the map's side, upwards; eight times that sideways
_WIDTH_OF_LABELS = 8
_CANDIDATES = 120  # most popular items that may be named on the map


@dataclass(frozen=True, slots=True)
class Learnt:
    """The items that the run learnt something about, the most popular first.

    Attributes:
        rows: Their numbers in the data set, `[items]`.
        popularity: Their users in train, `[items]`.
        buckets: 0 rare to 2 popular, `[items]`.
        names: Of all items of the data set.
        embeddings: Of all items of the data set, without the column of popularity.
    """

    rows: IntArray
    popularity: IntArray
    buckets: IntArray
    names: ItemNames
    embeddings: NDArray[np.float32]

    @classmethod
    def of(cls, dataset: Dataset, embeddings: Embeddings) -> "Learnt":
        """Leave out items without an interaction in train, or without any embedding."""
        popularity = count_users(dataset.train)
        buckets = popularity_buckets(popularity, len(BUCKETS))
        items = taste(embeddings.items, embeddings.info.popularity)
        known = (popularity > 0) & np.abs(items).any(1)
        rows = np.argsort(-popularity, kind="stable")
        rows = rows[known[rows]]
        names = ItemNames.of(dataset.items)
        return cls(rows, popularity[rows], buckets[rows], names, items)

    def vectors(self, chosen: IntArray) -> FloatArray:
        """Return the embeddings of some of `rows`."""
        return np.asarray(self.embeddings[self.rows[chosen]], np.float64)


def map_sections(inputs: Inputs, config: ReportConfig) -> list[Section]:
    """Return the map of the items and their nearest neighbours."""
    title = "Map of the items"
    if inputs.embeddings is None or inputs.dataset is None:
        reason = inputs.missing.get("embeddings") or inputs.missing["dataset"]
        return [Section("map", title, (Note(reason),))]
    learnt = Learnt.of(inputs.dataset, inputs.embeddings)
    if len(learnt.rows) < FEWEST:
        note = Note(f"A map needs at least {FEWEST} items with interactions in train.")
        return [Section("map", title, (note,))]
    is_tower = inputs.config is None or isinstance(inputs.config.encoder, TowersConfig)
    sees_features = is_tower and has_features(inputs.dataset.items)
    sections = [_map(learnt, config, title, sees_features=sees_features)]
    if config.queries:
        sections.append(_neighbours(learnt, config))
    return sections


def _map(learnt: Learnt, config: ReportConfig, title: str, *, sees_features: bool) -> Section:
    chosen = evenly(len(learnt.rows), config.map_items)
    points = project(learnt.vectors(chosen), seed=config.seed)
    popularity = learnt.popularity[chosen]
    weights = 0.3 + 5 * np.sqrt(popularity / popularity.max())
    total = len(learnt.rows)
    number = len(chosen)
    shown = (
        writing.count(number, "item")
        if number == total
        else f"{number:,} of {total:,} items, from all popularities"
    )
    names = [f"{name} items" for name in BUCKETS]
    labels = _labels(learnt, chosen, points, config.labels)
    figure = point_map(points, learnt.buckets[chosen], names, weights=weights, labels=labels)
    alt = f"Map of {shown}, coloured by popularity."
    caption = f"{shown}. Size and colour are the popularity in train."
    drawings = [Drawing(to_svg(figure, name="map", alt=alt), caption)]
    groups, kinds = learnt.names.kind_groups(learnt.rows[chosen])
    column = learnt.names.kind_column
    parts: list[Part] = []
    if kinds:
        figure = point_map(points, groups, kinds)
        alt = f"The same map, coloured by {column}."
        rest = ", grey the others" if (groups < 0).any() else ""
        caption = f"The same map; colours are the {column}{rest}."
        drawings.append(Drawing(to_svg(figure, name="map-kinds", alt=alt), caption))
        parts += _agreement(learnt, chosen)
    lead = "Items that lie near each other are liked by the same people."
    if kinds and not sees_features:
        lead += f" The model was not told the {column}."
    return Section("map", title, (Drawings(tuple(drawings)), *parts), lead)


def _labels(
    learnt: Learnt, chosen: IntArray, points: FloatArray, most: int
) -> list[tuple[int, str]]:
    """Name popular items that are far enough from each other, if they have titles."""
    if learnt.names.titles is None or not most:
        return []
    squeezed = points[:_CANDIDATES] * [1 / _WIDTH_OF_LABELS, 1]  # the most popular come first
    kept = apart(squeezed, distance=_LABEL_GAP, most=most)
    return [(index, learnt.names.name(int(learnt.rows[chosen[index]]))) for index in kept]


def _agreement(learnt: Learnt, chosen: IntArray) -> list[Part]:
    kinds = learnt.names.kinds
    if kinds is None:
        return []
    keys = kinds[learnt.rows[chosen].tolist()].to_list()
    found = share_of_equal_neighbours(unit_rows(learnt.vectors(chosen)), keys)
    if not found:
        return []
    return [
        Prose(
            f"Of the items on the map, the nearest other one has the same"
            f" {learnt.names.kind_column} in {writing.percent(found[0])} of cases; chance would"
            f" give {writing.percent(found[1])}."
        )
    ]


def _neighbours(learnt: Learnt, config: ReportConfig) -> Section:
    compared = evenly(len(learnt.rows), _MOST_COMPARED)
    units = unit_rows(learnt.vectors(compared))
    tables = []
    for query in in_turns(learnt.buckets[compared], config.queries):
        rows = tuple(
            (
                Cell(learnt.names.name(item), learnt.names.note(item)),
                Cell(f"{similarity:.2f}".replace("-", writing.MINUS)),
            )
            for index, similarity in nearest(units, None, query, most=config.neighbours)
            for item in [int(learnt.rows[compared[index]])]
        )
        place = compared[query]
        item = int(learnt.rows[place])
        about = [learnt.names.note(item), f"{learnt.popularity[place]:,} users in train"]
        caption = f"{learnt.names.name(item)} ({', '.join(text for text in about if text)})"
        tables.append(Table(caption, ("Nearest", "Similarity"), (("", rows),)))
    lead = (
        "Rare and popular items, and what lies nearest to them: cosine similarity of the"
        " embeddings, 1 is equal to the model."
    )
    return Section("neighbours", "Similar items", (Tables(tuple(tables), "medium"),), lead)
