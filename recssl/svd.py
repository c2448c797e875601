"""Truncated SVD of the normalised interaction matrix: a start that already knows the graph."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from recssl.matrices import normalised
from sslcore.errors import ShapeError

_EXTRA = 16  # columns beyond the rank, so that the last ones are accurate too


def truncated_svd(
    matrix: csr_array, rank: int, *, seed: int, iterations: int = 4
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Find the largest singular values of `matrix` and their vectors.

    Args:
        matrix: `[users, items]`; the memory beyond it grows with `(users + items) * rank`.
        rank: Values wanted, at most the shorter side.
        seed: Of the random start.
        iterations: Power iterations; each brings the result nearer to the exact one.

    Returns:
        Left vectors `[users, rank]`, values `[rank]` falling, right vectors `[items, rank]`. Of
        each pair the sign is such that the largest entry on the right is positive.

    Raises:
        ShapeError: If `rank` is not between 1 and the shorter side.

    Source:
        Halko, Martinsson, Tropp, "Finding structure with randomness", SIAM Review 2011,
        arXiv:0909.4061, algorithms 4.4 and 5.1.
    """
    num_users, num_items = matrix.shape
    if not 1 <= rank <= min(matrix.shape):
        raise ShapeError(f"a matrix {num_users} x {num_items} has no SVD of rank {rank}")
    width = min(rank + _EXTRA, *matrix.shape)
    start = np.random.default_rng(seed).standard_normal((num_items, width), np.float32)
    flipped = csr_array(matrix.T)
    basis = _orthonormal(matrix @ start)[0]
    for _ in range(iterations):
        basis = _orthonormal(matrix @ _orthonormal(flipped @ basis)[0])[0]
    item_basis, coefficients = _orthonormal(flipped @ basis)
    right, values, left = np.linalg.svd(coefficients, full_matrices=False)
    of_items = item_basis @ right[:, :rank]
    signs = np.sign(of_items[np.abs(of_items).argmax(axis=0), np.arange(rank)])
    return basis @ (left[:rank].T * signs), values[:rank], of_items * signs


def _orthonormal(columns: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return `Q` and `R`: by torch, as numpy would work in float64, at six times the time."""
    basis, coefficients = torch.linalg.qr(torch.from_numpy(np.asarray(columns, np.float32)))
    return basis.numpy(), coefficients.numpy()


def svd_start(matrix: csr_array, dim: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Return embeddings of users and items whose products approximate the normalised matrix.

    Args:
        matrix: `[users, items]`, not normalised yet.
        dim: Columns; beyond the shorter side of `matrix` they are small random numbers.
        seed: Of the random start.

    Source:
        The spectral embedding of the normalised graph; Shen et al., "How powerful is graph
        convolution for recommendation?" (GF-CF), CIKM 2021, arXiv:2108.07567, section 3.3. Each
        side takes the root of the singular values.
    """
    rank = min(dim, *matrix.shape)
    left, values, right = truncated_svd(normalised(matrix), rank, seed=seed)
    draw = np.random.default_rng([seed, 1])
    sides = []
    for vectors in (left * np.sqrt(values), right * np.sqrt(values)):
        small = 1e-3 * np.abs(vectors).mean()
        rest = draw.standard_normal((len(vectors), dim - rank), np.float32) * small
        sides.append(torch.from_numpy(np.concatenate([vectors, rest], axis=1, dtype=np.float32)))
    users, items = sides
    return users, items
