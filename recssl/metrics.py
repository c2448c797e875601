"""How good ranked lists are: per user, and of all lists together.

Per user (`per_user_metrics`), with `hits[r]` 1 if the item at rank `r` (from 1) is a test item of
the user, and `relevant` the number of its test items:

    recall@k    sum of hits[1..k] / relevant
    ndcg@k      sum of hits[r] / log2(r + 1), r to k, over the same sum for an ideal list, whose
                first min(k, relevant) ranks are hits
    mrr@k       1 / r of the first hit up to k, 0 without one
    map@k       sum over hits up to k of the precision at their rank, / min(k, relevant)
    hit_rate@k  1 with a hit up to k, else 0

Of all lists (`list_metrics`): `coverage@k`, `gini@k`, `novelty@k` and `mean_popularity@k`.

Source:
    Recall and NDCG as in the LightGCN papers: He et al., "LightGCN", SIGIR 2020,
    arXiv:2002.02126, and its published code: recall is not divided by min(k, relevant), the ideal
    of NDCG is cut at k. NDCG: Jarvelin, Kekalainen, "Cumulated gain-based evaluation of IR
    techniques", TOIS 2002, with the discount of Burges et al. 2005. MRR: Voorhees, TREC-8, 1999.
    MAP with min(k, relevant) as in the Million Song Dataset Challenge (McFee et al., WWW 2012);
    other code divides by the number of test items, or of hits. Coverage: Ge, Delgado-Battenfeld,
    Jannach, "Beyond accuracy", RecSys 2010. Gini: Fleder, Hosanagar, Management Science 2009.
    Novelty: Zhou et al., "Solving the apparent diversity-accuracy dilemma", PNAS 2010, equation 2
    (mean self-information). Mean popularity: Abdollahpouri et al., FLAIRS 2019 (ARP).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from recssl.matrices import IntArray, row_entries
from sslcore.errors import ShapeError

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

PER_USER = ("recall", "ndcg", "mrr", "map", "hit_rate")
OF_LISTS = ("coverage", "gini", "novelty", "mean_popularity")


def find_hits(items: IntArray, users: IntArray, relevant: csr_array) -> BoolArray:
    """Say which recommended items are test items of their user.

    Args:
        items: `[users, k]`; -1 is no item and never a hit.
        users: Row of `relevant` for each list, `[users]`.
        relevant: Test items, `[num_users, num_items]`, canonical.

    Returns:
        `[users, k]`.
    """
    rows, columns = row_entries(relevant, users)
    num_items = relevant.shape[1]
    wanted = np.append(rows * num_items + columns, np.iinfo(np.int64).max)  # ascending
    asked = np.arange(len(users))[:, None] * num_items + items
    found: BoolArray = (wanted[np.searchsorted(wanted, asked)] == asked) & (items >= 0)
    return found


def recall(hits: BoolArray, num_relevant: IntArray, k: int) -> FloatArray:
    """Return recall@k per user, `[users]`; see the module for all definitions.

    Args:
        hits: `[users, at least k]`, see `find_hits`.
        num_relevant: Test items of each user, `[users]`, at least 1.
        k: Ranks that count.
    """
    return np.asarray(_first(hits, num_relevant, k).sum(1) / num_relevant)


def ndcg(hits: BoolArray, num_relevant: IntArray, k: int) -> FloatArray:
    """Return NDCG@k per user, `[users]`; arguments as of `recall`."""
    gains = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(gains)[np.minimum(num_relevant, k) - 1]
    return np.asarray((_first(hits, num_relevant, k) @ gains) / ideal)


def mrr(hits: BoolArray, num_relevant: IntArray, k: int) -> FloatArray:
    """Return the reciprocal rank of the first hit per user, `[users]`; arguments as of `recall`."""
    first = _first(hits, num_relevant, k)
    return np.asarray(np.where(first.any(1), 1 / (first.argmax(1) + 1), 0.0))


def average_precision(hits: BoolArray, num_relevant: IntArray, k: int) -> FloatArray:
    """Return average precision@k per user, `[users]`; arguments as of `recall`."""
    first = _first(hits, num_relevant, k)
    precision = np.cumsum(first, axis=1) / np.arange(1, k + 1)
    found: FloatArray = (precision * first).sum(1) / np.minimum(num_relevant, k)
    return found


def hit_rate(hits: BoolArray, num_relevant: IntArray, k: int) -> FloatArray:
    """Return 1 for each user with a hit, `[users]`; arguments as of `recall`."""
    return np.asarray(_first(hits, num_relevant, k).any(1), np.float64)


_FORMULAS = dict(zip(PER_USER, (recall, ndcg, mrr, average_precision, hit_rate), strict=True))


def per_user_metrics(
    hits: BoolArray, num_relevant: IntArray, ks: Sequence[int]
) -> dict[str, FloatArray]:
    """Compute every metric of `PER_USER` at every `k`, under names such as `recall@20`."""
    return {
        f"{name}@{k}": formula(hits, num_relevant, k)
        for name, formula in _FORMULAS.items()
        for k in ks
    }


def list_metrics(
    items: IntArray, popularity: IntArray, num_users: int, ks: Sequence[int]
) -> dict[str, float]:
    """Compute what all lists together are like.

    Args:
        items: Recommended items, `[users, at least max(ks)]`; -1 is no item.
        popularity: Training users of each item, `[num_items]`.
        num_users: Training users.
        ks: Ranks that count.

    Returns:
        At every `k`: `coverage`, the share of all items that stand in some list; `gini`, of how
        often each item of the catalogue was recommended, from 0 (all equally often) to nearly 1
        (always the same few); `novelty`, the mean over recommendations of -log2 of the share of
        training users that have the item, where an item that nobody has counts as if one had it;
        `mean_popularity`, the mean over recommendations of the item's training users. Without any
        recommendation novelty and mean popularity are 0.
    """
    surprise = -np.log2(np.maximum(popularity, 1) / max(num_users, 1))
    found: dict[str, float] = {}
    for k in ks:
        listed = items[:, :k][items[:, :k] >= 0]
        times = np.bincount(listed, minlength=len(popularity))
        found[f"coverage@{k}"] = float((times > 0).mean())
        found[f"gini@{k}"] = gini(times)
        found[f"novelty@{k}"] = float(surprise[listed].mean()) if len(listed) else 0.0
        found[f"mean_popularity@{k}"] = float(popularity[listed].mean()) if len(listed) else 0.0
    return found


def gini(counts: NDArray[np.int64]) -> float:
    """Return the Gini coefficient of counts, `[items]`: 0 if all are equal."""
    total = int(counts.sum())
    if not total:
        return 0.0
    ranks = 2 * np.arange(1, len(counts) + 1) - len(counts) - 1
    return float((ranks * np.sort(counts)).sum() / (len(counts) * total))


def popularity_buckets(popularity: IntArray, count: int) -> IntArray:
    """Put items into buckets of about equally many training interactions, the rarest first.

    Items of equal popularity share a bucket. The last bucket holds few, often wanted items, the
    first one most of the catalogue; some may be empty.

    Args:
        popularity: Training users of each item, `[num_items]`.
        count: Buckets.

    Returns:
        Bucket of each item, `[num_items]`, from 0.
    """
    values, inverse, items = np.unique(popularity, return_inverse=True, return_counts=True)
    mass = np.cumsum(values * items)
    before = mass - values * items
    middle = (before + mass) / 2 / max(int(mass[-1]), 1) if len(mass) else mass
    return np.minimum((middle * count).astype(np.int64), count - 1)[inverse]


def recall_by_bucket(
    items: IntArray, users: IntArray, relevant: csr_array, buckets: IntArray, k: int
) -> list[dict[str, float | int | None]]:
    """Measure how many test items of each bucket were found, over all users together.

    Args:
        items: `[users, at least k]`.
        users: `[users]`, see `find_hits`.
        relevant: Test items.
        buckets: See `popularity_buckets`.
        k: Ranks that count.

    Returns:
        Per bucket: `items` in it, `wanted` (test items), `recall` (their share among the first
        `k`; None if none is wanted), and `share` of all recommendations.
    """
    count = int(buckets.max()) + 1 if len(buckets) else 0
    top = items[:, :k]
    hits = find_hits(top, users, relevant)
    listed = np.bincount(buckets[top[top >= 0]], minlength=count)
    found = np.bincount(buckets[top[hits]], minlength=count)
    wanted = np.bincount(buckets[row_entries(relevant, users)[1]], minlength=count)
    size = np.bincount(buckets, minlength=count)
    return [
        {
            "items": int(size[b]),
            "wanted": int(wanted[b]),
            "recall": float(found[b] / wanted[b]) if wanted[b] else None,
            "share": float(listed[b] / max(int(listed.sum()), 1)),
        }
        for b in range(count)
    ]


def _first(hits: BoolArray, num_relevant: IntArray, k: int) -> BoolArray:
    if hits.ndim != 2 or hits.shape[1] < k or num_relevant.shape != hits.shape[:1]:
        raise ShapeError(
            f"expected hits [users, at least {k}] and one count per user,"
            f" got {hits.shape} and {num_relevant.shape}"
        )
    return hits[:, :k]
