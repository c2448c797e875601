"""How a run does: collapse measures always, validation recall where there is a validation part."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from recssl.fold_in import rows_without
from recssl.matrices import count_entries, count_users, union
from recssl.metrics import find_hits, ndcg, popularity_buckets, recall, recall_by_bucket
from recssl.new_users import unlearnt
from recssl.popularity_column import ridge_users, taste
from recssl.readout import Readout
from recssl.retrieval import EmbeddingScorer, top_k
from recssl.settings.export import FoldInConfig
from sslcore.diagnostics import Health, measure_health
from sslcore.errors import DivergedError
from sslcore.training.loop import WAY_OUT

RANKS = 20
BUCKETS = ("rare", "middle", "popular")  # each with a third of the training interactions
_SAMPLES = 1024  # users, and items, whose embeddings are compared with each other


@dataclass(frozen=True, slots=True)
class RecMeasurement:
    """One line of the health log.

    Attributes:
        health: Of users and items, which are not compared with each other: of spread and
            effective rank the lower one, so that the collapse of one side is seen, of uniformity
            the mean; the alignment is that of users with their items.
        recall: Of validation items among the first 20, 0 to 1; None without a validation part.
        ndcg: Likewise.
        buckets: Recall of the items of each popularity bucket, where any is wanted.
        users: `[num_users, dim]`, as they would be stored.
        items: `[num_items, dim]`, likewise.
    """

    health: Health
    recall: float | None
    ndcg: float | None
    buckets: dict[str, float]
    users: NDArray[np.float32]
    items: NDArray[np.float32]

    def as_record(self) -> dict[str, float]:
        """Return all numbers that were measured, by name."""
        ranks = {f"recall@{RANKS}": self.recall, f"ndcg@{RANKS}": self.ndcg}
        numbers: dict[str, float | None] = {**asdict(self.health), **ranks}
        numbers |= {f"recall@{RANKS}_{name}": value for name, value in self.buckets.items()}
        return {name: value for name, value in numbers.items() if value is not None}

    def facts(self) -> dict[str, str]:
        """Return what is worth showing during training."""
        return {} if self.recall is None else {f"recall@{RANKS}": f"{self.recall:.4f}"}


class RecMonitor:
    """Measures an encoder on fixed users and items, and leaves no trace in it.

    Attributes:
        num_users: Validation users that are measured.
        left_out: Users with validation items of whom nothing is known that is learnt from.
    """

    def __init__(
        self,
        embed: Callable[[], tuple[Tensor, Tensor]],
        readout: Readout,
        train: csr_array,
        valid: csr_array,
        *,
        support: csr_array | None = None,
        num_users: int,
        seed: int,
    ) -> None:
        """Choose whom to measure on.

        Args:
            embed: Returns all users and all items.
            readout: Makes embeddings as they are stored.
            train: What is learnt from, `[users, items]`; never recommended.
            valid: What recall is measured on; may be empty.
            support: What is known of users without an entry in `train`, who are folded in from it
                and never scored by their untrained rows; None for an encoder that reads features,
                which knows all users.
            num_users: Validation users looked at, at most.
            seed: Of the choice.
        """
        self._embed = embed
        self._readout = readout
        self._train = train
        self._valid = valid
        rng = np.random.default_rng(seed)
        with_items = np.flatnonzero(np.diff(valid.indptr))
        self._seen = train if support is None else union(train, unlearnt(support, train))
        known = with_items
        if support is not None:
            known = np.delete(with_items, rows_without(self._seen[with_items], train))
        self.left_out = len(with_items) - len(known)
        self._panel = np.sort(rng.permutation(known)[:num_users])
        self.num_users = len(self._panel)
        is_new = count_entries(train, self._panel) == 0
        self._new = self._panel[is_new] if support is not None else self._panel[:0]
        self._buckets = popularity_buckets(count_users(train), len(BUCKETS))
        self._pairs = _sample_pairs(train, rng)

    def measure(self) -> RecMeasurement:
        """Measure now.

        Raises:
            DivergedError: An embedding is not finite.
        """
        users, items = self._embed()
        if not (users.isfinite().all() and items.isfinite().all()):
            raise DivergedError(f"the encoder gives embeddings that are not finite; {WAY_OUT}")
        health = self._health(users, items)
        stored_users, stored_items = self._readout(users, items)
        if not len(self._panel):
            return RecMeasurement(health, None, None, {}, stored_users, stored_items)
        scorer = EmbeddingScorer(self._folded(stored_users, stored_items), stored_items)
        found = top_k(scorer, self._panel, self._seen, RANKS).items
        hits = find_hits(found, self._panel, self._valid)
        wanted = count_entries(self._valid, self._panel)
        rows = recall_by_bucket(found, self._panel, self._valid, self._buckets, RANKS)
        return RecMeasurement(
            health,
            float(recall(hits, wanted, RANKS).mean()),
            float(ndcg(hits, wanted, RANKS).mean()),
            _named(rows),
            stored_users,
            stored_items,
        )

    def _folded(
        self, users: NDArray[np.float32], items: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the users, those measured ones that are not trained folded in."""
        if not len(self._new):
            return users
        weight = self._readout.popularity
        fold_in = ridge_users(
            self._train,
            taste(users, weight),
            taste(items, weight),
            FoldInConfig(),
            popularity=weight,
        )
        rows = users.copy()
        rows[self._new] = fold_in.embed(self._seen[self._new])
        return rows

    def _health(self, users: Tensor, items: Tensor) -> Health:
        pair_users, pair_items = (
            side[torch.from_numpy(rows).to(side.device)]
            for side, rows in zip((users, items), self._pairs, strict=True)
        )
        of_users = measure_health(pair_users, (pair_users, pair_items))
        of_items = measure_health(pair_items, (pair_users, pair_items))
        return Health(
            spread=min(of_users.spread, of_items.spread),
            effective_rank=min(of_users.effective_rank, of_items.effective_rank),
            alignment=of_users.alignment,
            uniformity=(of_users.uniformity + of_items.uniformity) / 2,
        )


def _sample_pairs(
    train: csr_array, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw training pairs, each user and each item at most once."""
    edges = rng.choice(train.nnz, min(train.nnz, 16 * _SAMPLES), replace=False)
    users = np.searchsorted(train.indptr, edges, side="right") - 1
    items = np.asarray(train.indices[edges], np.int64)
    kept = np.zeros(len(edges), np.bool_)
    kept[np.unique(users, return_index=True)[1]] = True
    users, items = users[kept], items[kept]
    first = np.unique(items, return_index=True)[1][:_SAMPLES]
    return users[first], items[first]


def _named(rows: list[dict[str, Any]]) -> dict[str, float]:
    found = {name: row["recall"] for name, row in zip(BUCKETS, rows, strict=False)}
    return {name: value for name, value in found.items() if value is not None}
