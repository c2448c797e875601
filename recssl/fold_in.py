"""Embeddings of users and items that a run has not trained, from whom they interacted with.

Neither way asks how the run was trained; both need the stored embeddings only, after readout. How
often a pair occurred plays no part.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from recssl.matrices import IntArray, binary, count_entries, count_users, inverse_root
from recssl.new_users import unlearnt
from recssl.retrieval import EmbeddingScorer
from sslcore.errors import ShapeError

FloatMatrix = NDArray[np.float32]

_BLOCK = 2**16  # rows at once


class FoldIn(Protocol):
    """From the neighbours of new rows to their embeddings."""

    def embed(self, histories: csr_array) -> FloatMatrix:
        """Embed rows from their interactions, `[rows, num_neighbours]`: `[rows, dim]`.

        A neighbour that was never learnt adds nothing; a row without any other one is zero.
        """
        ...


class RidgeFoldIn:
    """The embedding that scores a user's items 1 and all others 0, in the sense of least squares.

    With `V` the items, `V_h` those of the history, and `s` the mean squared length of an item, it
    solves `(V_h' V_h + unseen V' V + shrinkage s I) u = V_h' 1`. Only the direction, so the order
    of items, is comparable with trained users; the length is not.

    Source:
        Hu, Koren, Volinsky, "Collaborative filtering for implicit feedback datasets", ICDM 2008,
        equation 4, with a weight below 1 for what is unseen.
    """

    def __init__(
        self, learnt: csr_array, items: FloatMatrix, *, unseen: float, shrinkage: float
    ) -> None:
        """Prepare.

        Args:
            learnt: What the run learnt from, `[users, items]`.
            items: `[num_items, dim]`.
            unseen: Weight of an item outside the history; 1 for one in it.
            shrinkage: How strongly short histories are pulled to zero.

        Raises:
            ShapeError: The matrices do not fit together.
        """
        _require_fit(learnt.shape[1], items)
        self._is_learnt = count_users(learnt) > 0
        self._items = items
        known = items[self._is_learnt].astype(np.float64)
        squares = known.T @ known
        size = float(np.trace(squares)) / max(len(known), 1)
        self._common = unseen * squares + shrinkage * max(size, 1e-12) * np.eye(items.shape[1])

    def embed(self, histories: csr_array) -> FloatMatrix:
        """See `FoldIn`."""
        found = np.zeros((histories.shape[0], self._items.shape[1]), np.float32)
        for row in range(len(found)):
            had = histories.indices[histories.indptr[row] : histories.indptr[row + 1]]
            vectors = self._items[had[self._is_learnt[had]]].astype(np.float64)
            found[row] = np.linalg.solve(self._common + vectors.T @ vectors, vectors.sum(axis=0))
        return found


class PropagationFoldIn:
    """One propagation step along the graph, then a linear map learnt from the trained rows.

    Direction and length are those of trained rows, so that new items can be ranked among others.

    Source:
        The step is that of LightGCN, He et al., SIGIR 2020, arXiv:2002.02126, equation 3.
    """

    def __init__(
        self, learnt: csr_array, neighbours: FloatMatrix, targets: FloatMatrix, *, ridge: float
    ) -> None:
        """Learn how trained rows follow from their neighbours.

        With `P` the propagated rows and `Y` the trained ones, the map is `c I + D`, where `c` is
        the best multiple of plain propagation, and `D` minimises
        `|P (c I + D) - Y|^2 + ridge * trace(P' P) / dim * |D|^2`.

        Args:
            learnt: What the run learnt from, `[rows, num_neighbours]`: of items, transposed.
            neighbours: `[num_neighbours, dim]`.
            targets: The trained embeddings, `[rows, dim]`. Rows without an entry in `learnt` are
                left out.
            ridge: How strongly the map is pulled towards plain propagation.

        Raises:
            ShapeError: The matrices do not fit together.
        """
        _require_fit(learnt.shape[1], neighbours)
        _require_fit(learnt.shape[0], targets)
        self._neighbours = neighbours
        self._roots = inverse_root(count_users(learnt)).astype(np.float32)
        dim = neighbours.shape[1]
        squares, products = np.zeros((dim, dim)), np.zeros((dim, dim))
        known = np.flatnonzero(count_entries(learnt))
        for start in range(0, len(known), _BLOCK):
            rows = known[start : start + _BLOCK]
            moved = self.propagated(learnt[rows])
            squares += moved.T @ moved
            products += moved.T @ targets[rows].astype(np.float64)
        size = max(float(np.trace(squares)), 1e-12)
        multiple = float(np.trace(products)) / size * np.eye(dim)
        penalty = ridge * size / dim * np.eye(dim)
        self._map = multiple + np.linalg.solve(squares + penalty, products - squares @ multiple)

    def propagated(self, histories: csr_array) -> NDArray[np.float64]:
        """Return the sum of each row's neighbours, weighted as in the normalised graph."""
        ones = binary(histories)
        ones.data = self._roots[ones.indices]
        moved: NDArray[np.float64] = (ones @ self._neighbours).astype(np.float64)
        return moved * inverse_root(count_entries(histories))[:, None]

    def embed(self, histories: csr_array) -> FloatMatrix:
        """See `FoldIn`."""
        return (self.propagated(histories) @ self._map).astype(np.float32)


class FoldInScorer(EmbeddingScorer):
    """Stored embeddings; users that were not trained can be folded in."""

    new_users = "fold-in of their known items"

    def __init__(
        self,
        users: FloatMatrix,
        items: FloatMatrix,
        learnt: csr_array,
        fold_in: Callable[[], FoldIn],
    ) -> None:
        """Take the embeddings.

        Args:
            users: `[num_users, dim]`.
            items: `[num_items, dim]`.
            learnt: What they were trained on, `[num_users, num_items]`.
            fold_in: Prepares the way; called when it is needed.
        """
        super().__init__(users, items)
        self._learnt = learnt
        self._fold_in = fold_in

    def with_known(self, known: csr_array) -> "FoldInScorer":
        """See `recssl.new_users.ScoresNewUsers`."""
        missing = unlearnt(known, self._learnt)
        rows = np.flatnonzero(count_entries(missing))
        if not len(rows):
            return self
        users = np.array(self._users, np.float32)
        users[rows] = self._fold_in().embed(missing[rows])
        return FoldInScorer(users, self._items, self._learnt, self._fold_in)


def rows_without(histories: csr_array, learnt: csr_array) -> IntArray:
    """Return the rows of `histories` that hold no column with an entry in `learnt`."""
    rows = np.repeat(np.arange(histories.shape[0]), count_entries(histories))
    is_known = count_users(learnt)[histories.indices] > 0
    return np.flatnonzero(np.bincount(rows[is_known], minlength=histories.shape[0]) == 0)


def _require_fit(count: int, rows: FloatMatrix) -> None:
    if len(rows) != count:
        raise ShapeError(
            f"expected embeddings of {count} rows, as the interactions have, got {len(rows)}"
        )
