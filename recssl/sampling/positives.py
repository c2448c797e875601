"""Which pairs of a user and an item a step trains on.

A batch depends on the seed and the number of the step only, so that a resumed run draws what the
unbroken one would have drawn. Both samplers are common and give different results: edge-uniform
draws users by their activity (RecBole, SELFRec), user-uniform draws them equally (the reference
code of LightGCN).
"""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from recssl.errors import LogError
from recssl.graph import InteractionGraph
from recssl.sampling.permutation import Permutation


class Pairs(NamedTuple):
    """Users and one positive item of each, both `[batch]`, int64."""

    users: NDArray[np.int64]
    items: NDArray[np.int64]


class Positives(Protocol):
    """A source of training pairs."""

    def batch(self, seed: int, step: int, size: int) -> Pairs:
        """Return the `size` pairs of a step.

        Args:
            seed: Of the run, >= 0.
            step: Number of the step, from 0.
            size: Pairs per step, > 0.
        """

    def item_probabilities(self) -> NDArray[np.float64]:
        """Return how likely each item is to stand in a pair, `[items]`, sum 1."""


class EdgeUniform:
    """Every interaction once per epoch, in an order that changes from epoch to epoch.

    An epoch is `num_edges` pairs. A batch across its end takes the rest of one epoch and the
    start of the next, so batches are always full. The order is computed from the position
    (`Permutation`): nothing is held but the graph.
    """

    def __init__(self, graph: InteractionGraph) -> None:
        """Draw from `graph`.

        Raises:
            LogError: If it has no interactions.
        """
        _require_edges(graph)
        self._graph = graph

    def batch(self, seed: int, step: int, size: int) -> Pairs:
        """Return the `size` pairs of a step, as `Positives.batch` says."""
        num_edges = self._graph.num_edges
        edges = np.empty(size, dtype=np.int64)
        done = 0
        while done < size:
            epoch, first = divmod(step * size + done, num_edges)
            count = min(size - done, num_edges - first)
            order = Permutation(num_edges, np.random.default_rng((seed, epoch)))
            edges[done : done + count] = order(np.arange(first, first + count, dtype=np.int64))
            done += count
        users = self._graph.edge_users[edges].astype(np.int64)
        return Pairs(users, self._graph.edge_items[edges].astype(np.int64))

    def item_probabilities(self) -> NDArray[np.float64]:
        """Return each item's share of the interactions, `[items]`."""
        return self._graph.item_degrees / self._graph.num_edges


class UserUniform:
    """A user with interactions drawn uniformly, then one of the user's items; with replacement."""

    def __init__(self, graph: InteractionGraph) -> None:
        """Draw from `graph`.

        Raises:
            LogError: If it has no interactions.
        """
        _require_edges(graph)
        self._graph = graph
        self._active = np.flatnonzero(graph.user_degrees)

    def batch(self, seed: int, step: int, size: int) -> Pairs:
        """Return the `size` pairs of a step, as `Positives.batch` says."""
        rng = np.random.default_rng((seed, step))
        users = self._active[rng.integers(len(self._active), size=size)]
        edges = self._graph.matrix.indptr[users] + rng.integers(self._graph.user_degrees[users])
        return Pairs(users, self._graph.edge_items[edges].astype(np.int64))

    def item_probabilities(self) -> NDArray[np.float64]:
        """Return the mean over active users of each item's share of the user, `[items]`."""
        degrees = np.maximum(self._graph.user_degrees, 1)
        shares = np.repeat(1 / degrees, self._graph.user_degrees)
        sums = np.bincount(self._graph.edge_items, shares, minlength=self._graph.num_items)
        return sums / len(self._active)


def _require_edges(graph: InteractionGraph) -> None:
    if not graph.num_edges:
        raise LogError("expected at least one training interaction to draw from, got none")
