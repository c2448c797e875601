"""Ranked items for users, known ones and new ones, and items that are like another."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array

from recssl.candidates import Candidates, nothing_learnt, require_learnt
from recssl.errors import UnknownIdError
from recssl.fold_in import FloatMatrix, rows_without
from recssl.histories import read_histories
from recssl.matrices import IntArray, union
from recssl.popularity_column import taste
from recssl.retrieval import EmbeddingScorer, TopK, top_k
from recssl.settings.export import RecommendConfig
from recssl.trained_run import Side, TrainedRun, open_run
from sslcore.errors import ConfigError, OutputError
from sslcore.numerics import unit_rows
from sslcore.tables import write_delimited, write_parquet

_WRITERS = (".parquet", ".csv", ".tsv")


def recommend(
    run: Path,
    config: RecommendConfig,
    *,
    users: Sequence[str] | None = None,
    history: Path | pl.DataFrame | None = None,
    new_items: Path | None = None,
    k: int = 20,
    out: Path | None = None,
) -> pl.DataFrame:
    """Rank the items that users have not seen.

    A known user has the trained embedding; one without a training interaction, such as those of a
    split by users, is folded in from all that is known. New users are folded in from `history`.

    Args:
        run: Folder that `recssl train` wrote.
        config: What is left out, and how users are folded in.
        users: Ids as in the log. Either this or `history`.
        history: Interactions of new users; see `recssl.histories.read_histories`.
        new_items: What `recssl new-items` wrote: items that came after the log, ranked with the
            others.
        k: Items per user.
        out: Parquet, CSV or TSV file to write the table to; must not exist.

    Returns:
        Columns `user`, `rank` from 1, `item`, `score`; ids as in the log, new users as text. Users
        with fewer than `k` unseen items have fewer rows.

    Raises:
        UnknownIdError: A user or item is not in the data set, or nothing is known of a user.
        ConfigError: Neither or both of `users` and `history` are given, or the new items are none.
        LogError: The history cannot be used.
        DatasetError: The data set is gone, or another one.
        CheckpointError: The run holds no embeddings, or damaged ones.
        OutputError: `out` exists, cannot be written, or is of an unknown kind.
    """
    if (users is None) == (history is None):
        raise ConfigError("give either users of the data set or a history of new ones")
    _require_writable(out)
    opened = open_run(run, config.data)
    if history is None:
        rows = opened.find("user", list(dict.fromkeys(users or ())))
        ids = opened.dataset.user_ids.gather(rows)
        embedded = _known_users(opened, rows, config)
        seen = _seen(opened, config)[rows]
    else:
        is_skipping = config.unknown_items == "skip"
        found = read_histories(history, opened, "user", skip_unknown=is_skipping)
        ids, seen = found.ids, found.matrix
        embedded = _folded(opened, found.matrix, ids, config)
    items = Candidates.of(opened, config, new_items)
    scorer = EmbeddingScorer(embedded, items.vectors)
    best = top_k(scorer, np.arange(len(ids)), items.seen(seen), k)
    return _written(_table("user", ids, items.ids, best), out)


def similar(
    run: Path,
    config: RecommendConfig,
    items: Sequence[str],
    *,
    new_items: Path | None = None,
    k: int = 20,
    out: Path | None = None,
) -> pl.DataFrame:
    """Find the items whose embeddings point in the most similar direction.

    Args:
        run: Folder that `recssl train` wrote.
        config: Whether untrained items count.
        items: Ids as in the log, or in `new_items`.
        new_items: As in `recommend`.
        k: Items per item.
        out: As in `recommend`.

    Returns:
        Columns `item`, `rank` from 1, `similar`, `score`: the cosine, -1 to 1. The item itself is
        left out.

    Raises:
        UnknownIdError: An item is not in the data set, or was not trained.
        ConfigError: The new items are none.
        DatasetError: The data set is gone, or another one.
        CheckpointError: The run holds no embeddings, or damaged ones.
        OutputError: `out` exists, cannot be written, or is of an unknown kind.
    """
    _require_writable(out)
    opened = open_run(run, config.data)
    items = list(dict.fromkeys(items))
    candidates = Candidates.of(opened, config, new_items)
    vectors = taste(candidates.vectors, opened.embeddings.info.popularity)
    places = candidates.find(items, opened)
    directed = np.asarray(vectors.any(axis=1))
    require_learnt(np.where(directed[places], places, -1), items)
    kept = np.flatnonzero(directed)
    unit = unit_rows(torch.from_numpy(vectors[kept])).numpy()
    among = np.searchsorted(kept, places)
    ones = np.ones(len(among), np.float32)
    itself = csr_array((ones, among, np.arange(len(among) + 1)), shape=(len(among), len(kept)))
    best = top_k(EmbeddingScorer(unit[among], unit), np.arange(len(among)), itself, k)
    ids = candidates.ids
    table = _table("item", ids.gather(places), ids.gather(kept), best, found="similar")
    return _written(table, out)


def _known_users(opened: TrainedRun, rows: IntArray, config: RecommendConfig) -> FloatMatrix:
    """Return the embeddings of users of the data set, the untrained ones folded in."""
    embedded = opened.embeddings.users[rows]
    trained = opened.interactions("user")[rows] > 0
    gaps = np.flatnonzero(~trained)
    if opened.reads_features("user") or not len(gaps):
        return embedded
    histories = _seen(opened, config)[rows[gaps]]
    embedded[gaps] = _folded(opened, histories, opened.dataset.user_ids.gather(rows[gaps]), config)
    return embedded


def _folded(
    opened: TrainedRun, histories: csr_array, ids: pl.Series, config: RecommendConfig
) -> FloatMatrix:
    is_known = np.ones(len(ids), np.bool_)
    is_known[rows_without(histories, opened.learnt)] = False
    _require_known(is_known, ids, "user")
    return opened.fold_in_users(config.fold_in).embed(histories)


def _seen(opened: TrainedRun, config: RecommendConfig) -> csr_array:
    if config.seen == "all":
        return opened.everything()
    return union(opened.learnt, opened.learnt)


def _require_known(is_known: NDArray[np.bool_], ids: pl.Series, side: Side) -> None:
    missing = ids.filter(pl.Series(~is_known)).cast(pl.String).to_list()
    if missing:
        raise UnknownIdError(nothing_learnt(missing, len(ids), side))


def _table(
    asked: str, ids: pl.Series, items: pl.Series, best: TopK, *, found: str = "item"
) -> pl.DataFrame:
    rows, ranks = np.nonzero(best.items >= 0)
    return pl.DataFrame(
        {
            asked: ids.gather(rows),
            "rank": pl.Series(ranks + 1, dtype=pl.Int32),
            found: items.gather(best.items[rows, ranks]),
            "score": best.scores[rows, ranks],
        }
    )


def _require_writable(out: Path | None) -> None:
    if out is None:
        return
    if out.suffix not in _WRITERS:
        raise OutputError(f"{out}: known endings are {', '.join(_WRITERS)}")
    if out.exists():
        raise OutputError(f"{out} already exists; give another --out, or remove it")


def _written(table: pl.DataFrame, out: Path | None) -> pl.DataFrame:
    if out is None:
        return table
    if out.suffix == ".parquet":
        write_parquet(table, out)
    else:
        write_delimited(table, out, separator="\t" if out.suffix == ".tsv" else ",")
    return table
