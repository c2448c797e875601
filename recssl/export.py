"""Write a run's embeddings in forms that other programs read.

OUT/
    users.parquet           user (row in the data set), id (as in the log), interactions (learnt
                            from), embedding (list of float32; null where it is of no use)
    items.parquet           item, id, interactions, embedding, likewise
    embeddings.safetensors  users and items, `[rows, dim]`; zero where Parquet has null
    items.faiss             index of the items; its ids are the column `item`
    export.json             where it all comes from, the index and its recall against exact ranking
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from recssl.fold_in import FloatMatrix
from recssl.index import ItemIndex, tune
from recssl.matrices import IntArray
from recssl.settings.export import ExportConfig
from recssl.trained_run import Side, TrainedRun, open_run
from sslcore.console import Progress
from sslcore.files import require_new_folder, whole_folder
from sslcore.tables import write_parquet
from sslcore.training.checkpoint import write_tensors

_FORMAT = 1


def export(run: Path, config: ExportConfig, out: Path, progress: Progress) -> dict[str, Any]:
    """Write the embeddings of a run to a new folder, whole or not at all.

    Args:
        run: Folder that `recssl train` wrote.
        config: What to write.
        out: The new folder.
        progress: Told what is written, and the recall of the index.

    Returns:
        The content of export.json.

    Raises:
        OutputError: `out` exists, or cannot be written.
        CheckpointError: The run holds no embeddings, or damaged ones.
        ConfigError: The index cannot be built, or FAISS is missing.
        DatasetError: The data set is gone or another one, or has no item features although
            `untrained` asks for them.
    """
    require_new_folder(out, way_out="give another --out, or remove it")
    opened = open_run(run, config.data)
    items = opened.items(config.untrained, config.fold_in)
    sides: list[tuple[Side, FloatMatrix]] = [("user", opened.embeddings.users), ("item", items)]
    usable = {side: opened.usable(side, config.untrained) for side, _ in sides}
    with whole_folder(out) as draft:
        facts = _facts(opened, config, usable)
        tensors: dict[str, torch.Tensor] = {}
        for side, rows in sides:
            progress.note(f"{side}s: {usable[side].sum()} of {len(rows)} with an embedding")
            filled = np.where(usable[side][:, None], rows, np.float32(0))
            tensors[f"{side}s"] = torch.from_numpy(filled)
            table = _table(opened, side, rows, usable[side])
            write_parquet(table, draft / f"{side}s.parquet")
        write_tensors(draft / "embeddings.safetensors", tensors)
        facts["index"] = _index(opened, items, usable, config, draft, progress)
        text = json.dumps(facts, indent=1, allow_nan=False) + "\n"
        (draft / "export.json").write_text(text, encoding="utf-8")
    return facts


def _facts(
    opened: TrainedRun, config: ExportConfig, usable: dict[Side, NDArray[np.bool_]]
) -> dict[str, Any]:
    counts = {
        f"{side}s": {
            "rows": len(rows),
            "with_embedding": int(rows.sum()),
            "trained": int((opened.interactions(side) > 0).sum()),
        }
        for side, rows in usable.items()
    }
    return {
        "format": _FORMAT,
        "run": str(opened.folder.resolve()),
        **asdict(opened.embeddings.info),
        **counts,
        "config": config.model_dump(mode="json"),
    }


def _table(
    opened: TrainedRun, side: Side, rows: FloatMatrix, usable: NDArray[np.bool_]
) -> pl.DataFrame:
    table = opened.dataset.users if side == "user" else opened.dataset.items
    vectors = pl.Series("embedding", rows, dtype=pl.Array(pl.Float32, rows.shape[1]))
    known = table.select(side, "id").with_columns(
        pl.Series("interactions", opened.interactions(side), dtype=pl.Int64),
        vectors.cast(pl.List(pl.Float32)),
    )
    if usable.all():
        return known
    return known.with_columns(pl.when(pl.Series(usable)).then("embedding").alias("embedding"))


def _index(
    opened: TrainedRun,
    items: FloatMatrix,
    usable: dict[Side, NDArray[np.bool_]],
    config: ExportConfig,
    draft: Path,
    progress: Progress,
) -> dict[str, Any] | None:
    """Build, measure and write the index of the usable items."""
    ids: IntArray = np.flatnonzero(usable["item"])
    if config.index.kind == "none" or not len(ids):
        progress.note("no index: " + ("no item has an embedding" if not len(ids) else "kind none"))
        return None
    chosen = items[ids]
    index = ItemIndex.build(chosen, ids, config.index)
    sample = _sample(np.flatnonzero(usable["user"]), config)
    queries = opened.embeddings.users[sample]
    quality = tune(index, chosen, ids, queries, config.index) if len(sample) else {}
    index.write(draft / "items.faiss")
    reached = [f"{name} {value}" for name, value in quality.items() if name.startswith("recall")]
    progress.note(f"index {index.kind} of {len(ids)} items: {', '.join(reached)}")
    return {
        "kind": index.kind,
        "metric": "inner product",
        "items": len(ids),
        "parameters": index.parameters,
        "library": index.library,
        "against_exact": quality,
    }


def _sample(users: IntArray, config: ExportConfig) -> IntArray:
    count = config.index.sample_users
    if len(users) <= count:
        return users
    rng = np.random.default_rng(config.seed)
    return np.sort(rng.choice(users, count, replace=False))
