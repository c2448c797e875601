"""Interactions as arrays: grouped by pair of user and item, filtered, merged.

A pair is a user and an item; its events are the times they met. Events stay sorted by pair, and
by time within a pair, so that everything per pair is a sum over a stretch of an array.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

_MICROSECONDS_PER_DAY = 86_400_000_000
Merge = Literal["last", "count", "sum", "decay"]


@dataclass
class Events:
    """Interactions sorted by user, item, time; without times, in the order of the log.

    Attributes:
        user: Row of the user, `[events]`, int32.
        item: Row of the item, `[events]`, int32.
        weight: `[events]`, float32.
        time: Microseconds since 1970, `[events]`, int64; or None.
        given: Part that the file stands for, `[events]`, uint8 (0 train, 1 valid, 2 test).
    """

    user: NDArray[np.int32]
    item: NDArray[np.int32]
    weight: NDArray[np.float32]
    time: NDArray[np.int64] | None
    given: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.user)

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> "Events":
        """Return some of the events, in the order of `chosen`."""
        time = None if self.time is None else self.time[chosen]
        columns = (self.user[chosen], self.item[chosen], self.weight[chosen])
        return Events(*columns, time, self.given[chosen])

    def starts(self) -> NDArray[np.int64]:
        """Return where the events of each pair begin, `[pairs]`."""
        if not len(self):
            return np.zeros(0, np.int64)
        new = np.empty(len(self), bool)
        new[0] = True
        np.not_equal(self.user[1:], self.user[:-1], out=new[1:])
        new[1:] |= self.item[1:] != self.item[:-1]
        return np.flatnonzero(new)


def sorted_events(rows: pl.DataFrame) -> Events:
    """Sort the rows of `number_rows`."""
    columns = {name: rows[name].to_numpy() for name in rows.columns}
    time = columns.get("time")
    given = columns["given"]
    key = columns["user"].astype(np.int64)
    key *= int(columns["item"].max()) + 1
    key += columns["item"]
    order = np.argsort(key, kind="stable")
    if time is not None:
        key = key[order]
        same = key[1:] == key[:-1]
        if same.any():  # only these need the time, and often they are few
            repeated = np.zeros(len(key), bool)
            repeated[1:] = same
            repeated[:-1] |= same
            some = order[repeated]
            order[repeated] = some[np.lexsort((time[some], key[repeated]))]
    events = Events(columns["user"], columns["item"], columns["weight"], time, given)
    return events.take(order)


def core(events: Events, min_per_user: int, min_per_item: int) -> Events:
    """Keep the largest part in which each user has enough items and each item enough users.

    Pairs count once, however often they met.

    Source:
        Seidman, "Network structure and minimum degree", Social Networks 5(3), 1983: the k-core,
        here with one k per side. The order of removal does not matter.
    """
    while min_per_user > 1 or min_per_item > 1:
        first = events.starts()
        users = np.bincount(events.user[first])
        items = np.bincount(events.item[first])
        keep = (users[events.user] >= min_per_user) & (items[events.item] >= min_per_item)
        if keep.all():
            break
        events = events.take(keep)
    return events


def merge(events: Events, how: Merge, half_life_days: float) -> Events:
    """Make one event of each pair; its time is that of its last.

    Args:
        events: Of one part.
        how: `last` keeps the last weight, `count` counts, `sum` adds; `decay` adds what is halved
            for each half life between an event and the last of all events given.
        half_life_days: For `decay`, which needs times.
    """
    first = events.starts()
    if not len(events) or (len(first) == len(events) and how in ("last", "sum")):
        return events
    last = np.append(first[1:], len(events)) - 1
    merged = events.take(last)
    if how == "count":
        merged.weight = (last - first + 1).astype(np.float32)
    elif how in ("sum", "decay") and len(first):
        weights = events.weight.astype(np.float64)
        if how == "decay" and events.time is not None:
            age = (events.time.max() - events.time) / _MICROSECONDS_PER_DAY
            # a weight of zero would be an entry that is none
            weights *= np.maximum(np.exp2(-age / half_life_days), 1e-30)
        merged.weight = np.add.reduceat(weights, first).astype(np.float32)
    return merged
