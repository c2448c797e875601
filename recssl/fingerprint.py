"""What goes into the fingerprint of a data set: ids, features and arrays, in blocks."""

from hashlib import blake2b
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray


def digest_ids(ids: pl.Series, digest: blake2b) -> None:
    """Take in the ids of users or items, in row order."""
    digest.update(str(ids.dtype).encode())
    if ids.dtype.is_integer():
        digest_values(digest, ids.to_numpy())
        return
    for start in range(0, len(ids), 1_000_000):
        digest.update("\0".join(ids.slice(start, 1_000_000).to_list()).encode())


def digest_features(features: pl.DataFrame, role: str, digest: blake2b) -> None:
    """Take in feature columns of one `role`, names and types included."""
    for column in features:
        digest.update(repr((role, column.name, str(column.dtype))).encode())
        for start in range(0, len(column), 100_000):
            digest.update(repr(column.slice(start, 100_000).to_list()).encode())


def digest_values(digest: blake2b, values: NDArray[Any]) -> None:
    """Take in an array, byte by byte."""
    digest.update(np.ascontiguousarray(values).data)
