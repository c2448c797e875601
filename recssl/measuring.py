"""The users on whom all methods are measured alike, and what is found out about one method."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from recssl.bootstrap import interval, resampled_means
from recssl.errors import DatasetError
from recssl.fold_in import rows_without
from recssl.matrices import IntArray, binary, count_entries, count_users, union
from recssl.metrics import (
    FloatArray,
    find_hits,
    list_metrics,
    per_user_metrics,
    popularity_buckets,
    recall_by_bucket,
)
from recssl.new_users import ScoresNewUsers, keep_rows
from recssl.parts import Split, learnt_of
from recssl.retrieval import Scorer, top_k
from recssl.settings.evaluate import EvaluateConfig

GROUPS = ("few", "some", "many")  # known interactions of the user, by terciles

_CHUNK = 4096


@dataclass(frozen=True, slots=True)
class Measured:
    """One method on the users of a panel.

    Attributes:
        per_user: `[users, metrics]`.
        resampled: Means over resampled users, `[resamples, 1 + groups, metrics]`.
        lists: See `recssl.metrics.list_metrics`.
        buckets: Per k, see `recssl.metrics.recall_by_bucket`.
    """

    per_user: FloatArray
    resampled: FloatArray
    lists: dict[str, float]
    buckets: dict[str, list[dict[str, Any]]]


class Panel:
    """The users that are measured: those with something to find that they have not seen."""

    def __init__(
        self, split: Split, config: EvaluateConfig, *, knows_everybody: bool = False
    ) -> None:
        """Choose the users, and what they have seen.

        Seen are the training items, the support and, for the test part, the validation items; what
        a user has seen before is not counted as something to find. Users who have seen nothing that
        is learnt from are left out for all methods alike.

        Args:
            split: A data set, or its parts.
            config: What is measured.
            knows_everybody: Leave no user out, for a method that reads features of users.

        Raises:
            DatasetError: No user is left.
        """
        self.config = config
        for_test = config.part == "test"
        known = union(split.train, split.support)
        self._seen = union(known, split.valid) if for_test else known
        self._masked = ["train", *["valid"] * for_test, *["support"] * bool(split.support.nnz)]
        wanted = binary(split.test if for_test else split.valid)
        self._relevant = wanted - wanted.multiply(binary(self._seen))
        self._relevant.eliminate_zeros()
        self._relevant.sort_indices()
        self.known_before = int(wanted.nnz - self._relevant.nnz)
        learn_from = (config.baselines.refit_on if for_test else None) or "train"
        learnt = learnt_of(split, learn_from)
        self.users = self._choose(None if knows_everybody else learnt)
        self._num_relevant = count_entries(self._relevant, self.users)
        self._history = count_entries(known, self.users)
        is_new = count_entries(learnt, self.users) == 0
        self.without_history = int(is_new.sum())
        is_measured = np.zeros(known.shape[0], np.bool_)
        is_measured[self.users] = True
        self._known = keep_rows(self._seen, is_measured)
        self.groups, self.group_names = _terciles(self._history)
        self._popularity = count_users(split.train)
        self._buckets = popularity_buckets(self._popularity, config.buckets)
        self.metrics: tuple[str, ...] = ()

    def _choose(self, learnt: csr_array | None) -> IntArray:
        """Return the users that are measured: all, or those of whom something in `learnt` is known.

        Raises:
            DatasetError: There are none.
        """
        part = self.config.part
        users = np.flatnonzero(count_entries(self._relevant))
        if not len(users):
            raise DatasetError(
                f"no user has an unseen interaction in part {part}: nothing to measure"
            )
        known = users
        if learnt is not None:
            known = np.delete(users, rows_without(self._seen[users], learnt))
        self.left_out = len(users) - len(known)
        if not len(known):
            raise DatasetError(
                f"of none of the {len(users)} users with something to find in part {part} is"
                " anything known that was learnt from; ingest with another --split (new_users"
                " keeps a known part), or train encoder towers on user features"
            )
        return _sample(known, self.config)

    def how_new_users(self, scorer: Scorer) -> str | None:
        """Say how a method scores the users without a learnt interaction; None without any."""
        if not self.without_history:
            return None
        return scorer.new_users if isinstance(scorer, ScoresNewUsers) else "like all users"

    def measure(self, scorer: Scorer, advance: Callable[[int], None]) -> Measured:
        """Rank all unseen items for every user, and compute everything.

        Args:
            scorer: Of the users and items of the split.
            advance: Told the number of users done since the last call.
        """
        lists, per_user = self._rank(scorer, advance)
        config = self.config
        resampled = resampled_means(
            per_user, self.groups, len(self.group_names), count=config.resamples, seed=config.seed
        )
        num_users = self._seen.shape[0]
        buckets = {
            f"recall@{k}": recall_by_bucket(lists, self.users, self._relevant, self._buckets, k)
            for k in config.ks
        }
        summary = list_metrics(lists, self._popularity, num_users, config.ks)
        return Measured(per_user, resampled, summary, buckets)

    def mean(self, scorer: Scorer, name: str, advance: Callable[[int], None]) -> float:
        """Return the mean of one metric, such as `ndcg@20`, without the rest."""
        per_user = self._rank(scorer, advance)[1]
        return float(per_user[:, self.metrics.index(name)].mean())

    def describe(self) -> dict[str, Any]:
        """Say how it was measured, for metrics.json."""
        with_items = int((count_entries(self._relevant) > 0).sum())
        config = self.config
        return {
            "part": config.part,
            "ranked": "all items",
            "masked": self._masked,
            "users": len(self.users),
            "users_with_items_to_find": with_items,
            "users_without_history": self.without_history,
            "users_unknown_left_out": self.left_out,
            "already_seen_not_counted": self.known_before,
            "ks": list(config.ks),
            "groups": self._describe_groups(),
            "interval": {"level": 0.95, "unit": "user", "resamples": config.resamples},
        }

    def result(self, found: Measured) -> dict[str, Any]:
        """Return one method's part of metrics.json."""
        return {
            "metrics": self._intervals(found, 0),
            "lists": found.lists,
            "by_group": {
                name: self._intervals(found, 1 + group)
                for group, name in enumerate(self.group_names)
            },
            "by_popularity": found.buckets,
        }

    def differences(self, ours: Measured, theirs: Measured) -> dict[str, Any]:
        """Return the paired difference of every metric, with its interval."""
        points = (ours.per_user - theirs.per_user).mean(0)
        paired = ours.resampled[:, 0] - theirs.resampled[:, 0]
        return {
            name: interval(float(points[column]), paired[:, column])
            for column, name in enumerate(self.metrics)
        }

    def _rank(self, scorer: Scorer, advance: Callable[[int], None]) -> tuple[IntArray, FloatArray]:
        """Return the lists, `[users, largest k]`, and the metrics, `[users, metrics]`."""
        if self.without_history and isinstance(scorer, ScoresNewUsers):
            scorer = scorer.with_known(self._known)
        lists, values = [], []
        for start in range(0, len(self.users), _CHUNK):
            users = self.users[start : start + _CHUNK]
            best = top_k(scorer, users, self._seen, max(self.config.ks)).items
            hits = find_hits(best, users, self._relevant)
            found = per_user_metrics(
                hits, self._num_relevant[start : start + _CHUNK], self.config.ks
            )
            self.metrics = tuple(found)
            lists.append(best)
            values.append(np.stack(list(found.values()), axis=1))
            advance(len(users))
        return np.concatenate(lists), np.concatenate(values)

    def _intervals(self, found: Measured, group: int) -> dict[str, Any]:
        inside = slice(None) if group == 0 else self.groups == group - 1
        points = found.per_user[inside].mean(0)
        return {
            name: interval(float(points[column]), found.resampled[:, group, column])
            for column, name in enumerate(self.metrics)
        }

    def _describe_groups(self) -> list[dict[str, Any]]:
        described = []
        for group, name in enumerate(self.group_names):
            history = self._history[self.groups == group]
            least, most = int(history.min()), int(history.max())
            described.append(
                {"name": name, "users": len(history), "least_history": least, "most_history": most}
            )
        return described


def _sample(users: IntArray, config: EvaluateConfig) -> IntArray:
    if config.max_users is None or len(users) <= config.max_users:
        return users
    rng = np.random.default_rng(config.seed)
    return np.sort(rng.choice(users, config.max_users, replace=False))


def _terciles(history: IntArray) -> tuple[IntArray, Sequence[str]]:
    """Group users by the length of their history; equal lengths share a group, none is empty."""
    edges = np.quantile(history, [1 / 3, 2 / 3], method="higher")
    groups = np.searchsorted(edges, history, side="left")
    present, renumbered = np.unique(groups, return_inverse=True)
    return renumbered, [GROUPS[group] for group in present]
