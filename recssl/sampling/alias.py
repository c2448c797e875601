"""Draw from any distribution over numbered things in constant time."""

from typing import Self

import numpy as np
from numpy.typing import NDArray


class AliasTable:
    """Numbers drawn in proportion to weights, with one random number and two look-ups each.

    Column `i` of a table of equal columns holds number `i` up to a share of its height, and
    another number, its alias, above.

    Source:
        Walker, ACM Transactions on Mathematical Software 3(3), 1977. Built with running sums in
        the way of Huebschle-Schneider, Sanders, "Parallel weighted random sampling", ESA 2019,
        arXiv:1903.00227, section 4: the light columns take, in their order, what they lack from
        the heavy ones, and a heavy column that gave too much takes from the next.
    """

    def __init__(self, shares: NDArray[np.float64], aliases: NDArray[np.uint32]) -> None:
        """Take the two rows of the table; `from_weights` makes them."""
        self._shares = shares
        self._aliases = aliases

    @classmethod
    def from_weights(cls, weights: NDArray[np.float64]) -> Self:
        """Build the table of `weights`, `[n]`, finite, >= 0, with a sum above 0."""
        heights = weights * (len(weights) / weights.sum())
        # rounding must not leave the table without a heavy column
        heights[heights.argmax()] = max(1.0, heights.max())
        light = np.flatnonzero(heights < 1)
        heavy = np.flatnonzero(heights >= 1)
        lacking = np.cumsum(1 - heights[light])
        spare = np.cumsum(heights[heavy] - 1)
        shares = np.minimum(heights, 1)
        aliases = np.arange(len(weights), dtype=np.uint32)
        # a heavy column serves from the first light one that finds it with something to spare
        giver = np.searchsorted(spare, lacking - (1 - heights[light]), side="right")
        aliases[light] = heavy[np.minimum(giver, len(heavy) - 1)]
        last = np.searchsorted(lacking, spare)
        emptied = np.flatnonzero(last < len(light))
        emptied = emptied[emptied < len(heavy) - 1]
        shares[heavy[emptied]] = np.clip(1 - (lacking[last[emptied]] - spare[emptied]), 0, 1)
        aliases[heavy[emptied]] = heavy[emptied + 1]
        return cls(shares, aliases)

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.uint32]:
        """Draw independent numbers of the given shape."""
        scaled = rng.random(shape)
        scaled *= len(self._shares)
        columns = scaled.astype(np.intp)
        scaled -= columns
        own = scaled < self._shares.take(columns)
        drawn = self._aliases.take(columns)
        np.copyto(drawn, columns, where=own, casting="unsafe")
        return drawn

    def probabilities(self) -> NDArray[np.float64]:
        """Return how likely each number is, `[n]`, as the table draws it."""
        total = self._shares + np.bincount(
            self._aliases, 1 - self._shares, minlength=len(self._shares)
        )
        mean: NDArray[np.float64] = total / len(self._shares)
        return mean
