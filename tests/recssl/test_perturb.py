from collections.abc import Callable

import numpy as np
import pytest
import torch

from recssl.graph import InteractionGraph
from recssl.perturb import drop_edges, drop_nodes, random_walk, svd_view
from sslcore.errors import ConfigError, ShapeError
from tests.recssl.random_graphs import random_graph

GRAPH = random_graph(60, 80, 0.2)
Drop = Callable[[InteractionGraph, float, np.random.Generator], torch.Tensor]


def block(adjacency: torch.Tensor) -> np.ndarray:
    return adjacency.to_dense().numpy()[: GRAPH.num_users, GRAPH.num_users :]


@pytest.mark.parametrize("drop", [drop_edges, drop_nodes])
def test_dropping_only_takes_edges_away_and_normalises_anew(drop: Drop) -> None:
    left = block(drop(GRAPH, 0.3, np.random.default_rng(0))) > 0
    dense = GRAPH.matrix.toarray() > 0
    assert not (left & ~dense).any()
    keep = left[GRAPH.edge_users, GRAPH.edge_items]
    expected = GRAPH.adjacency(keep).to_dense()
    assert torch.equal(drop(GRAPH, 0.3, np.random.default_rng(0)).to_dense(), expected)


@pytest.mark.parametrize("drop", [drop_edges, drop_nodes])
def test_dropping_nothing_is_the_clean_graph(drop: Drop) -> None:
    made = drop(GRAPH, 0.0, np.random.default_rng(0)).to_dense()
    assert torch.equal(made, GRAPH.adjacency().to_dense())


def test_the_share_of_edges_left_is_what_was_asked_for() -> None:
    rng = np.random.default_rng(0)
    left = [drop_edges(GRAPH, 0.3, rng).values().numel() / 2 for _ in range(50)]
    deviation = (0.3 * 0.7 * GRAPH.num_edges / 50) ** 0.5
    assert np.mean(left) == pytest.approx(0.7 * GRAPH.num_edges, abs=4 * deviation)


def test_a_dropped_node_loses_all_its_edges_and_the_others_none() -> None:
    left = block(drop_nodes(GRAPH, 0.3, np.random.default_rng(0))) > 0
    dense = GRAPH.matrix.toarray() > 0
    users, items = left.any(axis=1), left.any(axis=0)
    assert (left == dense & users[:, None] & items).all()
    assert not users[dense.any(axis=1)].all()
    assert not items[dense.any(axis=0)].all()


def test_a_random_walk_has_other_edges_in_each_layer() -> None:
    first, second, third = random_walk(GRAPH, 0.3, 3, np.random.default_rng(0))
    assert not torch.equal(first.to_dense(), second.to_dense())
    assert not torch.equal(second.to_dense(), third.to_dense())
    alone = drop_edges(GRAPH, 0.3, np.random.default_rng(0))
    assert torch.equal(first.to_dense(), alone.to_dense())


def test_the_svd_view_is_the_best_approximation_of_its_rank() -> None:
    view = svd_view(GRAPH, 5, seed=0)
    made = view.users.double() @ view.items.double().T
    clean = torch.from_numpy(block(GRAPH.adjacency())).double()
    values = torch.linalg.svdvals(clean)
    best = torch.linalg.norm(values[5:])
    assert torch.linalg.norm(clean - made) == pytest.approx(best.item(), rel=1e-3)
    full = svd_view(GRAPH, 60, seed=0)
    torch.testing.assert_close(full.users @ full.items.T, clean.float(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
@pytest.mark.parametrize("drop", [drop_edges, drop_nodes])
def test_refuses_a_share_out_of_range(drop: Drop, rate: float) -> None:
    with pytest.raises(ConfigError, match=r"a share to drop in \[0, 1\), got"):
        drop(GRAPH, rate, np.random.default_rng(0))


def test_refuses_a_rank_that_the_matrix_has_not() -> None:
    with pytest.raises(ShapeError, match="no SVD of rank 61"):
        svd_view(GRAPH, 61, seed=0)
