"""Matrix factorisation of implicit feedback by alternating least squares (iALS)."""

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from recssl.matrices import IntArray, binary, count_entries
from recssl.new_users import unlearnt
from recssl.retrieval import EmbeddingScorer
from sslcore.errors import ConfigError

_ENTRIES = 2**16  # gathered at once: 16 MB at 64 dimensions
_MOST_ROWS = 1024


def fit(
    train: csr_array,
    *,
    dim: int = 64,
    epochs: int = 10,
    unobserved_weight: float = 0.1,
    l2: float = 0.003,
    exponent: float = 1.0,
    seed: int = 0,
) -> "FactorScorer":
    """Factorise the histories so that observed pairs score 1 and all others 0.

    Minimises the sum over observed pairs of `(1 - w_u h_i)^2`, plus `unobserved_weight` times the
    sum over all pairs of `(w_u h_i)^2`, plus `l2` times the sum over users of
    `(|I_u| + unobserved_weight * num_items)^exponent |w_u|^2` and the same over items. Each epoch
    solves exactly for all users, then for all items.

    Args:
        train: `[num_users, num_items]`, canonical; weights do not matter.
        dim: Of the embeddings.
        epochs: Of both halves.
        unobserved_weight: Of a pair without interaction, above 0.
        l2: Regularisation, above 0.
        exponent: 1 regularises by frequency, 0 all rows alike.
        seed: Of the first item embeddings, normal with deviation `0.1 / sqrt(dim)`.

    Raises:
        ConfigError: A value out of its range.

    Source:
        Hu, Koren, Volinsky, "Collaborative filtering for implicit feedback datasets", ICDM 2008;
        weights and regularisation as in Rendle et al., "Revisiting the performance of iALS on item
        recommendation benchmarks", RecSys 2022, arXiv:2110.14037, equations 1 to 4.
    """
    if dim < 1 or epochs < 1 or unobserved_weight <= 0 or l2 <= 0:
        raise ConfigError(
            "expected dim and epochs of 1 or more, unobserved_weight and l2 above 0,"
            f" got {dim}, {epochs}, {unobserved_weight}, {l2}"
        )
    histories = binary(train)
    sides = [_Side(histories, unobserved_weight, l2, exponent)]
    sides.append(_Side(histories.T.tocsr(), unobserved_weight, l2, exponent))
    random = torch.Generator().manual_seed(seed)
    items = torch.randn(train.shape[1], dim, generator=random) * (0.1 / dim**0.5)
    users = torch.zeros(train.shape[0], dim)
    for _ in range(epochs):
        users = sides[0].solve(items)
        items = sides[1].solve(users)
    return FactorScorer(users, items, sides[0])


class FactorScorer(EmbeddingScorer):
    """The factors, and how a user's follow from those of the items."""

    new_users = "half an epoch: their factors solved from their known items"

    def __init__(self, users: Tensor, items: Tensor, side: "_Side") -> None:
        """Take the factors, and the users' half of the problem."""
        super().__init__(users.numpy(), items.numpy())
        self._factors = users, items
        self._side = side

    def with_known(self, known: csr_array) -> "FactorScorer":
        """See `recssl.new_users.ScoresNewUsers`."""
        users, items = self._factors
        side = self._side.of(binary(unlearnt(known, self._side.matrix)))
        return FactorScorer(users + side.solve(items), items, self._side)  # rows are zero in one


class _Side:
    """The users' or the items' half of the problem, in batches of rows of similar length."""

    def __init__(
        self, matrix: csr_array, unobserved_weight: float, l2: float, exponent: float
    ) -> None:
        self.matrix = matrix
        self._settings = unobserved_weight, l2, exponent
        lengths = count_entries(matrix)
        strength = lengths + unobserved_weight * matrix.shape[1]
        self._l2 = torch.from_numpy(l2 * strength**exponent)
        self._batches = list(_batches(lengths))

    def of(self, matrix: csr_array) -> "_Side":
        """Return the same problem for other histories."""
        return _Side(matrix, *self._settings)

    def solve(self, others: Tensor) -> Tensor:
        """Return the best embeddings of all rows, given those of the columns."""
        solved = torch.zeros(self.matrix.shape[0], others.shape[1])
        shared = self._settings[0] * (others.T @ others)
        padded = torch.cat([others, torch.zeros(1, others.shape[1])])  # the last row is no item
        for rows in self._batches:
            left, right = shared.expand(len(rows), -1, -1), padded.new_zeros(len(rows), len(shared))
            for columns in torch.split(
                self._columns(rows), _ENTRIES, dim=1
            ):  # several only for one row
                gathered = padded[columns]
                left = torch.baddbmm(left, gathered.transpose(1, 2), gathered)
                right += gathered.sum(1)
            left.diagonal(dim1=1, dim2=2).add_(self._l2[rows].float()[:, None])
            factor = torch.linalg.cholesky(left)
            solved[rows] = torch.cholesky_solve(right[:, :, None], factor)[:, :, 0]
        return solved

    def _columns(self, rows: IntArray) -> Tensor:
        """Return the columns of each row, `[rows, longest]`, padded by one column too many."""
        starts, ends = self.matrix.indptr[rows], self.matrix.indptr[rows + 1]
        steps = np.arange(int((ends - starts).max()))
        entries = starts[:, None] + steps
        inside = entries < ends[:, None]
        columns = self.matrix.indices[np.where(inside, entries, starts[:, None])]
        return torch.from_numpy(np.where(inside, columns, self.matrix.shape[1]).astype(np.int64))


def _batches(lengths: IntArray) -> list[IntArray]:
    """Group the rows that have entries, of similar length; a row without any stays zero."""
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    batches = []
    while len(order):  # from the longest, so that the padding is bounded
        longest = int(lengths[order[-1]])
        count = max(1, min(_MOST_ROWS, _ENTRIES // longest))
        batches.append(order[-count:])
        order = order[:-count]
    return batches
