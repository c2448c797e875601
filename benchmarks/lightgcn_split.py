"""The adjacency text of the LightGCN data sets, read without the ingest command.

So the numbers that prove the metrics do not depend on it.
"""

from pathlib import Path

import numpy as np
from record import data_folder
from scipy.sparse import csr_array

from recssl.parts import Parts


def read_split(name: str) -> Parts:
    """Read `train.txt` and `test.txt`, lines `user item item ...`; there is no validation part.

    Args:
        name: Of the data set, see `data_folder`.
    """
    folder = data_folder(name)
    parts = {name: _pairs(folder / f"{name}.txt") for name in ("train", "test")}
    num_users, num_items = (
        1 + max(int(part[side].max()) for part in parts.values()) for side in (0, 1)
    )
    matrices = {
        name: _matrix(users, items, num_users, num_items) for name, (users, items) in parts.items()
    }
    nothing = np.zeros(0, np.int64)
    empty = _matrix(nothing, nothing, num_users, num_items)
    return Parts(matrices["train"], empty, matrices["test"])


def cut_validation(full: Parts, *, share: float, seed: int) -> Parts:
    """Move `share` of each user's training items, at least one of two or more, to `valid`."""
    rng = np.random.default_rng(seed)
    train = full.train
    lengths = np.diff(train.indptr)
    users = np.repeat(np.arange(train.shape[0]), lengths)
    order = np.lexsort((rng.random(train.nnz), users))
    rank = np.arange(train.nnz) - np.repeat(train.indptr[:-1], lengths)
    quota = np.where(lengths > 1, np.maximum(1, np.round(share * lengths)), 0)
    taken = np.zeros(train.nnz, bool)
    taken[order] = rank < quota[users]
    pieces = [
        _matrix(users[chosen], train.indices[chosen], *train.shape) for chosen in (~taken, taken)
    ]
    return Parts(pieces[0], pieces[1], full.test)


def _pairs(path: Path) -> tuple[np.ndarray, np.ndarray]:
    rows = [np.array(line.split(), np.int64) for line in path.read_text("utf-8").splitlines()]
    rows = [row for row in rows if len(row) > 1]
    users = np.repeat([row[0] for row in rows], [len(row) - 1 for row in rows])
    return users, np.concatenate([row[1:] for row in rows])


def _matrix(users: np.ndarray, items: np.ndarray, num_users: int, num_items: int) -> csr_array:
    ones = np.ones(len(users), np.float32)
    matrix = csr_array((ones, (users, items)), shape=(num_users, num_items))
    matrix.sum_duplicates()
    return matrix
