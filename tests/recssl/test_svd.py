"""The start from an SVD stays sensible on graphs that fall apart, and is small on huge ones."""

import tracemalloc

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from recssl.encoders.mf import MatrixFactorisation
from recssl.matrices import normalised
from recssl.svd import svd_start, truncated_svd


def islands(count: int, size: int = 2, *, lonely: int = 0) -> csr_array:
    """Return blocks of `size` users who all have the same `size` items, and rows of nobody."""
    block = np.ones((size, size), np.float32)
    width = count * size + lonely
    rows = np.arange(count * size)
    columns = (rows // size)[:, None] * size + np.arange(size)
    places = (np.repeat(rows, size), columns.ravel())
    return csr_array((np.tile(block.ravel(), count), places), shape=(width, width))


@pytest.mark.parametrize("dim", [4, 64])
def test_many_islands_give_finite_rows_that_tell_them_apart(dim: int) -> None:
    matrix = islands(50, lonely=7)  # 50 singular values of exactly 1, then zeros
    users, items = svd_start(matrix, dim, seed=0)
    assert users.isfinite().all()
    assert items.isfinite().all()
    if dim > 50:  # room for each island
        scores = users[:100] @ items[:100].T
        expected = torch.from_numpy(normalised(matrix).toarray()[:100, :100])
        assert torch.allclose(scores, expected, atol=2e-3)


def test_rows_without_interactions_are_small_and_finite() -> None:
    matrix = islands(10, lonely=5)
    for dim in (8, 32):
        for side in svd_start(matrix, dim, seed=0):
            lengths = side.norm(dim=1)
            assert lengths.isfinite().all()
            assert lengths[20:].max() < 0.01 * lengths[:20].mean()


@pytest.mark.parametrize(
    "matrix",
    [
        csr_array((6, 9), dtype=np.float32),
        csr_array((np.ones(1, np.float32), ([3], [4])), shape=(6, 9)),
        csr_array(np.ones((6, 9), np.float32)),  # rank 1, so 5 singular values of 0
    ],
    ids=["nothing", "one pair", "all pairs"],
)
def test_the_start_is_finite_on_extreme_graphs(matrix: csr_array) -> None:
    encoder = MatrixFactorisation(6, 9, 16)
    encoder.start_from(*svd_start(matrix, 16, seed=0))
    assert encoder.table.weight.isfinite().all()


def test_singular_vectors_of_equal_values_are_orthonormal() -> None:
    left, values, right = truncated_svd(normalised(islands(40)), 12, seed=3)
    np.testing.assert_allclose(values, 1, atol=1e-5)
    for vectors in (left, right):
        np.testing.assert_allclose(vectors.T @ vectors, np.eye(12), atol=1e-4)


def test_memory_grows_with_users_plus_items_not_with_their_product() -> None:
    sides = 40_000  # dense: 6.4 GB
    rng = np.random.default_rng(0)
    places = (rng.integers(sides, size=80_000), rng.integers(sides, size=80_000))
    matrix = csr_array((np.ones(80_000, np.float32), places), shape=(sides, sides))
    matrix.sum_duplicates()
    tracemalloc.start()
    users, items = svd_start(matrix, 8, seed=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert users.isfinite().all()
    assert items.isfinite().all()
    assert peak < 30 * 2 * sides * (8 + 16)  # bytes: a few copies of both sides
