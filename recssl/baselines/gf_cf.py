"""Graph filtering without training (GF-CF)."""

from copy import copy
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.linalg import svds

from recssl.baselines.histories import filled
from recssl.matrices import IntArray, binary, count_users, inverse_root, normalised
from recssl.retrieval import BLOCK, ScoreArray
from sslcore.errors import ConfigError


class GraphFilterScorer:
    """A linear low-pass filter of the item graph, plus an ideal one of its lowest frequencies."""

    new_users = "from their known items, which the graph does not hold"

    def __init__(
        self, histories: csr_array, low_pass: NDArray[np.float32], ideal_weight: float
    ) -> None:
        """Take what `fit` computed.

        Args:
            histories: `R`, binary.
            low_pass: Leading right singular vectors of the normalised histories, in columns,
                `[num_items, rank]`.
            ideal_weight: Of the ideal filter; the linear one weighs 1.
        """
        self._histories = histories
        self._low_pass = low_pass
        self._ideal_weight = ideal_weight
        self._normalised = normalised(histories)
        self._upwards = self._normalised.T.tocsr()
        degrees = count_users(histories)
        self._into = (low_pass * inverse_root(degrees)[:, None]).astype(np.float32)
        root = np.sqrt(degrees) * ideal_weight
        self._out_of = torch.from_numpy((low_pass * root[:, None]).astype(np.float32))

    def with_weight(self, ideal_weight: float) -> "GraphFilterScorer":
        """Return a scorer of the same graph with another weight of the ideal filter."""
        return GraphFilterScorer(self._histories, self._low_pass, ideal_weight)

    def with_known(self, known: csr_array) -> Self:
        """See `recssl.new_users.ScoresNewUsers`."""
        fed = copy(self)
        fed._histories = filled(self._histories, known)  # noqa: SLF001
        return fed

    def scores(self, users: IntArray) -> ScoreArray:
        """See `recssl.retrieval.Scorer`."""
        rows = self._histories[users]
        linear = np.empty((len(users), self._histories.shape[1]), np.float32)
        step = max(1, BLOCK // max(1, self._upwards.shape[1]))
        for start in range(0, len(users), step):
            neighbours = (rows[start : start + step] @ self._upwards).T.toarray()
            linear[start : start + step] = (self._upwards @ neighbours).T
        if self._ideal_weight:
            ideal = torch.from_numpy(rows @ self._into)
            torch.from_numpy(linear).addmm_(ideal, self._out_of.T)
        return linear


def fit(
    train: csr_array, *, rank: int = 256, ideal_weight: float = 0.3, seed: int = 0
) -> GraphFilterScorer:
    """Filter each user's history on the item graph.

    With `R~ = D_U^-1/2 R D_I^-1/2` and its leading right singular vectors `V`, the scores are
    `R (R~^T R~ + ideal_weight * D_I^-1/2 V V^T D_I^1/2)`.

    Args:
        train: `[num_users, num_items]`, canonical; weights do not matter.
        rank: Singular vectors; fewer if the matrix has fewer.
        ideal_weight: 0.3 in the paper, 0 for its Amazon-Book.
        seed: Of the vector from which the singular vectors are sought.

    Raises:
        ConfigError: `rank` below 1, or a negative weight.

    Source:
        Shen et al., "How powerful is graph convolution for recommendation?", CIKM 2021,
        arXiv:2108.07567, equations 12 and 13 and the authors' published code.
    """
    if rank < 1 or ideal_weight < 0:
        raise ConfigError(
            f"expected rank of 1 or more and ideal_weight of 0 or more, got {rank}, {ideal_weight}"
        )
    histories = binary(train)
    return GraphFilterScorer(histories, _low_pass(histories, rank, seed), ideal_weight)


def _low_pass(histories: csr_array, rank: int, seed: int) -> NDArray[np.float32]:
    matrix = normalised(histories).astype(np.float64)
    shorter = min(matrix.shape)
    if rank >= shorter:
        _, values, vectors = np.linalg.svd(matrix.toarray(), full_matrices=False)
        order = np.arange(len(values))[:rank]
    else:
        start = np.random.default_rng(seed).normal(size=shorter)
        _, values, vectors = svds(matrix, k=rank, v0=start, return_singular_vectors="vh")
        order = np.argsort(-values)
    order = order[values[order] > 1e-9]  # vectors of the null space mean nothing
    found: NDArray[np.float32] = np.ascontiguousarray(vectors[order].T, np.float32)
    return found
