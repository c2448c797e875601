import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from recssl.graph import GraphView, InteractionGraph, LowRank
from sslcore.errors import ShapeError
from tests.recssl.random_graphs import graph_of, random_graph


def adjacency_by_hand(dense: np.ndarray, user_power: float, item_power: float) -> np.ndarray:
    users, items = dense.shape
    result = np.zeros((users + items, users + items))
    for u in range(users):
        for i in range(items):
            if dense[u, i]:
                value = float(dense[u].sum()) ** user_power * float(dense[:, i].sum()) ** item_power
                result[u, users + i] = result[users + i, u] = value
    return result


def test_counts_edges_and_degrees() -> None:
    graph = graph_of([[1, 0, 1], [0, 0, 0], [0, 0, 1]])
    assert (graph.num_users, graph.num_items, graph.num_edges) == (3, 3, 3)
    assert graph.user_degrees.tolist() == [2, 0, 1]
    assert graph.item_degrees.tolist() == [1, 0, 2]
    assert graph.edge_users.tolist() == [0, 0, 2]
    assert graph.edge_items.tolist() == [0, 2, 2]
    assert graph.edge_users.dtype == np.int32
    assert graph.edge_items.dtype == np.int32
    assert graph.user_degrees.dtype == graph.item_degrees.dtype == np.int64


def test_transposed_entries_know_their_edge() -> None:
    graph = random_graph(20, 30, 0.3)
    assert (graph.transposed.toarray() == graph.matrix.toarray().T).all()
    rows = np.repeat(np.arange(30), np.diff(graph.transposed.indptr))
    assert (graph.edge_items[graph.transposed_edges] == rows).all()
    assert (graph.edge_users[graph.transposed_edges] == graph.transposed.indices).all()


@given(st.integers(1, 12), st.integers(1, 40), st.floats(0, 0.7), st.integers(0, 9))
def test_contains_says_what_the_dense_matrix_says(
    users: int, items: int, density: float, seed: int
) -> None:
    graph = random_graph(users, items, density, seed)
    row, column = np.indices((users, items))
    assert (graph.contains(row, column) == (graph.matrix.toarray() > 0)).all()


def test_contains_handles_full_rows_unsigned_items_and_nothing() -> None:
    graph = graph_of(np.ones((2, 37), dtype=int))
    items = np.arange(37, dtype=np.uint32)
    assert graph.contains(np.ones(37, dtype=np.int64), items).all()
    assert graph.contains(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)).shape == (0,)


@pytest.mark.parametrize(("user_power", "item_power"), [(-0.5, -0.5), (-1.0, 0.0), (-0.3, -0.7)])
@pytest.mark.parametrize("dropping", [False, True])
def test_adjacency_matches_the_formula_written_out(
    user_power: float, item_power: float, dropping: bool
) -> None:
    graph = random_graph(7, 9, 0.4)
    keep = np.random.default_rng(1).random(graph.num_edges) < 0.6 if dropping else None
    dense = graph.matrix.toarray()
    if keep is not None:
        dense[graph.edge_users, graph.edge_items] = keep
    made = graph.adjacency(keep, user_power=user_power, item_power=item_power)
    expected = adjacency_by_hand(dense, user_power, item_power)
    assert made.layout == torch.sparse_csr
    assert made.dtype == torch.float32
    np.testing.assert_allclose(made.to_dense().numpy(), expected, rtol=1e-6)
    torch.testing.assert_close(made.to_dense(), made.to_dense().T)


def test_adjacency_satisfies_the_invariants_that_torch_would_check() -> None:
    made = random_graph(7, 9, 0.4).adjacency()
    torch.sparse_csr_tensor(
        made.crow_indices(),
        made.col_indices(),
        made.values(),
        size=made.shape,
        check_invariants=True,
    )
    assert made.crow_indices().dtype == torch.int32


def test_adjacency_does_not_depend_on_weights() -> None:
    graph = random_graph(7, 9, 0.4)
    heavy = graph.matrix.copy()
    heavy.data *= 5
    assert torch.equal(graph.adjacency().to_dense(), InteractionGraph(heavy).adjacency().to_dense())


def test_refuses_a_mask_of_another_length() -> None:
    with pytest.raises(ShapeError, match=r"expected keep \[3 edges\], got \(2,\)"):
        graph_of([[1, 1], [1, 0]]).adjacency(np.ones(2, dtype=bool))


def test_refuses_rows_out_of_order() -> None:
    matrix = csr_array(
        (np.ones(2, np.float32), np.array([1, 0], np.int32), np.array([0, 2])), shape=(1, 2)
    )
    with pytest.raises(ShapeError, match="ascending items"):
        InteractionGraph(matrix)


def test_low_rank_propagates_like_its_dense_form() -> None:
    rng = torch.Generator().manual_seed(0)
    factors = LowRank(torch.randn(4, 2, generator=rng), torch.randn(5, 2, generator=rng))
    nodes = torch.randn(9, 3, generator=rng)
    block = factors.users @ factors.items.T
    dense = torch.zeros(9, 9)
    dense[:4, 4:], dense[4:, :4] = block, block.T
    torch.testing.assert_close(factors.propagate(nodes), dense @ nodes)


def test_a_view_moves_whatever_it_holds() -> None:
    adjacency = random_graph(4, 5, 0.5).adjacency()
    nodes = torch.arange(3)
    factors = LowRank(torch.ones(4, 1), torch.ones(5, 1))
    for held in (None, adjacency, (adjacency, adjacency), factors):
        view = GraphView(nodes, held, noise=0.1, seed=4).to("meta")
        assert view.nodes.device.type == "meta"
        assert (view.noise, view.seed) == (0.1, 4)
        layers = view.adjacency if isinstance(view.adjacency, tuple) else (view.adjacency,)
        for layer in layers:
            if isinstance(layer, LowRank):
                assert layer.items.device.type == "meta"
            elif layer is not None:
                assert layer.device.type == "meta"
