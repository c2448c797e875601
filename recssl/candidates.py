"""The items that a list may hold: those of the data set, and new ones that came after the log."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from recssl.errors import UnknownIdError
from recssl.fold_in import FloatMatrix
from recssl.matrices import IntArray
from recssl.run_folder import EmbeddingsInfo
from recssl.settings.export import RecommendConfig
from recssl.trained_run import TrainedRun
from sslcore.errors import ConfigError

RUN_NOTE = "recssl.run"  # in a table of new items: which embeddings they are comparable with


@dataclass(frozen=True, slots=True)
class Candidates:
    """Items with an embedding; the new ones come last.

    Attributes:
        ids: Of all, `[candidates]`; as in the log, or all as text where new ids are none of those.
        vectors: `[candidates, dim]`.
        rows: Of those of the data set, rising.
    """

    ids: pl.Series
    vectors: FloatMatrix
    rows: IntArray

    @classmethod
    def of(cls, opened: TrainedRun, config: RecommendConfig, new_items: Path | None) -> Self:
        """Collect them.

        Args:
            opened: The run.
            config: Which untrained items count, and how.
            new_items: What `recssl new-items` wrote, if any.

        Raises:
            ConfigError: `new_items` is something else, or belongs to another run.
        """
        rows = np.flatnonzero(opened.usable("item", config.untrained))
        vectors = opened.items(config.untrained, config.fold_in)[rows]
        ids = opened.dataset.item_ids.gather(rows)
        if new_items is None:
            return cls(ids, vectors, rows)
        new_ids, new = _read(new_items, opened)
        fitting = new_ids.cast(ids.dtype, strict=False)
        if not fitting.cast(pl.String).equals(new_ids):  # 007 is not 7
            ids, fitting = ids.cast(pl.String), new_ids
        return cls(pl.concat([ids, fitting.alias(ids.name)]), np.concatenate([vectors, new]), rows)

    def seen(self, interactions: csr_array) -> csr_array:
        """Return interactions with items of the data set as columns of the candidates."""
        chosen = interactions
        if len(self.rows) < interactions.shape[1]:
            chosen = csr_array(interactions.tocsc()[:, self.rows])
            chosen.sort_indices()
        shape = (interactions.shape[0], len(self.ids))
        return csr_array((chosen.data, chosen.indices, chosen.indptr), shape=shape)

    def find(self, ids: Sequence[str], opened: TrainedRun) -> IntArray:
        """Return the place of each item among the candidates; -1 for one that is none.

        Raises:
            UnknownIdError: An id is neither in the data set nor new.
        """
        new = {str(item): at for at, item in enumerate(self.ids) if at >= len(self.rows)}
        known = [item for item in ids if item not in new]
        rows = dict(zip(known, opened.find("item", known), strict=True)) if known else {}
        places = [new[item] if item in new else self._place(rows[item]) for item in ids]
        return np.array(places, np.int64)

    def _place(self, row: int) -> int:
        place = int(np.searchsorted(self.rows, row))
        return place if place < len(self.rows) and self.rows[place] == row else -1


def run_note(info: EmbeddingsInfo) -> dict[str, str]:
    """Return what a table of new items says of the embeddings it belongs to."""
    return {RUN_NOTE: f"{info.fingerprint} {info.method} {info.dim} {info.step}"}


def _read(path: Path, opened: TrainedRun) -> tuple[pl.Series, FloatMatrix]:
    """Return ids, as text, and vectors."""
    wanted = run_note(opened.embeddings.info)
    try:
        notes, table = pl.read_parquet_metadata(path), pl.read_parquet(path, glob=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ConfigError(f"--new-items {path}: not a readable Parquet file") from error
    if not {"id", "embedding"} <= set(table.columns) or RUN_NOTE not in notes:
        raise ConfigError(f"--new-items {path}: not what recssl new-items writes")
    if notes[RUN_NOTE] != wanted[RUN_NOTE]:
        raise ConfigError(
            f"--new-items {path}: made with other embeddings than those of {opened.folder}; call"
            " recssl new-items for this run"
        )
    ids = table["id"].cast(pl.String)
    known = ids.filter(ids.is_in(opened.dataset.item_ids.cast(pl.String).implode()))
    if len(known):
        raise ConfigError(f"--new-items {path}: {known[0]} is no new item; the data set has it")
    if ids.is_duplicated().any():
        twice = ids.filter(ids.is_duplicated())[0]
        raise ConfigError(f"--new-items {path}: {twice} stands in it twice; keep one of its rows")
    if not len(ids):
        raise ConfigError(f"--new-items {path}: no items in it")
    return ids, np.stack(table["embedding"].to_list()).astype(np.float32)


def require_learnt(places: IntArray, ids: Sequence[str]) -> None:
    """Raise if an item is no candidate.

    Raises:
        UnknownIdError: Naming those that are none.
    """
    missing = [item for item, place in zip(ids, places.tolist(), strict=True) if place < 0]
    if missing:
        raise UnknownIdError(nothing_learnt(missing, len(ids), "item"))


def nothing_learnt(missing: Sequence[str], count: int, side: str) -> str:
    """Say whom nothing is known of."""
    shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
    return (
        f"nothing was learnt about {len(missing)} of {count} {side}(s): {shown}; none of"
        " their interactions is in what the run was trained on"
    )
