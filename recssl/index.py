"""A FAISS index of item embeddings by inner product, and how much it finds of the exact ranking.

FAISS is loaded only when an index is built or read.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from recssl.faiss_library import load_faiss
from recssl.fold_in import FloatMatrix
from recssl.matrices import IntArray
from recssl.retrieval import EmbeddingScorer, ScoreArray, top_k
from recssl.settings.export import IndexConfig, IndexKind
from sslcore.errors import CheckpointError, ConfigError, OutputError

_CODES = 256  # of a product quantiser; it cannot be trained on fewer items
_POINTS_PER_LIST = 39  # FAISS warns below it
_EFFORTS = {"hnsw": 64, "ivf_pq": 8}  # where the doubling begins
_MOST_EFFORT = 2048
_LITTLE = 0.002  # gain in recall for which doubling the effort is not worth it
_ROUNDING = 1e-5


@dataclass(slots=True)
class ItemIndex:
    """An index whose ids are those given to `build`.

    Attributes:
        kind: What it is.
        parameters: How it was built, and its search effort.
    """

    kind: IndexKind
    parameters: dict[str, Any]
    _index: Any = field(repr=False)
    _base: Any = field(repr=False)

    @classmethod
    def build(cls, items: FloatMatrix, ids: IntArray, config: IndexConfig) -> "ItemIndex":
        """Build an index.

        Args:
            items: `[num_items, dim]`; scores are inner products with them.
            ids: What a search returns for each of them, `[num_items]`.
            config: Kind and parameters.

        Raises:
            ConfigError: FAISS is not installed, or the settings do not fit the items.
        """
        faiss = _faiss()
        kind = choose_kind(config, len(items))
        base, parameters = _empty(faiss, kind, items.shape, config)
        rows = np.ascontiguousarray(items, np.float32)
        if not base.is_trained:
            base.train(rows)
        index = faiss.IndexIDMap(base)
        index.add_with_ids(rows, np.ascontiguousarray(ids, np.int64))
        return cls(kind, parameters, index, base)

    @property
    def library(self) -> str:
        """What built it, with its version."""
        return f"faiss {_faiss().__version__}"

    def set_effort(self, effort: int) -> None:
        """Choose how much is looked at: hnsw candidates, or ivf_pq lists. Flat has no choice."""
        if self.kind == "hnsw":
            self._base.hnsw.efSearch = effort
            self.parameters["ef_search"] = effort
        elif self.kind == "ivf_pq":
            self._base.nprobe = effort
            self.parameters["nprobe"] = effort

    def search(self, queries: FloatMatrix, k: int) -> tuple[IntArray, ScoreArray]:
        """Return ids and scores of the `k` best items per query, `[queries, k]`; -1 for none."""
        scores, ids = self._index.search(np.ascontiguousarray(queries, np.float32), k)
        return ids, scores

    def write(self, path: Path) -> None:
        """Write the index for `faiss.read_index`.

        Raises:
            OutputError: It cannot be written.
        """
        try:
            _faiss().write_index(self._index, str(path))
        except RuntimeError as error:
            raise OutputError(f"cannot write {path}: {error}") from error


def choose_kind(config: IndexConfig, num_items: int) -> IndexKind:
    """Return the kind of index that `config` asks for, at this number of items."""
    if config.kind != "auto" and config.kind != "none":
        return config.kind
    if num_items <= config.flat_up_to:
        return "flat"
    return "hnsw" if num_items <= config.hnsw_up_to else "ivf_pq"


def read_index(path: Path) -> Any:
    """Read an index that `ItemIndex.write` wrote.

    Raises:
        CheckpointError: There is none, or it is damaged.
    """
    try:
        return _faiss().read_index(str(path))
    except RuntimeError as error:
        raise CheckpointError(f"{path}: no index that can be read: {error}") from error


def tune(
    index: ItemIndex, items: FloatMatrix, ids: IntArray, users: FloatMatrix, config: IndexConfig
) -> dict[str, Any]:
    """Raise the search effort until the recall is reached, and say what was found.

    Compared is the inner product over all items, seen ones too, for the queries `users`. The
    recall is that of the index's own order, `recall@k`, and of the same `k` ranks if
    `candidates` items are fetched and put in order by their exact scores. A compressed index
    aims with the second, others with the first.

    Args:
        index: Its effort is left at the value chosen.
        items: As in `ItemIndex.build`.
        ids: Likewise.
        users: Queries, `[users, dim]`.
        config: Aim and ranks.

    Returns:
        For export.json: the ranks, the recall at the effort chosen, and all efforts tried.
    """
    k = min(config.k, len(items))
    fetched = min(max(config.candidates, k), len(items))
    nothing_seen = csr_array((len(users), len(items)), dtype=np.float32)
    exact = top_k(EmbeddingScorer(users, items), np.arange(len(users)), nothing_seen, k)
    order = np.argsort(ids)
    aim = f"recall@{k}" + (f"_of_{fetched}" if index.kind == "ivf_pq" else "")
    tried: list[dict[str, Any]] = []
    for effort in _efforts(index, fetched):
        index.set_effort(effort)
        began = time.perf_counter()
        found, _ = index.search(users, fetched)
        seconds = time.perf_counter() - began
        rows = np.where(found >= 0, order[np.searchsorted(ids[order], np.maximum(found, 0))], -1)
        reached = {
            "effort": effort,
            f"recall@{k}": _recall(rows[:, :k], exact.scores, users, items),
            f"recall@{k}_of_{fetched}": _recall(rows, exact.scores, users, items),
            "queries_per_second": round(len(users) / max(seconds, 1e-9)),
        }
        gain = reached[aim] - tried[-1][aim] if tried else math.inf
        tried.append(reached)
        if reached[aim] >= config.target_recall or gain < _LITTLE:
            break
    last = {name: value for name, value in tried[-1].items() if name != "effort"}
    return {"k": k, "candidates": fetched, "users": len(users), **last, "tried": tried}


def _recall(rows: IntArray, exact: ScoreArray, users: FloatMatrix, items: FloatMatrix) -> float:
    """Return which share of the `k` best scores is found; equal scores stand for each other."""
    hits = 0
    for query, found, best in zip(users, rows, exact, strict=True):
        scores = items[found[found >= 0]] @ query
        edge = best[-1] - _ROUNDING * max(float(np.abs(best).max()), 1e-12)
        hits += min(int((scores >= edge).sum()), len(best))
    return round(hits / max(exact.size, 1), 6)


def _efforts(index: ItemIndex, fetched: int) -> Iterator[int]:
    """Yield efforts, doubling; at least as many hnsw candidates as are fetched."""
    if index.kind == "flat":
        yield 0
        return
    is_hnsw = index.kind == "hnsw"
    most = _MOST_EFFORT if is_hnsw else int(index.parameters["lists"])
    effort = max(_EFFORTS[index.kind], fetched if is_hnsw else 0)
    while effort < most:
        yield effort
        effort *= 2
    yield most


def _empty(
    faiss: Any, kind: IndexKind, shape: tuple[int, ...], config: IndexConfig
) -> tuple[Any, dict[str, Any]]:
    num_items, dim = shape
    product = faiss.METRIC_INNER_PRODUCT
    if kind == "flat":
        return faiss.IndexFlat(dim, product), {}
    if kind == "hnsw":
        hnsw = faiss.IndexHNSWFlat(dim, config.links, product)
        hnsw.hnsw.efConstruction = config.build_effort
        return hnsw, {"links": config.links, "ef_construction": config.build_effort}
    if num_items < _CODES:
        raise ConfigError(
            f"index ivf_pq needs at least {_CODES} items, there are {num_items};"
            " set index.kind: flat"
        )
    lists = config.lists or min(int(4 * math.sqrt(num_items)), num_items // _POINTS_PER_LIST)
    lists = max(1, min(lists, num_items))
    code_bytes = config.code_bytes or _half_divisor(dim)
    if dim % code_bytes:
        raise ConfigError(f"index.code_bytes {code_bytes} is no divisor of dim {dim}")
    ivf = faiss.IndexIVFPQ(faiss.IndexFlat(dim, product), dim, lists, code_bytes, 8, product)
    ivf.cp.min_points_per_centroid = ivf.pq.cp.min_points_per_centroid = 1  # else it prints
    return ivf, {"lists": lists, "code_bytes": code_bytes}


def _half_divisor(dim: int) -> int:
    return next(size for size in range(max(dim // 2, 1), 0, -1) if dim % size == 0)


def _faiss() -> Any:
    return load_faiss("an index", way_out="index.kind: none")
