"""Small graphs for the tests of samplers and views."""

import numpy as np
from scipy.sparse import csr_array
from scipy.stats import chisquare

from recssl.graph import InteractionGraph


def graph_of(dense: list[list[int]] | np.ndarray) -> InteractionGraph:
    return InteractionGraph(csr_array(np.asarray(dense, dtype=np.float32)))


def random_graph(users: int, items: int, density: float, seed: int = 0) -> InteractionGraph:
    """Items differ in popularity, users in activity; user 0 has no interactions."""
    rng = np.random.default_rng(seed)
    chance = density * 2 * np.linspace(1, 0.05, items) * np.linspace(0, 1.5, users)[:, None]
    return graph_of(rng.random((users, items)) < chance)


def chi_square_fits(counts: np.ndarray, expected: np.ndarray) -> bool:
    """Accept unless so large a distance comes up once in ten thousand times."""
    return bool(chisquare(counts, expected * counts.sum() / expected.sum()).pvalue > 1e-4)
