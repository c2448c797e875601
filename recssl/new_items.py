"""Embeddings of items that came after the log, from their features or from who had them."""

from pathlib import Path

import numpy as np
import polars as pl

from recssl.candidates import run_note
from recssl.encoders.towers import TwoTowers
from recssl.errors import DatasetError, UnknownIdError
from recssl.fold_in import FloatMatrix, rows_without
from recssl.histories import read_histories
from recssl.ingest.features import read_features
from recssl.methods.registry import build_ranking
from recssl.popularity_column import beside, log_popularity
from recssl.run_folder import RunFolder
from recssl.settings.export import RecommendConfig
from recssl.settings.train import TowersConfig
from recssl.trained_run import TrainedRun, open_run
from sslcore.errors import ConfigError, OutputError
from sslcore.numerics import unit_rows
from sslcore.tables import require_parquet, write_parquet
from sslcore.training.checkpoint import load_encoder_weights


def embed_new_items(
    run: Path,
    config: RecommendConfig,
    *,
    features: Path | None = None,
    history: Path | None = None,
    out: Path,
) -> pl.DataFrame:
    """Embed new items and write them, as `items.parquet` of an export has the known ones.

    Args:
        run: Folder that `recssl train` wrote.
        config: How they are embedded.
        features: Table with an id column and the feature columns of the data set's items.
        history: Instead: a log of which known users had the new items.
        out: The Parquet file; must not exist.

    Returns:
        Columns `id`, as text, and `embedding`.

    Raises:
        ConfigError: Neither or both of `features` and `history` are given.
        OutputError: `out` exists, or cannot be written.
        SSLError: As `items_from_features` and `items_from_users`.
    """
    if out.exists():
        raise OutputError(f"{out} already exists; give another --out, or remove it")
    require_parquet(out)
    if history is not None and features is None:
        found = items_from_users(run, config, history)
    elif features is not None and history is None:
        table = read_features(features, "item", pl.String())
        found = items_from_features(run, config, table)
    else:
        message = "give either --features of the new items, or --history of who had them"
        raise ConfigError(message)
    write_parquet(found, out, about=run_note(RunFolder(run).read_embeddings().info))
    return found


def items_from_features(run: Path, config: RecommendConfig, table: pl.DataFrame) -> pl.DataFrame:
    """Embed new items from their features.

    A run of feature towers has its own way; for others it is a regression on the trained items.

    Args:
        run: Folder that `recssl train` wrote.
        config: Its regression.
        table: `id`, and the feature columns of the data set's items.

    Returns:
        Columns `id` and `embedding`, comparable with those of the run.

    Raises:
        DatasetError: A column is missing, or the data set has no item features.
        CheckpointError: The run holds no embeddings, or damaged ones.
    """
    if "id" not in table.columns:
        raise DatasetError(f"the new items have no column 'id'; there are {table.columns}")
    opened = open_run(run, config.data)
    chosen = opened.config.encoder
    if isinstance(chosen, TowersConfig) and opened.reads_features("item"):
        rows = _through_tower(opened, chosen, table)
    else:
        rows = opened.regression("item", config.fold_in).embed(table)
    return _table(table["id"], rows)


def items_from_users(
    run: Path, config: RecommendConfig, source: Path | pl.DataFrame
) -> pl.DataFrame:
    """Embed new items from the users who had them.

    Args:
        run: Folder that `recssl train` wrote.
        config: How they are folded in.
        source: Columns user and item; see `recssl.histories.read_histories`.

    Returns:
        Columns `id`, as text, and `embedding`, comparable with those of the run.

    Raises:
        LogError: The source cannot be used.
        UnknownIdError: A user is not in the data set, or none of an item's users was trained.
        CheckpointError: The run holds no embeddings, or damaged ones.
    """
    opened = open_run(run, config.data)
    is_skipping = config.unknown_items == "skip"
    found = read_histories(source, opened, "item", skip_unknown=is_skipping)
    lost = rows_without(found.matrix, opened.learnt.T.tocsr())
    if len(lost):
        raise UnknownIdError(f"no user of new item {found.ids[int(lost[0])]} was trained")
    return _table(found.ids, opened.fold_in_items(config.fold_in).embed(found.matrix))


def _through_tower(opened: TrainedRun, chosen: TowersConfig, table: pl.DataFrame) -> FloatMatrix:
    dataset = opened.dataset
    towers = TwoTowers(dataset.users, dataset.items, chosen.dim, hidden_dims=chosen.hidden_dims)
    load_encoder_weights(RunFolder(opened.folder).encoder, towers)
    rows = towers.eval().embed_new("item", table)
    if build_ranking(opened.config.ranking, towers).cosine:
        rows = unit_rows(rows)
    found: FloatMatrix = np.asarray(rows.numpy(), np.float32)
    weight = opened.embeddings.info.popularity
    if not weight:
        return found
    nobody = np.zeros(len(found), np.int64)  # has had the new items yet
    return beside(found, log_popularity(nobody, weight))


def _table(ids: pl.Series, rows: FloatMatrix) -> pl.DataFrame:
    embedding = pl.Series("embedding", rows, dtype=pl.Array(pl.Float32, rows.shape[1]))
    return pl.DataFrame({"id": ids, "embedding": embedding.cast(pl.List(pl.Float32))})
