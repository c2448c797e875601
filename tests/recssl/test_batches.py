from pathlib import Path

import numpy as np
import pytest
import torch

from recssl.batches import BatchMaker
from recssl.encoders.mf import MatrixFactorisation
from recssl.graph import InteractionGraph, LowRank
from recssl.perturb import svd_view
from sslcore.errors import ConfigError
from sslcore.modules.queue import FeatureQueue
from tests.recssl.grouped_log import ITEMS, USERS, config, grouped_log
from tests.recssl.logs import make_dataset


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return grouped_log(tmp_path / "data").folder


def test_batches_depend_on_seed_and_step_only(data: Path) -> None:
    settings = config(data, contrast={"name": "simgcl"}, sampling={"log_q": 0.5})
    graph = InteractionGraph(grouped_log(data.parent / "again").train)
    makers = [BatchMaker(graph, MatrixFactorisation(USERS, ITEMS, 4), settings) for _ in range(2)]
    whole, late = makers[0].draw(0), makers[1].draw(2)
    for _ in range(2):
        next(whole)
    one, other = (
        maker.complete(next(source), device=torch.device("cpu"))
        for maker, source in zip(makers, (whole, late), strict=True)
    )
    assert torch.equal(one.users, other.users)
    assert one.contrast is not None
    assert other.contrast is not None
    assert one.contrast.views[1].seed == other.contrast.views[1].seed
    assert one.log_q is not None
    shares = np.bincount(graph.edge_items, minlength=ITEMS) / graph.num_edges
    expected = 0.5 * np.log(shares[one.items.numpy()])
    assert np.allclose(one.log_q.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("alpha", [None, 0.5])
def test_shared_negatives_are_drawn_once_and_what_a_user_likes_is_left_out(
    data: Path, alpha: float | None
) -> None:
    log_q = 0.0 if alpha is None else 0.5
    sampling = {"negatives": "shared", "count": 30, "alpha": alpha, "log_q": log_q}
    graph = InteractionGraph(grouped_log(data.parent / "again").train)
    maker = BatchMaker(graph, MatrixFactorisation(USERS, ITEMS, 4), config(data, sampling=sampling))
    made = maker.complete(next(maker.draw(3)), device=torch.device("cpu"))
    assert made.negatives is not None
    assert made.excluded is not None
    assert made.negatives.shape == (30,)
    likes = torch.from_numpy(graph.matrix.toarray() > 0)
    assert torch.equal(made.excluded, likes[made.users][:, made.negatives])
    if alpha is None:
        assert made.log_q is None
        return
    weights = graph.item_degrees**alpha
    expected = 0.5 * np.log(weights / weights.sum())
    drawn = torch.cat([made.items, made.negatives]).numpy()
    assert made.log_q is not None
    assert np.allclose(made.log_q.numpy(), expected[drawn], atol=1e-5)


def test_mixed_negatives_are_those_of_the_batch_and_the_drawn_ones(data: Path) -> None:
    graph = InteractionGraph(grouped_log(data.parent / "again").train)
    settings = config(data, sampling={"negatives": "mixed", "count": 30, "log_q": 1.0})
    maker = BatchMaker(graph, MatrixFactorisation(USERS, ITEMS, 4), settings)
    made = maker.complete(next(maker.draw(3)), device=torch.device("cpu"))
    assert made.with_batch
    assert made.excluded is not None
    assert made.log_q is not None
    assert made.excluded.shape == (64, 64 + 30)
    shares = np.bincount(graph.edge_items, minlength=ITEMS) / graph.num_edges
    mixture = (64 * shares + 30 / ITEMS) / 94
    assert np.allclose(made.log_q[:64].exp().numpy(), mixture[made.items.numpy()], atol=1e-6)


def test_a_batch_leaves_out_what_the_queue_holds_when_it_is_completed(data: Path) -> None:
    graph = InteractionGraph(grouped_log(data.parent / "again").train)
    sampling = {"negatives": "shared", "count": 30, "queue": 80, "mask": "positives"}
    queue = FeatureQueue(80, 4)
    maker = BatchMaker(
        graph, MatrixFactorisation(USERS, ITEMS, 4), config(data, sampling=sampling), queue
    )
    drawn = next(maker.draw(0))
    empty = maker.complete(drawn, device=torch.device("cpu"))
    queue.push(torch.zeros(60, 4), torch.arange(60))
    filled = maker.complete(drawn, device=torch.device("cpu"))
    assert empty.excluded is not None
    assert filled.excluded is not None
    assert torch.equal(filled.excluded[:, :30], empty.excluded[:, :30])
    assert empty.excluded[:, 30:].all()
    assert filled.excluded[:, 90:].all()
    likes = torch.from_numpy(graph.matrix.toarray() > 0)
    assert torch.equal(filled.excluded[:, 30:90], likes[filled.users])


def test_svd_views_are_the_clean_graph_and_one_low_rank_copy_for_the_whole_run(data: Path) -> None:
    graph = InteractionGraph(grouped_log(data.parent / "again").train)
    settings = config(data, encoder={"name": "lightgcn", "dim": 4}, contrast={"name": "lightgcl"})
    encoder = MatrixFactorisation(USERS, ITEMS, 4)
    makers = [BatchMaker(graph, encoder, settings) for _ in range(2)]
    first, later = (
        maker.complete(next(maker.draw(step)), device=torch.device("cpu")).contrast
        for maker, step in zip(makers, (0, 5), strict=True)
    )
    assert first is not None
    assert later is not None
    assert first.views[0].adjacency is None
    one, other = (views.views[1].adjacency for views in (first, later))
    assert isinstance(one, LowRank)
    assert isinstance(other, LowRank)
    expected = svd_view(graph, 5, seed=0)
    for side in ("users", "items"):
        assert torch.equal(getattr(one, side), getattr(other, side))
        assert torch.equal(getattr(one, side), getattr(expected, side))


def test_ncl_gets_the_nodes_of_the_batch_on_the_graph_as_it_is(data: Path) -> None:
    graph = InteractionGraph(grouped_log(data.parent / "again").train)
    settings = config(data, encoder={"name": "lightgcn", "dim": 4}, contrast={"name": "ncl"})
    maker = BatchMaker(graph, MatrixFactorisation(USERS, ITEMS, 4), settings)
    batch = maker.complete(next(maker.draw(0)), device=torch.device("cpu"))
    assert batch.contrast is not None
    (view,) = batch.contrast.views
    assert (view.adjacency, view.noise) == (None, 0)
    users, items = torch.split(view.nodes, list(batch.contrast.segments))
    assert torch.equal(users, batch.users.unique())
    assert torch.equal(items, batch.items.unique() + USERS)


@pytest.mark.parametrize("name", ["simclr", "sgl"])
def test_pairs_of_one_item_are_nothing_to_contrast(tmp_path: Path, name: str) -> None:
    pairs = [(user, 0) for user in range(USERS)]
    data = make_dataset(tmp_path / "data", pairs, [], [], USERS, ITEMS)
    settings = config(data.folder, encoder={"name": "lightgcn", "dim": 4}, contrast={"name": name})
    maker = BatchMaker(InteractionGraph(data.train), MatrixFactorisation(USERS, ITEMS, 4), settings)
    with pytest.raises(ConfigError, match="all pairs of step 0 are of one item"):
        maker.complete(next(maker.draw(0)), device=torch.device("cpu"))


def test_a_rank_that_the_graph_has_not_is_refused(data: Path) -> None:
    settings = config(
        data,
        encoder={"name": "lightgcn", "dim": 4},
        contrast={"name": "lightgcl"},
        views={"rank": 41},
    )
    graph = InteractionGraph(grouped_log(data.parent / "again").train)
    with pytest.raises(ConfigError, match=r"views\.rank 41: .* no more than 40 singular values"):
        BatchMaker(graph, MatrixFactorisation(USERS, ITEMS, 4), settings)
