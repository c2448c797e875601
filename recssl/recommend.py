"""Ranked items for users, known ones and new ones, and items that are like another."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array

from recssl.errors import UnknownIdError
from recssl.fold_in import FloatMatrix, rows_without
from recssl.histories import read_histories
from recssl.matrices import union
from recssl.popularity_column import taste
from recssl.retrieval import EmbeddingScorer, IntArray, TopK, top_k
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
        k: Items per user.
        out: Parquet, CSV or TSV file to write the table to; must not exist.

    Returns:
        Columns `user`, `rank` from 1, `item`, `score`; ids as in the log, new users as text. Users
        with fewer than `k` unseen items have fewer rows.

    Raises:
        UnknownIdError: A user or item is not in the data set, or nothing is known of a user.
        ConfigError: Neither or both of `users` and `history` are given.
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
        rows = opened.find("user", users or ())
        ids = opened.dataset.user_ids.gather(rows)
        embedded = _known_users(opened, rows, config)
        seen = _seen(opened, config)[rows]
    else:
        is_skipping = config.unknown_items == "skip"
        found = read_histories(history, opened, "user", skip_unknown=is_skipping)
        ids, seen = found.ids, found.matrix
        embedded = _folded(opened, found.matrix, ids, config)
    kept = np.flatnonzero(opened.usable("item", config.untrained))
    items = opened.items(config.untrained, config.fold_in)[kept]
    best = top_k(EmbeddingScorer(embedded, items), np.arange(len(ids)), _columns(seen, kept), k)
    table = _table("user", ids, opened.dataset.item_ids.gather(kept), best)
    return _written(table, out)


def similar(
    run: Path,
    config: RecommendConfig,
    items: Sequence[str],
    *,
    k: int = 20,
    out: Path | None = None,
) -> pl.DataFrame:
    """Find the items whose embeddings point in the most similar direction.

    Args:
        run: Folder that `recssl train` wrote.
        config: Whether untrained items count.
        items: Ids as in the log.
        k: Items per item.
        out: As in `recommend`.

    Returns:
        Columns `item`, `rank` from 1, `similar`, `score`: the cosine, -1 to 1. The item itself is
        left out.

    Raises:
        UnknownIdError: An item is not in the data set, or was not trained.
        DatasetError: The data set is gone, or another one.
        CheckpointError: The run holds no embeddings, or damaged ones.
        OutputError: `out` exists, cannot be written, or is of an unknown kind.
    """
    _require_writable(out)
    opened = open_run(run, config.data)
    rows = opened.find("item", items)
    usable = opened.usable("item", config.untrained)
    stored = opened.items(config.untrained, config.fold_in)
    vectors = taste(stored, opened.embeddings.info.popularity)
    usable = usable & vectors.any(axis=1)
    _require_known(usable[rows], opened.dataset.item_ids.gather(rows), "item")
    kept = np.flatnonzero(usable)
    unit = unit_rows(torch.from_numpy(vectors[kept])).numpy()
    places = np.searchsorted(kept, rows)
    ones = np.ones(len(rows), np.float32)
    itself = csr_array((ones, places, np.arange(len(rows) + 1)), shape=(len(rows), len(kept)))
    best = top_k(EmbeddingScorer(unit[places], unit), np.arange(len(rows)), itself, k)
    known = opened.dataset.item_ids
    table = _table("item", known.gather(rows), known.gather(kept), best, found="similar")
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
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise UnknownIdError(
            f"nothing was learnt about {len(missing)} of {len(ids)} {side}(s): {shown}; none of"
            " their interactions is in what the run was trained on"
        )


def _columns(seen: csr_array, kept: IntArray) -> csr_array:
    """Return `seen` with the columns `kept` only."""
    if len(kept) == seen.shape[1]:
        return seen
    chosen = csr_array(seen.tocsc()[:, kept])
    chosen.sort_indices()
    return chosen


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
