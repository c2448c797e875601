import copy
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from scipy.sparse import csr_array
from torch import Tensor

from recssl.encoders.encoder import EmbeddingTable, add_noise
from recssl.encoders.lightgcn import CleanGraph, LightGCN
from recssl.encoders.mf import MatrixFactorisation
from recssl.encoders.towers import FeatureSpec, TwoTowers
from recssl.errors import DatasetError
from recssl.graph import GraphView, InteractionGraph, LowRank
from recssl.matrices import normalised
from recssl.readout import Readout
from recssl.svd import svd_start, truncated_svd
from sslcore.errors import ShapeError
from sslcore.modules.ema import EmaTeacher

USERS, ITEMS, DIM = 4, 5, 3
LIKES = [(0, 0), (0, 1), (1, 1), (1, 2), (2, 3), (2, 0), (3, 1)]  # item 4 has no user


def matrix() -> csr_array:
    rows, columns = zip(*sorted(LIKES), strict=True)
    values = np.ones(len(LIKES), np.float32)
    found = csr_array((values, (rows, columns)), shape=(USERS, ITEMS))
    found.sum_duplicates()
    return found


def dense_adjacency() -> Tensor:
    whole = torch.zeros(USERS + ITEMS, USERS + ITEMS)
    for user, item in LIKES:
        users = sum(u == user for u, _ in LIKES)
        items = sum(i == item for _, i in LIKES)
        whole[user, USERS + item] = whole[USERS + item, user] = (users * items) ** -0.5
    return whole


def lightgcn(**options: object) -> LightGCN:
    torch.manual_seed(0)
    return LightGCN(USERS, ITEMS, DIM, InteractionGraph(matrix()).adjacency(), **options)  # type: ignore[arg-type]


NODES = torch.tensor([0, 3, 5, 8])


@pytest.mark.parametrize("skip_input", [True, False])
def test_lightgcn_is_the_mean_over_layers_in_value_and_gradient(skip_input: bool) -> None:
    encoder = lightgcn(layers=3, skip_input=skip_input)
    x = encoder.table.weight.detach().clone().requires_grad_()
    layers = [x]
    for _ in range(3):
        layers.append(dense_adjacency() @ layers[-1])
    expected = torch.stack(layers[1:] if skip_input else layers).mean(dim=0)[NODES]
    rows = encoder(GraphView(NODES))
    assert torch.allclose(rows, expected, atol=1e-6)
    rows.square().sum().backward()
    expected.square().sum().backward()
    assert encoder.table.weight.grad is not None
    assert x.grad is not None
    assert torch.allclose(encoder.table.weight.grad, x.grad, atol=1e-6)


def test_an_adjacency_per_layer_is_used_in_order_and_its_gradient_in_reverse() -> None:
    encoder = lightgcn(layers=2)
    factors = [LowRank(torch.rand(USERS, 2), torch.rand(ITEMS, 2)) for _ in range(2)]
    dense = []
    for factor in factors:
        whole = torch.zeros(USERS + ITEMS, USERS + ITEMS)
        whole[:USERS, USERS:] = factor.users @ factor.items.T
        dense.append(whole + whole.T)
    x = encoder.table.weight.detach().clone().requires_grad_()
    expected = ((x + dense[0] @ x + dense[1] @ (dense[0] @ x)) / 3)[NODES]
    rows = encoder(GraphView(NODES, (factors[0], factors[1])))  # type: ignore[arg-type]
    rows.square().sum().backward()
    expected.square().sum().backward()
    assert encoder.table.weight.grad is not None
    assert x.grad is not None
    assert torch.allclose(encoder.table.weight.grad, x.grad, atol=1e-5)


def test_the_layer_of_xsimgcl_shares_the_noise_of_the_final_embeddings() -> None:
    encoder = lightgcn(layers=2)
    view = GraphView(NODES, None, 0.2, 5)
    final, first = encoder.forward_with_layer(view, 1)
    assert torch.allclose(final, encoder(view), atol=1e-6)
    assert not torch.allclose(first, final)


@pytest.mark.parametrize("skip_input", [True, False])
@pytest.mark.parametrize("layers", [1, 3])
def test_the_low_rank_way_replaces_the_last_step_of_each_layer(
    layers: int, skip_input: bool
) -> None:
    encoder = lightgcn(layers=layers, skip_input=skip_input).double()
    clean = dense_adjacency().double()
    encoder.graph = CleanGraph(clean.to_sparse_csr())
    factors = LowRank(torch.rand(USERS, 2).double(), torch.rand(ITEMS, 2).double())
    low = torch.zeros_like(clean)
    low[:USERS, USERS:] = factors.users @ factors.items.T
    low = low + low.T
    x = encoder.table.weight.detach().clone().requires_grad_()
    local, spread = [x], [x]
    for _ in range(layers):
        spread.append(low @ local[-1])
        local.append(clean @ local[-1])
    first = 1 if skip_input else 0
    expected = [torch.stack(way[first:]).mean(dim=0)[NODES] for way in (local, spread)]
    made = encoder.forward_with_low_rank(NODES, factors)
    for one, other in zip(made, expected, strict=True):
        torch.testing.assert_close(one, other)
    sum(way.square().sum() for way in made).backward()
    sum(way.square().sum() for way in expected).backward()
    torch.testing.assert_close(encoder.table.weight.grad, x.grad)


def test_views_with_another_number_of_layers_are_refused() -> None:
    encoder = lightgcn(layers=2)
    one = InteractionGraph(matrix()).adjacency()
    with pytest.raises(ShapeError, match="each of 1 layers"):
        encoder(GraphView(NODES, (one,)))


def test_noise_has_the_given_length_and_the_signs_of_the_row() -> None:
    rows = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    moved = add_noise(rows, amount=0.1, generator=torch.Generator().manual_seed(1)) - rows
    assert torch.allclose(moved.norm(dim=1), torch.full((6,), 0.1))
    assert (moved.sign() == rows.sign()).all()


@pytest.mark.parametrize("make", [lightgcn, lambda: MatrixFactorisation(USERS, ITEMS, DIM)])
def test_the_same_seed_gives_the_same_noise(make: object) -> None:
    encoder = make()  # type: ignore[operator]
    one, other = (encoder(GraphView(NODES, None, 0.2, seed)) for seed in (3, 4))
    assert torch.equal(one, encoder(GraphView(NODES, None, 0.2, 3)))
    assert not torch.equal(one, other)


def test_gradients_of_matrix_factorisation_hold_the_rows_of_the_batch_only() -> None:
    encoder = MatrixFactorisation(USERS, ITEMS, DIM)
    encoder(GraphView(torch.tensor([1, 6, 6]))).sum().backward()
    gradient = encoder.table.weight.grad
    assert gradient is not None
    assert gradient.coalesce().indices().tolist() == [[1, 6]]


def test_a_teacher_shares_the_graph() -> None:
    encoder = lightgcn()
    assert copy.deepcopy(encoder).graph is encoder.graph
    teacher = EmaTeacher(encoder)
    teacher.update(encoder, momentum=0.5)
    assert torch.allclose(teacher(GraphView(NODES)), encoder(GraphView(NODES)))


def test_the_truncated_svd_is_that_of_the_dense_matrix() -> None:
    graph = normalised(matrix())
    expected = dense_adjacency()[:USERS, USERS:].numpy()
    assert np.allclose(graph.toarray(), expected, atol=1e-6)
    left, values, right = truncated_svd(graph, 2, seed=0)
    assert np.allclose(values, np.linalg.svd(expected)[1][:2], atol=1e-5)
    assert np.allclose(expected @ right, left * values, atol=1e-5)
    again = truncated_svd(graph, 2, seed=1)
    assert np.allclose(right, again[2], atol=1e-4)


def test_the_vectors_of_the_svd_are_orthonormal_though_computed_in_float32() -> None:
    draw = np.random.default_rng(0)
    pairs = (draw.random((2, 40_000)) ** 3 * [[3000], [400]]).astype(np.int64)
    graph = csr_array((np.ones(40_000, np.float32), (pairs[0], pairs[1])), shape=(3000, 400))
    graph.sum_duplicates()
    left, values, right = truncated_svd(normalised(graph), 32, seed=0)
    for vectors in (left, right):
        assert vectors.dtype == np.float32
        assert np.allclose(vectors.T @ vectors, np.eye(32), atol=1e-5)
    assert np.allclose(values, np.linalg.svd(normalised(graph).toarray())[1][:32], rtol=0.06)


def test_an_svd_start_may_be_wider_than_the_matrix() -> None:
    users, items = svd_start(matrix(), 8, seed=0)
    assert users.shape == (USERS, 8)
    approximation = users @ items.T
    assert torch.allclose(approximation, dense_adjacency()[:USERS, USERS:], atol=1e-3)
    encoder = MatrixFactorisation(USERS, ITEMS, 8)
    encoder.start_from(users, items)
    assert encoder.embed_all()[0].norm(dim=1).mean().item() == pytest.approx(1.0)


def test_a_rank_beyond_the_matrix_is_refused() -> None:
    with pytest.raises(ShapeError, match="no SVD of rank 9"):
        truncated_svd(matrix(), 9, seed=0)


def test_the_readout_adds_propagations_of_rows_of_length_one() -> None:
    x = torch.randn(USERS + ITEMS, DIM, generator=torch.Generator().manual_seed(0))
    units = x / x.norm(dim=1, keepdim=True)
    step = 0.5 * dense_adjacency()
    expected = units + step @ units + step @ step @ units
    readout = Readout(matrix(), cosine=True, layers=2, weight=0.5)
    users, items = readout(x[:USERS], x[USERS:])
    assert np.allclose(np.concatenate([users, items]), expected.numpy(), atol=1e-5)
    plain = Readout(matrix(), cosine=False, layers=0, weight=1.0)(x[:USERS], x[USERS:])
    assert np.array_equal(plain[0], x[:USERS].numpy())


def tables() -> tuple[pl.DataFrame, pl.DataFrame]:
    users = pl.DataFrame({"user": [0, 1, 2], "id": [5, 6, 7], "age": [20.0, None, 40.0]})
    items = pl.DataFrame(
        {"item": [0, 1], "id": ["a", "b"], "genre": ["jazz", None], "year": [1990, 2000]}
    )
    return users, items


def test_towers_embed_items_that_the_log_does_not_know() -> None:
    torch.manual_seed(0)
    encoder = TwoTowers(*tables(), DIM)
    users, items = encoder.embed_all()
    assert (users.shape, items.shape) == ((3, DIM), (2, DIM))
    mixed = encoder(GraphView(torch.tensor([4, 0, 3])))
    assert torch.allclose(mixed, torch.stack([items[1], users[0], items[0]]))
    new = pl.DataFrame({"genre": ["jazz", "polka"], "year": [1990, 2000]})
    assert torch.allclose(encoder.embed_new("item", new), items)  # polka is as unknown as null


def test_a_side_without_features_is_a_table_of_which_a_batch_moves_its_rows() -> None:
    torch.manual_seed(0)
    users, items = tables()
    plain = users.select("user", "id")
    encoder = TwoTowers(plain, items, DIM)
    rows, _ = encoder.embed_all()
    assert rows.shape == (3, DIM)
    assert len(rows.unique(dim=0)) == 3
    assert torch.equal(encoder(GraphView(torch.tensor([4, 2])))[1], rows[2])
    encoder(GraphView(torch.tensor([4, 2, 0]))).sum().backward()
    gradient = encoder.towers["user"].weight.grad
    assert isinstance(gradient, torch.Tensor)
    assert gradient.is_sparse
    assert sorted(gradient.coalesce().indices()[0].tolist()) == [0, 2]
    with pytest.raises(DatasetError, match="the user table has no feature columns"):
        encoder.embed_new("user", users)
    with pytest.raises(DatasetError, match=r"neither users nor items have.*--item-features"):
        TwoTowers(plain, items.select("item", "id"), DIM)


def test_the_start_and_the_readout_do_not_see_weights() -> None:
    weighted = matrix()
    weighted.data = np.arange(1, len(LIKES) + 1, dtype=np.float32)
    weighted.data[2] = 0
    assert np.array_equal(normalised(weighted).toarray(), normalised(matrix()).toarray())
    for one, other in zip(*(svd_start(m, 3, seed=0) for m in (weighted, matrix())), strict=True):
        assert torch.equal(one, other)
    x = torch.randn(USERS + ITEMS, DIM, generator=torch.Generator().manual_seed(0))
    read = [
        Readout(m, cosine=True, layers=1, weight=1.0)(x[:USERS], x[USERS:])
        for m in (weighted, matrix())
    ]
    for one, other in zip(*read, strict=True):
        assert np.array_equal(one, other)


def test_features_without_a_meaning_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no feature columns"):
        FeatureSpec.of(tables()[0].select("user", "id"))
    with pytest.raises(DatasetError, match="'tags' is of type List"):
        FeatureSpec.of(tables()[0].with_columns(tags=pl.Series([["a"], ["b"], []])))
    with pytest.raises(DatasetError, match=r"missing feature columns \['age'\]"):
        FeatureSpec.of(tables()[0]).encode(tables()[1])


def test_a_start_scales_each_side_to_length_one() -> None:
    encoder: EmbeddingTable = MatrixFactorisation(USERS, ITEMS, DIM)
    encoder.start_from(torch.ones(USERS, DIM) * 7, torch.ones(ITEMS, DIM) * 0.1)
    for side in encoder.embed_all():
        assert torch.allclose(side.norm(dim=1), torch.ones(len(side)))


@pytest.mark.parametrize("edges", [0, 1, 400])
def test_propagation_on_the_cpu_is_the_sparse_product(edges: int) -> None:
    rng = np.random.default_rng(0)
    liked = csr_array(
        (np.ones(edges, np.float32), (rng.integers(30, size=edges), rng.integers(50, size=edges))),
        shape=(30, 50),
    )
    liked.sum_duplicates()
    adjacency = InteractionGraph(liked).adjacency()
    encoder = LightGCN(30, 50, 8, adjacency, layers=1, skip_input=True)
    rows = encoder(GraphView(torch.arange(80)))
    assert torch.allclose(rows, adjacency.to_dense() @ encoder.table.weight, atol=1e-6)
