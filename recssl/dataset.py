"""The folder that `recssl ingest` writes and all later commands read.

The interactions stand in it twice: as one table with times, for those who ask when, and as one
CSR matrix `[users, items]` per part, memory-mapped, for those who train and rank.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import csr_array

from recssl.dataset_summary import summarise
from recssl.errors import DatasetError, UnknownIdError
from recssl.fingerprint import digest_features, digest_ids, digest_values
from recssl.parts import LearnFrom, Parts, learnt_of
from sslcore.files import require_new_folder, whole_folder

PARTS = ("train", "valid", "test")
SUPPORT = "support"  # what is known of users whom train does not have; written if there is any
PART = pl.Enum((*PARTS, SUPPORT))
INTERACTIONS: dict[str, pl.DataType | type[pl.DataType]] = {
    "user": pl.Int32,
    "item": pl.Int32,
    "weight": pl.Float32,
    "time": pl.Int64,
    "part": PART,
}
BAD_LINES = {"file": pl.String, "line": pl.Int64, "reason": pl.String}
_FORMAT = 1
_FACTS = "dataset.json"
_INT32_MAX = np.iinfo(np.int32).max


class Dataset:
    """An open data set. Matrices and tables are read when they are first asked for."""

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """Open `folder`; `open_dataset` reads its `facts` and checks them."""
        self.folder = folder
        self.facts = facts
        self.fingerprint: str = facts["fingerprint"]
        self.num_users: int = facts["num_users"]
        self.num_items: int = facts["num_items"]
        self.has_times: bool = facts["has_times"]

    @cached_property
    def train(self) -> csr_array:
        """What may be learnt from, `[users, items]`, float32, memory-mapped, read-only."""
        return self._matrix("train")

    @cached_property
    def valid(self) -> csr_array:
        """What settings are chosen on, like `train`."""
        return self._matrix("valid")

    @cached_property
    def test(self) -> csr_array:
        """What is looked at once, like `train`."""
        return self._matrix("test")

    @cached_property
    def support(self) -> csr_array:
        """What is known of users of valid and test whom train does not have, like `train`."""
        if (self.folder / SUPPORT).exists():
            return self._matrix(SUPPORT)
        return csr_array((self.num_users, self.num_items), dtype=np.float32)

    def learnt(self, learn_from: LearnFrom) -> csr_array:
        """Return what a run with this `data.learn_from` trains on; see `learnt_of`."""
        return learnt_of(self, learn_from)

    @property
    def parts(self) -> Parts:
        """The matrices of `PARTS`."""
        return Parts(self.train, self.valid, self.test)

    @cached_property
    def users(self) -> pl.DataFrame:
        """One row per user: `user` (the row number), `id`, and features if there are any."""
        return self._table("users")

    @cached_property
    def items(self) -> pl.DataFrame:
        """One row per item: `item` (the row number), `id`, and features if there are any."""
        return self._table("items")

    @property
    def user_ids(self) -> pl.Series:
        """The ids of the log, in row order, Int64 or String."""
        return self.users["id"]

    @property
    def item_ids(self) -> pl.Series:
        """The ids of the log, in row order, Int64 or String."""
        return self.items["id"]

    @property
    def interactions(self) -> pl.LazyFrame:
        """All parts as one table, sorted by user, time, item; `INTERACTIONS` are its columns."""
        return pl.scan_parquet(self.folder / "interactions.parquet", glob=False)

    def find_users(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Return the row of each id, `[ids]`; `"5"` finds the integer 5.

        Raises:
            UnknownIdError: Naming the ids that are not in the data set.
        """
        return _find(self.users, "user", ids, self.folder)

    def find_items(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Like `find_users`."""
        return _find(self.items, "item", ids, self.folder)

    def _table(self, name: str) -> pl.DataFrame:
        try:
            return pl.read_parquet(self.folder / f"{name}.parquet", glob=False)
        except (OSError, pl.exceptions.ComputeError) as error:
            raise _damaged(self.folder, f"{name}.parquet", error) from error

    def _matrix(self, part: str) -> csr_array:
        place = self.folder / part
        try:
            indptr, indices, weights = (
                np.load(place / f"{name}.npy", mmap_mode="r")
                for name in ("indptr", "indices", "weights")
            )
        except (OSError, ValueError) as error:
            raise _damaged(self.folder, part, error) from error
        fits = len(indptr) == self.num_users + 1 and indptr[-1] == len(indices) == len(weights)
        if not fits:
            raise _damaged(self.folder, part, "its arrays do not fit together")
        matrix = csr_array((weights, indices, indptr), shape=(self.num_users, self.num_items))
        matrix.has_sorted_indices = True  # as written; scipy would read everything to find out
        matrix.has_canonical_format = True
        return matrix


def is_dataset(folder: Path) -> bool:
    """Tell whether `recssl ingest` wrote a folder, damaged or not."""
    return (folder / _FACTS).is_file()


def open_dataset(folder: Path) -> Dataset:
    """Open what `recssl ingest` wrote.

    Raises:
        DatasetError: The folder holds no data set, a damaged one, or one of a newer format.
    """
    try:
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        message = f"{folder} is not a data set: it has no {_FACTS}; make one with recssl ingest"
        raise DatasetError(message) from error
    except NotADirectoryError as error:
        message = f"{folder} is a file, not a data set; make one of it first: recssl ingest"
        raise DatasetError(f"{message} {folder} --out DIR") from error
    except (OSError, ValueError) as error:
        raise _damaged(folder, _FACTS, error) from error
    needed = {"format", "fingerprint", "num_users", "num_items", "has_times"}
    if not isinstance(facts, dict) or needed - facts.keys():
        raise _damaged(folder, _FACTS, "keys are missing")
    if facts["format"] != _FORMAT:
        raise DatasetError(
            f"{folder}: data set of format {facts['format']}, this version reads {_FORMAT}; "
            "ingest the log again"
        )
    return Dataset(folder, facts)


def write_dataset(
    folder: Path,
    interactions: pl.DataFrame,
    users: pl.DataFrame,
    items: pl.DataFrame,
    *,
    config: str = "",
    split: Mapping[str, Any] | None = None,
    bad_lines: pl.DataFrame | None = None,
) -> Dataset:
    """Write a data set, whole or not at all, and open it.

    Args:
        folder: Must not exist, or be empty.
        interactions: Columns of `INTERACTIONS`; each pair of user and item at most once per part;
            any order. `time` is in microseconds since 1970, or null everywhere.
        users: `user` (0, 1, 2, ...), `id` (unique), and feature columns.
        items: `item` (0, 1, 2, ...), `id` (unique), and feature columns.
        config: Text of `config.yaml`: how the data set was made.
        split: How the parts were made, for `dataset.json`.
        bad_lines: Columns of `BAD_LINES`.

    Raises:
        DatasetError: The tables do not fit together.
        OutputError: The folder exists, or cannot be written.
    """
    require_new_folder(folder, way_out="choose another folder, or remove it")
    _require_numbered(users, "user", interactions)
    _require_numbered(items, "item", interactions)
    columns = [pl.col(name).cast(dtype) for name, dtype in INTERACTIONS.items()]
    table = interactions.select(columns).sort("user", "time", "item")
    shape = (len(users), len(items))
    digest = blake2b(digest_size=16)
    with whole_folder(folder) as draft:
        matrices: dict[str, csr_array] = {}
        for part in (*PARTS, SUPPORT):
            matrix = _matrix_of(table.filter(part=part).select("user", "item", "weight"), shape)
            if matrix.nnz or part != SUPPORT:
                _write_matrix(draft / part, matrix, digest)
                matrices[part] = matrix
        for ids in (users["id"], items["id"]):
            digest_ids(ids, digest)
        digest_features(users.drop("user", "id"), "user", digest)
        digest_features(items.drop("item", "id"), "item", digest)
        has_times = bool(len(table)) and table["time"].null_count() == 0
        if has_times:
            digest_values(digest, table["time"].to_numpy())
        facts = {"format": _FORMAT, "fingerprint": digest.hexdigest(), "has_times": has_times}
        facts |= {"num_users": shape[0], "num_items": shape[1], "split": dict(split or {})}
        facts |= summarise(matrices)
        (draft / _FACTS).write_text(json.dumps(facts, indent=2), encoding="utf-8")
        (draft / "config.yaml").write_text(config, encoding="utf-8")
        table.write_parquet(draft / "interactions.parquet", compression="lz4")
        users.cast({"user": pl.Int32}).write_parquet(draft / "users.parquet")
        items.cast({"item": pl.Int32}).write_parquet(draft / "items.parquet")
        bad = pl.DataFrame(schema=BAD_LINES) if bad_lines is None else bad_lines
        bad.write_parquet(draft / "bad_lines.parquet")
    return open_dataset(folder)


def _matrix_of(table: pl.DataFrame, shape: tuple[int, int]) -> csr_array:
    """Build a CSR matrix of a table that is sorted by user."""
    counts = np.bincount(table["user"].to_numpy(), minlength=shape[0])
    indptr = np.zeros(shape[0] + 1, dtype=np.int32 if len(table) <= _INT32_MAX else np.int64)
    np.cumsum(counts, out=indptr[1:])
    items = np.array(table["item"].to_numpy(), dtype=indptr.dtype)
    weights = np.array(table["weight"].to_numpy())
    matrix = csr_array((weights, items, indptr), shape=shape)
    matrix.sort_indices()
    if not matrix.has_canonical_format:
        raise DatasetError("a pair of user and item stands twice in one part; merge duplicates")
    return matrix


def _write_matrix(place: Path, matrix: csr_array, digest: blake2b) -> None:
    place.mkdir()
    indices = matrix.indices.astype(np.int32, copy=False)
    for name, values in (
        ("indptr", matrix.indptr),
        ("indices", indices),
        ("weights", matrix.data),
    ):
        np.save(place / f"{name}.npy", values)
        digest_values(digest, values)


def _require_numbered(table: pl.DataFrame, name: str, interactions: pl.DataFrame) -> None:
    count = len(table)
    if not (table[name].to_numpy() == np.arange(count)).all():
        raise DatasetError(f"{name}: expected the numbers 0 to {count - 1} in order")
    if table["id"].n_unique() != count or table["id"].null_count():
        raise DatasetError(f"{name}: ids must be unique and not null")
    if len(interactions):
        numbers = interactions[name].to_numpy()  # with nulls: floats, NaN
        low, high = float(numbers.min()), float(numbers.max())
        if not (low >= 0 and high < count):
            raise DatasetError(f"{name}: interactions run from {low:g} to {high:g}, of {count}")


def _find(table: pl.DataFrame, name: str, ids: Sequence[str], folder: Path) -> NDArray[np.int64]:
    wanted = pl.DataFrame({"id": pl.Series([str(value) for value in ids], dtype=pl.String)})
    known = table.select("id", name)
    if known["id"].dtype != pl.String:
        numbers = pl.col("id").cast(known["id"].dtype, strict=False)
        is_same = numbers.cast(pl.String) == pl.col("id")  # "05" is no way to write 5
        wanted = wanted.with_columns(pl.when(is_same).then(numbers).alias("id"))
    rows = wanted.join(known, on="id", how="left", maintain_order="left")[name]
    missing = [str(value) for value, gone in zip(ids, rows.is_null(), strict=True) if gone]
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise UnknownIdError(
            f"{len(missing)} of {len(ids)} {name} id(s) are not in {folder}: {shown}"
        )
    return rows.to_numpy().astype(np.int64)


def _damaged(folder: Path, part: str, reason: object) -> DatasetError:
    return DatasetError(f"{folder}: {part} is missing or damaged ({reason}); ingest the log again")
