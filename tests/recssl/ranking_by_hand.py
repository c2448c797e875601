"""The metrics and top-k lists, written out as plain loops over Python numbers."""

import math
from collections.abc import Sequence, Set

import numpy as np
from scipy.sparse import csr_array


def matrix(pairs: Set[tuple[int, int]], num_users: int, num_items: int) -> csr_array:
    """Return the canonical matrix of some pairs."""
    rows = sorted(pairs)
    users, items = [user for user, _ in rows], [item for _, item in rows]
    ones = np.ones(len(rows), np.float32)
    return csr_array((ones, (users, items)), shape=(num_users, num_items))


def random_pairs(
    rng: np.random.Generator, num_users: int, num_items: int, share: float
) -> set[tuple[int, int]]:
    """Return each possible pair with chance `share`."""
    chosen = rng.random((num_users, num_items)) < share
    return {(int(user), int(item)) for user, item in np.argwhere(chosen)}


def best_unseen(row: Sequence[float], seen: Set[int], k: int) -> list[int]:
    """Return the `k` best items, of equal ones the lower numbers, padded by -1."""
    order = sorted((-score, item) for item, score in enumerate(row) if item not in seen)
    items = [item for score, item in order if score < math.inf]
    return (items + [-1] * k)[:k]


def recall(items: Sequence[int], relevant: Set[int], k: int) -> float:
    return sum(item in relevant for item in items[:k]) / len(relevant)


def ndcg(items: Sequence[int], relevant: Set[int], k: int) -> float:
    gain = 0.0
    for rank, item in enumerate(items[:k], start=1):
        if item in relevant:
            gain += 1 / math.log2(rank + 1)
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(relevant)) + 1))
    return gain / ideal


def mrr(items: Sequence[int], relevant: Set[int], k: int) -> float:
    for rank, item in enumerate(items[:k], start=1):
        if item in relevant:
            return 1 / rank
    return 0.0


def average_precision(items: Sequence[int], relevant: Set[int], k: int) -> float:
    total, hits = 0.0, 0
    for rank, item in enumerate(items[:k], start=1):
        if item in relevant:
            hits += 1
            total += hits / rank
    return total / min(k, len(relevant))


def hit_rate(items: Sequence[int], relevant: Set[int], k: int) -> float:
    return float(any(item in relevant for item in items[:k]))


PER_USER = {
    "recall": recall,
    "ndcg": ndcg,
    "mrr": mrr,
    "map": average_precision,
    "hit_rate": hit_rate,
}


def gini(counts: Sequence[int]) -> float:
    """Half the mean absolute difference over the mean."""
    total = sum(counts)
    if not total:
        return 0.0
    differences = sum(abs(one - other) for one in counts for other in counts)
    return differences / (2 * len(counts) * total)


def lists(
    every: Sequence[Sequence[int]], popularity: Sequence[int], num_users: int, k: int
) -> dict[str, float]:
    """Return what all lists together are like, see `recssl.metrics.list_metrics`."""
    listed = [item for items in every for item in items[:k] if item >= 0]
    times = [listed.count(item) for item in range(len(popularity))]
    surprise = [-math.log2(max(popularity[item], 1) / num_users) for item in listed]
    return {
        "coverage": sum(count > 0 for count in times) / len(popularity),
        "gini": gini(times),
        "novelty": sum(surprise) / len(listed) if listed else 0.0,
        "mean_popularity": sum(popularity[i] for i in listed) / len(listed) if listed else 0.0,
    }
