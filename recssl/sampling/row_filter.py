"""A compact structure that rules most pairs out of being interactions."""

import numpy as np
from numpy.typing import NDArray

from recssl.graph import InteractionGraph

_BITS_PER_EDGE = 16
_MAX_SIZE_BITS = 31
_GOLDEN = np.uint32(0x9E3779B1)
_WORD_BITS = 64
_BUILD_AT_ONCE = 1 << 22  # edges, which bounds the memory of the arrays between


class RowFilter:
    """A small bit table per user; a user's items are marked in it at their hash.

    A clear bit proves that a pair is no interaction. A set bit proves nothing: about one in
    sixteen to thirty pairs needs the exact search. One user's table has 16 to 32 bits per
    interaction, so for most users it is one cache line, and it stays in the cache while many
    items of the user are tested. All tables together take 2 to 4 bytes per interaction.
    """

    def __init__(self, graph: InteractionGraph) -> None:
        """Mark all interactions of `graph`."""
        wanted = np.maximum(graph.user_degrees * _BITS_PER_EDGE, _WORD_BITS)
        size_bits = np.minimum(np.ceil(np.log2(wanted)).astype(np.int64), _MAX_SIZE_BITS)
        sizes = np.int64(1) << size_bits
        self._starts = np.cumsum(sizes) - sizes
        self._shifts = (32 - size_bits).astype(np.uint32)
        self._table = np.zeros(int(sizes.sum()) // 8, dtype=np.uint8)
        for start in range(0, graph.num_edges, _BUILD_AT_ONCE):
            part = slice(start, start + _BUILD_AT_ONCE)
            users = graph.edge_users[part]
            items = graph.edge_items[part].astype(np.uint32)
            places = self._starts[users] + ((items * _GOLDEN) >> self._shifts[users])
            bits = np.left_shift(np.uint8(1), (places & 7).astype(np.uint8))
            np.bitwise_or.at(self._table, places >> 3, bits)

    @property
    def nbytes(self) -> int:
        """Memory of all tables and their places."""
        return sum(array.nbytes for array in (self._table, self._starts, self._shifts))

    def may_contain(
        self, users: NDArray[np.integer], items: NDArray[np.uint32]
    ) -> NDArray[np.int64]:
        """Return which pairs may be interactions, as positions in the flattened `items`.

        Args:
            users: `[batch]`.
            items: `[batch, count]`.
        """
        hashes = items * _GOLDEN
        hashes >>= self._shifts[users][:, None]
        places = hashes + self._starts[users][:, None]
        low = places.astype(np.uint8)
        low &= np.uint8(7)
        places >>= 3
        found = self._table.take(places)
        found >>= low
        found &= np.uint8(1)
        return np.flatnonzero(found.view(np.bool_))
