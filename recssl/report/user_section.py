"""The chapter that shows some users: what they took, and what they would be recommended."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recssl.dataset import Dataset
from recssl.matrices import count_entries, union
from recssl.report.inputs import Inputs
from recssl.report.item_names import ItemNames
from recssl.retrieval import EmbeddingScorer, top_k
from recssl.run_folder import Embeddings
from recssl.settings.report import ReportConfig
from sslcore.report import writing
from sslcore.report.choosing import evenly
from sslcore.report.parts import Cell, Note, Section, Table, Tables

IntArray = NDArray[np.int64]


def user_section(inputs: Inputs, config: ReportConfig) -> list[Section]:
    """Return the chapter; nothing if no users are to be shown."""
    if not config.users or inputs.embeddings is None or inputs.dataset is None:
        return []
    title = "Example users"
    users = _choose(inputs.dataset, config.users)
    if not len(users):
        note = Note("No user has both a history in train and something in test to compare with.")
        return [Section("no-examples", title, (note,))]
    tables = _tables(inputs.dataset, inputs.embeddings, users, config.top)
    order = "latest first" if inputs.dataset.has_times else "in no order: the log has no times"
    lead = (
        f"Users from short to long histories. Left: what they took in train and valid, {order}."
        " Right: what they would be recommended now; bold is what they did take in test."
    )
    return [Section("examples", title, (Tables(tuple(tables), "medium"),), lead)]


def _choose(dataset: Dataset, most: int) -> IntArray:
    """Choose users with a history and something to find, from short to long histories."""
    lengths = count_entries(dataset.train)
    fitting = np.flatnonzero((lengths > 0) & (count_entries(dataset.test) > 0))
    if not len(fitting):
        return fitting
    ordered = fitting[np.argsort(lengths[fitting], kind="stable")]
    # not the very first and last: a history of one item says little, the longest may be a robot
    places = evenly(len(ordered), most + 2)
    return ordered[places[1:-1] if len(places) > most else places]


def _tables(dataset: Dataset, embeddings: Embeddings, users: IntArray, length: int) -> list[Table]:
    names = ItemNames.of(dataset.items)
    seen = union(dataset.train[users], dataset.valid[users])
    scorer = EmbeddingScorer(embeddings.users[users], embeddings.items)
    best = top_k(scorer, np.arange(len(users)), seen, length).items
    wanted = dataset.test[users]
    tables = []
    for row, user in enumerate(users):
        history = _history(dataset, int(user), length)
        taken = set(wanted.indices[wanted.indptr[row] : wanted.indptr[row + 1]].tolist())
        hits = sum(int(item) in taken for item in best[row])
        rows = tuple(
            (
                _cell(names, int(history[place]), set()) if place < len(history) else Cell(""),
                _cell(names, int(best[row, place]), taken),
            )
            for place in range(length)
        )
        past = writing.count(int(seen.indptr[row + 1] - seen.indptr[row]), "item")
        caption = (
            f"User {dataset.user_ids[int(user)]}: {past} before, {len(taken):,} in test,"
            f" {hits} of them in the first {length}"
        )
        head = ("Took", "Recommended")
        tables.append(Table(caption, head, (("", rows),), numeric=False))
    return tables


def _history(dataset: Dataset, user: int, length: int) -> IntArray:
    table = (
        dataset.interactions.filter(pl.col("user") == user, pl.col("part") != "test")
        .sort("time", "item", descending=[True, False], nulls_last=True)
        .head(length)
        .collect()
    )
    return table["item"].to_numpy().astype(np.int64)


def _cell(names: ItemNames, item: int, taken: set[int]) -> Cell:
    if item < 0:
        return Cell(writing.DASH)
    note = names.note(item)
    if item not in taken:
        return Cell(names.name(item), note)
    return Cell(names.name(item), f"{note} · taken in test".lstrip(" ·"), strong=True)
