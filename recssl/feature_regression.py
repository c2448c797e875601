"""Embeddings of new users and items from their features, by regression on those of trained ones."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import csr_array, hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge

from recssl.errors import DatasetError
from sslcore.config import suggest

_OWN = {"user", "item", "id"}  # columns of every table, which are no features


class _Numbers:
    """A numeric column, standardised; a missing number is the mean."""

    def __init__(self, values: pl.Series) -> None:
        known = _floats(values).drop_nulls().to_numpy()
        self._mean = float(known.mean()) if len(known) else 0.0
        self._scale = float(known.std() if len(known) else 0.0) or 1.0

    def encode(self, values: pl.Series) -> csr_array:
        filled = _floats(values).fill_null(self._mean).to_numpy()
        return csr_array(((filled - self._mean) / self._scale)[:, None])


class _Words:
    """A text column as its words, the rare ones heavier; a row has length 1, or 0 without any."""

    def __init__(self, values: pl.Series) -> None:
        # a word of one row only says nothing about others
        texts = _texts(values)
        self._vectorizer = TfidfVectorizer(token_pattern=r"\S+")
        counts = pl.Series(texts).str.to_lowercase().str.extract_all(r"\S+").list.unique()
        words = counts.explode().drop_nulls().value_counts(name="rows")
        column = words.columns[0]
        shared = sorted(words.filter(pl.col("rows") > 1)[column].to_list())
        self._is_empty = not shared
        if shared:
            self._vectorizer.set_params(vocabulary=shared)
            self._vectorizer.fit(texts)

    def encode(self, values: pl.Series) -> csr_array:
        if self._is_empty:
            return csr_array((len(values), 0), dtype=np.float64)
        return csr_array(self._vectorizer.transform(_texts(values)))


class FeatureRegression:
    """Ridge regression from feature columns to embeddings.

    Text, and lists of text, count as words; numbers are standardised; booleans are words.
    """

    def __init__(self, columns: dict[str, _Numbers | _Words], model: Ridge) -> None:
        """Take fitted columns and the fitted model; see `fit`."""
        self._columns = columns
        self._model = model

    @classmethod
    def fit(
        cls, table: pl.DataFrame, targets: NDArray[np.float32], *, penalty: float
    ) -> "FeatureRegression":
        """Fit.

        Args:
            table: Features of the trained rows; the row number and the id are left out.
            targets: Their embeddings, `[rows, dim]`.
            penalty: Of the squared weights.

        Raises:
            DatasetError: There are no feature columns, or no rows.
        """
        columns: dict[str, _Numbers | _Words] = {}
        for name in table.columns:
            if name in _OWN:
                continue
            values = table[name]
            columns[name] = _Numbers(values) if values.dtype.is_numeric() else _Words(values)
        if not columns or not len(table):
            raise DatasetError(
                f"no features to learn from: {len(table)} trained rows with the columns"
                f" {table.columns}; ingest them with --item-features"
            )
        model = Ridge(alpha=penalty, solver="sparse_cg", tol=1e-6)
        model.fit(_encode(columns, table), targets.astype(np.float64))
        return cls(columns, model)

    def embed(self, table: pl.DataFrame) -> NDArray[np.float32]:
        """Embed rows, `[rows, dim]`, from the columns that `fit` saw.

        Raises:
            DatasetError: A column is missing.
        """
        missing = [name for name in self._columns if name not in table.columns]
        if missing:
            raise DatasetError(
                f"no feature column {missing[0]!r}; {suggest(missing[0], table.columns)}"
            )
        if not len(table):
            return np.zeros((0, len(self._model.intercept_)), np.float32)
        found = self._model.predict(_encode(self._columns, table))
        return np.asarray(found, np.float32).reshape(len(table), -1)


def _encode(columns: dict[str, _Numbers | _Words], table: pl.DataFrame) -> csr_array:
    parts = [column.encode(table[name]) for name, column in columns.items()]
    return csr_array(hstack(parts, format="csr"))


def _floats(values: pl.Series) -> pl.Series:
    return values.cast(pl.Float64, strict=False).fill_nan(None)


def _texts(values: pl.Series) -> Sequence[str]:
    if isinstance(values.dtype, pl.List):
        values = values.cast(pl.List(pl.String)).list.join(" ", ignore_nulls=True)
    return values.cast(pl.String).fill_null("").to_list()
