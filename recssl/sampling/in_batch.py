"""Which of the items that all rows of a batch are compared with are liked by a row's user."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from recssl.graph import InteractionGraph
from sslcore.errors import ShapeError


class InBatch:
    """What a loss needs to use a batch's own items as negatives.

    In the matrices below, row `i` is the user of pair `i` and column `j` the item of pair `j`.
    The diagonal, a pair's own item, is never marked.
    """

    def __init__(self, graph: InteractionGraph) -> None:
        """Prepare for batches of `graph`, the training interactions."""
        self._graph = graph
        # the product of matrices drops entries of weight 0, so weights are left out
        true = np.ones(graph.num_edges, dtype=np.bool_)
        matrix = graph.matrix
        self._pattern = csr_array((true, matrix.indices, matrix.indptr), shape=matrix.shape)

    def accidental(
        self, users: NDArray[np.int64], items: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Find the items of other pairs that are training positives of the row's user.

        Time and memory follow the interactions of the users in the batch.

        Args:
            users: `[batch]`.
            items: `[batch]`.

        Returns:
            Rows and columns, `[found]` each, by row.

        Raises:
            ShapeError: If users and items differ in number.
        """
        _require_pairs(users, items)
        return _others(self._liked(users, items))

    def mask_drawn(self, users: NDArray[np.int64], drawn: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Mark which of the drawn items are training positives of the row's user.

        Time follows the interactions of the users in the batch.

        Args:
            users: `[batch]`.
            drawn: Items that were drawn for all rows, `[count]`.

        Returns:
            `[batch, count]`.
        """
        return _marked(self._liked(users, drawn))

    def mask_own(self, items: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Mark which of `others`, `[count]`, are the item of the row, `[batch, count]`."""
        return _marked(self._own(items) @ self._own(others).T)

    def same_item(self, items: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Find the other pairs with the same item as the row.

        Returns:
            Rows and columns, `[found]` each, by row.
        """
        own = self._own(items)
        return _others(own @ own.T)

    def mask(
        self,
        users: NDArray[np.int64],
        items: NDArray[np.int64],
        *,
        accidental: bool = True,
        same_item: bool = True,
    ) -> NDArray[np.bool_]:
        """Mark the columns that are no negatives of the row, `[batch, batch]`.

        Args:
            users: `[batch]`.
            items: `[batch]`.
            accidental: Mark training positives of the row's user.
            same_item: Mark columns with the row's own item. Of pairs that are interactions
                these are accidental positives too.

        Raises:
            ShapeError: If users and items differ in number.
        """
        _require_pairs(users, items)
        marked = np.zeros((len(users), len(users)), dtype=np.bool_)
        if accidental:
            marked[self.accidental(users, items)] = True
        if same_item:
            marked[self.same_item(items)] = True
        return marked

    def _liked(self, users: NDArray[np.int64], items: NDArray[np.int64]) -> csr_array:
        """Return entries where an item, in a column, is one of the row's user."""
        return self._pattern[users] @ self._own(items).T

    def _own(self, items: NDArray[np.int64]) -> csr_array:
        """Return the item of each row as a matrix, `[batch, items]`."""
        true = np.ones(len(items), dtype=np.bool_)
        starts = np.arange(len(items) + 1, dtype=np.int32)
        shape = (len(items), self._graph.num_items)
        return csr_array((true, items.astype(np.int32), starts), shape=shape)


def _marked(found: csr_array) -> NDArray[np.bool_]:
    """Return where a matrix has entries, dense."""
    marked = np.zeros(found.shape, dtype=np.bool_)
    marked[np.repeat(np.arange(found.shape[0]), np.diff(found.indptr)), found.indices] = True
    return marked


def _others(found: csr_array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where `[batch, batch]` has entries off the diagonal."""
    rows = np.repeat(np.arange(found.shape[0]), np.diff(found.indptr))
    columns = found.indices.astype(np.int64)
    other = rows != columns
    return rows[other], columns[other]


def _require_pairs(users: NDArray[np.int64], items: NDArray[np.int64]) -> None:
    if users.shape != items.shape or users.ndim != 1:
        raise ShapeError(
            f"expected users and items of one shape [batch], got {users.shape} and {items.shape}"
        )
