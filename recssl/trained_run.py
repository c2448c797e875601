"""A finished run opened together with its data set: where export and recommendation begin."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import csr_array

from recssl.dataset import Dataset, open_dataset
from recssl.encoders.towers import has_features
from recssl.errors import DatasetError, UnknownIdError
from recssl.feature_regression import FeatureRegression
from recssl.fold_in import FloatMatrix, FoldIn, PropagationFoldIn
from recssl.matrices import IntArray, count_entries, count_users, union
from recssl.popularity_column import FoldInBeside, log_popularity, ones, ridge_users, taste
from recssl.run_folder import Embeddings, RunFolder
from recssl.settings.export import FoldInConfig, Untrained
from recssl.settings.train import TowersConfig, TrainConfig
from sslcore.errors import CheckpointError

Side = Literal["user", "item"]

_COMPARED = 20_000  # ids among which the nearest to a wrong one is looked for


@dataclass(frozen=True, slots=True)
class TrainedRun:
    """What a run left, beside the data set it learnt from.

    Attributes:
        folder: Of the run.
        config: Of the run.
        dataset: The one the run was trained on.
        embeddings: Users and items.
        learnt: What the run learnt from, `[users, items]`: train, or train and valid.
    """

    folder: Path
    config: TrainConfig
    dataset: Dataset
    embeddings: Embeddings
    learnt: csr_array

    def reads_features(self, side: Side) -> bool:
        """Tell whether embeddings of a side come from features, so that none is untrained."""
        table = self.dataset.users if side == "user" else self.dataset.items
        return isinstance(self.config.encoder, TowersConfig) and has_features(table)

    def interactions(self, side: Side) -> IntArray:
        """Return how many interactions of each user or item were learnt from."""
        return count_entries(self.learnt) if side == "user" else count_users(self.learnt)

    def everything(self) -> csr_array:
        """Return all interactions that are known, learnt from or not, `[users, items]`."""
        dataset = self.dataset
        return union(union(dataset.train, dataset.support), union(dataset.valid, dataset.test))

    def usable(self, side: Side, untrained: Untrained) -> NDArray[np.bool_]:
        """Return the rows whose embeddings are worth using; see `ExportConfig.untrained`."""
        counts = self.interactions(side)
        is_kept = untrained == "keep" or (untrained == "auto" and self.reads_features(side))
        if is_kept or (untrained == "features" and side == "item"):
            return np.ones(len(counts), np.bool_)
        usable: NDArray[np.bool_] = counts > 0
        return usable

    def items(self, untrained: Untrained, settings: FoldInConfig) -> FloatMatrix:
        """Return the items, the untrained ones from their features where that is asked for.

        Raises:
            DatasetError: The data set has no item features.
        """
        items = self.embeddings.items
        gaps = np.flatnonzero(self.interactions("item") == 0)
        if untrained != "features" or not len(gaps):
            return items
        filled = items.copy()
        filled[gaps] = self.regression("item", settings).embed(self.dataset.items[gaps])
        return filled

    def regression(self, side: Side, settings: FoldInConfig) -> FeatureRegression:
        """Fit embeddings on features, from the rows that were trained.

        Raises:
            DatasetError: The side has no features.
        """
        is_user = side == "user"
        table = self.dataset.users if is_user else self.dataset.items
        rows = np.flatnonzero(self.interactions(side))
        targets = self.embeddings.users if is_user else self.embeddings.items
        return FeatureRegression.fit(table[rows], targets[rows], penalty=settings.feature_ridge)

    def fold_in_users(self, settings: FoldInConfig) -> FoldIn:
        """Prepare to embed users from their items."""
        weight = self.embeddings.info.popularity
        users, items = self._taste()
        if settings.users == "ridge":
            return ridge_users(self.learnt, users, items, settings, popularity=weight)
        moved = PropagationFoldIn(self.learnt, items, users, ridge=settings.map_ridge)
        return FoldInBeside(moved, ones) if weight else moved

    def fold_in_items(self, settings: FoldInConfig) -> FoldIn:
        """Prepare to embed items from the users who had them, fit to be ranked among others."""
        weight = self.embeddings.info.popularity
        users, items = self._taste()
        flipped = csr_array(self.learnt.T)
        moved = PropagationFoldIn(flipped, users, items, ridge=settings.map_ridge)
        if not weight:
            return moved
        return FoldInBeside(moved, lambda had: log_popularity(count_entries(had), weight))

    def _taste(self) -> tuple[FloatMatrix, FloatMatrix]:
        stored = self.embeddings
        return taste(stored.users, stored.info.popularity), taste(
            stored.items, stored.info.popularity
        )

    def find(self, side: Side, ids: Sequence[str]) -> IntArray:
        """Return the row of each id, `[ids]`.

        Raises:
            UnknownIdError: Naming the unknown ids, the nearest known one, and examples.
        """
        dataset = self.dataset
        try:
            return dataset.find_users(ids) if side == "user" else dataset.find_items(ids)
        except UnknownIdError as error:
            known = dataset.user_ids if side == "user" else dataset.item_ids
            raise UnknownIdError(f"{error}; {_hint(ids, known)}") from error


def open_run(run: Path, data: Path | None = None) -> TrainedRun:
    """Open a run and its data set.

    Args:
        run: Folder that `recssl train` wrote.
        data: The data set, if it is no longer where it was.

    Raises:
        CheckpointError: The run holds no embeddings, or damaged ones.
        ConfigError: Its configuration is missing or damaged.
        DatasetError: The data set is gone, or another one.
    """
    folder = RunFolder(run)
    embeddings = folder.read_embeddings()
    info = embeddings.info
    if data is None and not Path(info.data).exists():
        raise DatasetError(
            f"{run} was trained on {info.data}, which is gone; if it is elsewhere now, name it with"
            " --set data=DIR"
        )
    dataset = open_dataset(data or Path(info.data))
    if dataset.fingerprint != info.fingerprint:
        raise DatasetError(
            f"{run} was trained on the data set {info.fingerprint}, {dataset.folder} is"
            f" {dataset.fingerprint}; give the right one with --set data=DIR"
        )
    rows = (len(embeddings.users), len(embeddings.items))
    if rows != (dataset.num_users, dataset.num_items):
        raise CheckpointError(
            f"{run}: embeddings of {rows[0]} users and {rows[1]} items, the data set has"
            f" {dataset.num_users} and {dataset.num_items}; train again"
        )
    config = folder.read_config()
    learnt = dataset.learnt(config.data.learn_from)
    return TrainedRun(run, config, dataset, embeddings, learnt)


def _hint(ids: Sequence[str], known: pl.Series) -> str:
    """Return the nearest known id of the first unknown one, if any, and examples."""
    text = known.cast(pl.String)
    examples = ", ".join(text.head(3))
    unknown = next((wanted for wanted in map(str, ids) if not (text == wanted).any()), None)
    if unknown is None:
        return f"ids look like {examples}"
    plain = unknown.strip().lower()
    same = text.filter(text.str.strip_chars().str.to_lowercase() == plain).head(1).to_list()
    near = same or difflib.get_close_matches(unknown, text.head(_COMPARED).to_list(), n=1)
    return (f"did you mean {near[0]!r}? " if near else "") + f"ids look like {examples}"
