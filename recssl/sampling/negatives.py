"""Items that a user did not interact with, to be ranked below those of the user.

Draws are independent, so an item may come twice for the same user. None is ever a training
positive of its user, but for `Shared`, whose draws have no user.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from recssl.errors import LogError
from recssl.graph import InteractionGraph
from recssl.sampling.alias import AliasTable
from recssl.sampling.row_filter import RowFilter
from sslcore.errors import ConfigError

Scores = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.floating]]
"""Users `[batch]` and items `[batch, count]` to scores `[batch, count]`; larger is nearer."""

_AT_ONCE = 1 << 16  # draws whose temporary arrays stay in the processor's cache
_ROUNDS = 8  # of drawing again, before the exact but slow way


class Negatives(Protocol):
    """A source of negative items."""

    def draw(
        self, users: NDArray[np.int64], count: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Return `count` negatives of each user, `[batch, count]`.

        Args:
            users: `[batch]`; a user may come more than once.
            count: Negatives per row, > 0.
            rng: Makes all random choices.
        """


class _Rejection(ABC):
    """Draw from all items, and again where the draw is a positive of its user.

    The filter of the rows passes most draws; the exact search looks at the rest. What is still a
    positive after some rounds, which happens to users with most of all items, is drawn from a
    list of what is left for that user.
    """

    def __init__(self, graph: InteractionGraph, *, num_drawn: int) -> None:
        """Prepare to draw from `num_drawn` items, which include all those of any user."""
        _require_something_left(graph, num_drawn)
        self._graph = graph
        self._filter = RowFilter(graph)

    def draw(
        self, users: NDArray[np.int64], count: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Return `count` negatives of each user, as `Negatives.draw` says."""
        drawn = np.empty((len(users), count), dtype=np.int64)
        rows = max(1, _AT_ONCE // count)
        for start in range(0, len(users), rows):
            part = slice(start, start + rows)
            drawn[part] = self._draw_part(users[part], count, rng)
        return drawn

    def _draw_part(
        self, users: NDArray[np.int64], count: int, rng: np.random.Generator
    ) -> NDArray[np.uint32]:
        drawn = self._propose((len(users), count), rng)
        flat = drawn.reshape(-1)
        doubtful = self._filter.may_contain(users, drawn)
        for _ in range(_ROUNDS):
            owners = users[doubtful // count]
            doubtful = doubtful[self._graph.contains(owners, flat[doubtful])]
            if not len(doubtful):
                return drawn
            flat[doubtful] = self._propose(doubtful.shape, rng)
        owners = users[doubtful // count]
        for user in np.unique(owners):
            here = doubtful[owners == user]
            flat[here] = self._draw_from_rest(int(user), len(here), rng)
        return drawn

    def _draw_from_rest(self, user: int, count: int, rng: np.random.Generator) -> NDArray[np.intp]:
        weights = self._weights()
        first, last = self._graph.matrix.indptr[user : user + 2]
        weights[self._graph.edge_items[first:last]] = 0
        left = np.flatnonzero(weights)
        sums = np.cumsum(weights[left])
        places = np.searchsorted(sums, rng.random(count) * sums[-1], side="right")
        drawn: NDArray[np.intp] = left[np.minimum(places, len(left) - 1)]
        return drawn

    @abstractmethod
    def _propose(self, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.uint32]:
        """Draw items for any user."""

    @abstractmethod
    def _weights(self) -> NDArray[np.float64]:
        """Return how `_propose` weighs the items, `[items]`, as a new array."""


class Uniform(_Rejection):
    """All items of the data set alike, whether or not they occur in the interactions."""

    def __init__(self, graph: InteractionGraph) -> None:
        """Draw items that are not in a user's row of `graph`.

        Raises:
            LogError: If a user has interacted with all items.
        """
        super().__init__(graph, num_drawn=graph.num_items)

    def _propose(self, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.uint32]:
        return rng.integers(self._graph.num_items, size=shape, dtype=np.uint32)

    def _weights(self) -> NDArray[np.float64]:
        return np.ones(self._graph.num_items)


class Popularity(_Rejection):
    """Items in proportion to their number of interactions to the power of `alpha`.

    With `alpha` above 0 an item without interactions is never drawn.

    Source:
        Mikolov et al., NeurIPS 2013, arXiv:1310.4546, section 2.2, where `alpha` is 0.75.
    """

    def __init__(self, graph: InteractionGraph, alpha: float) -> None:
        """Draw items that are not in a user's row of `graph`.

        Args:
            graph: Counts the interactions.
            alpha: 0 draws uniformly, 1 by popularity; >= 0.

        Raises:
            ConfigError: If `alpha` is negative or not finite.
            LogError: If a user has interacted with all items that can be drawn.
        """
        self._relative = _relative_popularity(graph, alpha)
        super().__init__(graph, num_drawn=int(np.count_nonzero(self._relative)))
        self._table = AliasTable.from_weights(self._relative)

    def _propose(self, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.uint32]:
        return self._table.draw(shape, rng)

    def _weights(self) -> NDArray[np.float64]:
        return np.array(self._relative)


class Shared:
    """Negatives for all rows at once. One may be a positive of some user: `InBatch.mask_drawn`.

    An item may come twice, so that each counts as often as it is likely.
    """

    def __init__(self, graph: InteractionGraph, alpha: float) -> None:
        """Draw from the items of `graph`.

        Args:
            graph: Counts the interactions.
            alpha: 0 draws all items alike, with or without interactions; 1 by popularity; >= 0.

        Raises:
            ConfigError: If `alpha` is negative or not finite.
            LogError: If there is nothing to draw from.
        """
        weights = _relative_popularity(graph, alpha)
        if not weights.any():
            raise LogError("expected at least one item to draw from, got none")
        self._table = AliasTable.from_weights(weights) if alpha else None
        self._num_items = graph.num_items
        self.probabilities: NDArray[np.float64] = weights / weights.sum()

    def draw(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return `count` items, > 0, `[count]`."""
        if self._table is None:
            return rng.integers(self._num_items, size=count)
        return self._table.draw((count,), rng).astype(np.int64)


class Hard:
    """The best scored of several candidates: dynamic negative sampling.

    Source:
        Zhang et al., "Optimizing top-n collaborative filtering via dynamic negative item
        sampling", SIGIR 2013.
    """

    def __init__(self, base: Negatives, scores: Scores, num_candidates: int) -> None:
        """Draw each negative from `num_candidates` items of `base`.

        Args:
            base: Draws the candidates.
            scores: The model as it is when `draw` is called.
            num_candidates: 1 draws like `base`; > 0.

        Raises:
            ConfigError: If there are no candidates.
        """
        if num_candidates < 1:
            raise ConfigError(f"expected at least 1 candidate per negative, got {num_candidates}")
        self._base = base
        self._scores = scores
        self._num_candidates = num_candidates

    def draw(
        self, users: NDArray[np.int64], count: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Return `count` negatives of each user, as `Negatives.draw` says."""
        drawn = self._base.draw(users, count * self._num_candidates, rng)
        groups = (len(users), count, self._num_candidates)
        best = self._scores(users, drawn).reshape(groups).argmax(axis=2)
        return np.take_along_axis(drawn.reshape(groups), best[:, :, None], axis=2)[:, :, 0]


def _relative_popularity(graph: InteractionGraph, alpha: float) -> NDArray[np.float64]:
    """Return each item's popularity to the power of `alpha`, `[items]`, at most 1."""
    if not 0 <= alpha < np.inf:
        raise ConfigError(f"expected a popularity exponent alpha >= 0, got {alpha}")
    # relative to the most popular item, so that no exponent overflows
    popularity = graph.item_degrees / max(1, graph.item_degrees.max(initial=0))
    relative: NDArray[np.float64] = popularity**alpha
    return relative


def _require_something_left(graph: InteractionGraph, num_drawn: int) -> None:
    full = np.flatnonzero(graph.user_degrees >= num_drawn)
    if len(full):
        raise LogError(
            f"user row {full[0]} (of {len(full)} such) has interacted with all {num_drawn} items "
            "that can be drawn, so it has no negatives; leave such users out of the log, or train "
            "with in-batch negatives"
        )
