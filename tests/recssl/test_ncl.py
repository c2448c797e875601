"""NCL: its formula by hand, its prototypes as state, and communities that it must find."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from recssl.dataset import open_dataset
from recssl.encoders.lightgcn import CleanGraph, LightGCN
from recssl.graph import GraphView
from recssl.methods.joint import RecBatch
from recssl.methods.ncl import NeighbourhoodRecommendation
from recssl.methods.prototypes import PrototypeContrast, Prototypes
from recssl.methods.registry import build_recommendation
from recssl.methods.settings import NCLConfig, SampledSoftmaxConfig
from recssl.objectives.prototype_nce import prototype_nce_loss
from recssl.run_parts import assemble
from recssl.settings.methods import METHODS
from recssl.settings.train import TrainConfig
from sslcore.config import resolve_config
from sslcore.errors import ConfigError, ShapeError
from sslcore.views import ViewBatch
from tests.recssl.grouped_log import grouped_log
from tests.recssl.test_encoders import USERS, dense_adjacency, lightgcn
from tests.reference.checks import assert_autocast_changes_nothing, assert_gradient_is_right
from tests.reference.contrastive import Rows, cosine, info_nce_by_hand

NEAREST = torch.tensor([2, 0, 1, 1, 2])


def rows(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def prototype_nce_by_hand(own: Rows, prototypes: Rows, nearest: list[int], t: float) -> float:
    total = 0.0
    for row, number in zip(own, nearest, strict=True):
        scores = [math.exp(cosine(row, prototype) / t) for prototype in prototypes]
        total -= math.log(scores[number] / sum(scores))
    return total / len(own)


def test_prototype_nce_is_the_formula_written_out() -> None:
    own, prototypes = rows(0, 5, 4), rows(1, 3, 4)
    expected = prototype_nce_by_hand(own.tolist(), prototypes.tolist(), NEAREST.tolist(), 0.3)
    found = prototype_nce_loss(own, prototypes, nearest=NEAREST, temperature=0.3)
    assert found.item() == pytest.approx(expected, rel=1e-9)


def test_prototype_nce_knows_its_extremes_and_no_lengths() -> None:
    prototypes = torch.eye(3).double()
    best = prototype_nce_loss(7 * prototypes, prototypes, nearest=torch.arange(3), temperature=0.1)
    assert best.item() == pytest.approx(math.log(1 + 2 * math.exp(-10)), rel=1e-9)
    same = prototype_nce_loss(rows(0, 5, 4), torch.ones(3, 4).double(), nearest=NEAREST)
    assert same.item() == pytest.approx(math.log(3), rel=1e-9)
    alone = prototype_nce_loss(rows(0, 5, 4), rows(1, 1, 4), nearest=torch.zeros(5).long())
    assert alone.item() == 0
    scaled = prototype_nce_loss(3 * rows(0, 5, 4), rows(1, 3, 4) / 5, nearest=NEAREST)
    assert scaled.item() == pytest.approx(
        prototype_nce_loss(rows(0, 5, 4), rows(1, 3, 4), nearest=NEAREST).item(), rel=1e-9
    )


def test_prototype_nce_has_the_right_gradient_also_under_autocast() -> None:
    def of_pair(z_a: Tensor, z_b: Tensor) -> Tensor:
        return prototype_nce_loss(z_a, z_b, nearest=torch.arange(len(z_a)).flip(0))

    assert_gradient_is_right(of_pair)
    assert_autocast_changes_nothing(of_pair)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e30])
def test_prototype_nce_is_finite_at_the_edge(scale: float) -> None:
    own = (scale * rows(0, 5, 4).float()).requires_grad_()
    loss = prototype_nce_loss(own, scale * rows(1, 3, 4).float(), nearest=NEAREST)
    loss.backward()
    assert loss.isfinite()
    assert own.grad is not None
    assert own.grad.isfinite().all()


@pytest.mark.parametrize(
    ("own", "prototypes", "count"), [((5, 4), (3, 3), 5), ((5, 4), (3, 4), 4), ((0, 4), (3, 4), 0)]
)
def test_prototype_nce_refuses_shapes(
    own: tuple[int, int], prototypes: tuple[int, int], count: int
) -> None:
    with pytest.raises(ShapeError, match=r"expected rows \[batch > 0, dim\]"):
        prototype_nce_loss(rows(0, *own), rows(1, *prototypes), nearest=NEAREST[:count])


def ncl(**settings: object) -> tuple[NeighbourhoodRecommendation, RecBatch]:
    """Make the method in float64 on the graph of `test_encoders`, and a batch."""
    encoder = lightgcn(layers=2).double()
    encoder.graph = CleanGraph(dense_adjacency().double().to_sparse_csr())
    config = NCLConfig.model_validate({"temperature": 0.3, "item_weight": 0.7} | settings)
    method = build_recommendation(SampledSoftmaxConfig(), config, encoder, weight=0.5).double()
    assert isinstance(method, NeighbourhoodRecommendation)
    nodes = torch.tensor([0, 2, 3, USERS + 1, USERS + 3])
    contrast = ViewBatch((GraphView(nodes),), (3, 2))
    return method, RecBatch(torch.tensor([0, 2, 3]), torch.tensor([1, 3, 1]), contrast=contrast)


def two_prototypes(method: NeighbourhoodRecommendation) -> None:
    """Put clusters into a method whose graph is too small for its own."""
    for seed, side in enumerate((method.prototypes.users, method.prototypes.items)):
        side.centres = rows(seed + 5, 2, method.encoder.dim)
        side.nearest = torch.arange(len(side.nearest)) % 2
    method.prototypes.found.fill_(1)


def test_ncl_is_the_formula_written_out() -> None:
    method, batch = ncl(prototype_weight=0.4)
    two_prototypes(method)
    output = method(batch)
    assert isinstance(method.encoder, LightGCN)
    table = method.encoder.table.weight.detach()
    around = dense_adjacency().double() @ (dense_adjacency().double() @ table)
    sides = []
    users, items = [0, 2, 3], [1, 3]
    for ids, first, held in (
        (users, 0, method.prototypes.users),
        (items, USERS, method.prototypes.items),
    ):
        nodes = [first + number for number in ids]
        structure = info_nce_by_hand(around[nodes].tolist(), table[nodes].tolist(), 0.3)
        nearest = [number % 2 for number in ids]
        centres = held.centres.tolist()
        prototypes = prototype_nce_by_hand(table[nodes].tolist(), centres, nearest, 0.3)
        sides.append(structure + 0.4 * prototypes)
    expected = (sides[0] + 0.7 * sides[1]) / 1.7
    assert output.logs["contrast"].item() == pytest.approx(expected, rel=1e-9)
    assert output.loss.item() == pytest.approx(
        output.logs["ranking"].item() + 0.5 * expected, rel=1e-9
    )
    plain = build_recommendation(SampledSoftmaxConfig(), None, method.encoder, weight=1.0)(batch)
    assert output.logs["ranking"].item() == pytest.approx(plain.loss.item(), rel=1e-9)
    output.loss.backward()
    assert method.encoder.table.weight.grad is not None
    assert not method.prototypes.users.centres.requires_grad


def test_there_is_no_prototype_term_before_the_first_prototypes() -> None:
    method, batch = ncl()
    assert "prototypes" not in method(batch).logs
    two_prototypes(method)
    assert "prototypes" in method(batch).logs


def test_prototypes_are_found_after_steps_only_and_when_it_is_time() -> None:
    method, batch = ncl(warmup=0.2, every=0.1)
    found = []
    for step in range(1, 21):
        before = int(method.prototypes.found)
        method(batch)
        assert int(method.prototypes.found) == before
        method.after_step(step / 20)
        found.append(int(method.prototypes.found))
    assert found == [0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9]


def test_the_same_rows_give_the_same_prototypes_and_each_node_the_nearest() -> None:
    points = rows(3, 60, 5).float()
    first, second = (Prototypes(60, 5, count=7) for _ in range(2))
    for prototypes in (first, second):
        prototypes.find(points)
    assert torch.equal(first.centres, second.centres)
    assert torch.equal(first.nearest, second.nearest)
    assert torch.equal(torch.cdist(points, first.centres).argmin(dim=1), first.nearest)
    for number in range(7):
        mean = points[first.nearest == number].mean(dim=0)
        torch.testing.assert_close(first.centres[number], mean, atol=0.15, rtol=0)


@pytest.mark.parametrize(("nodes", "expected"), [(400, 100), (40, 10), (3, 1)])
def test_few_nodes_have_fewer_prototypes(nodes: int, expected: int) -> None:
    prototypes = Prototypes(nodes, 2, count=100)
    prototypes.find(torch.zeros(nodes, 2))
    assert prototypes.centres.shape == (expected, 2)
    assert prototypes.centres.isfinite().all()


def test_prototypes_without_faiss_name_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ConfigError, match="contrast ncl needs FAISS"):
        Prototypes(8, 2, count=2).find(torch.zeros(8, 2))


@pytest.mark.parametrize("layer", [3, 4])
def test_a_layer_that_is_odd_or_missing_is_refused(layer: int) -> None:
    encoder = lightgcn(layers=3)
    given = PrototypeContrast(encoder, count=2, temperature=0.1, warmup=0.1, every=0.1)
    with pytest.raises(ConfigError, match=f"layer {layer}: expected an even one, at most .* 3"):
        NeighbourhoodRecommendation(
            encoder,
            build_recommendation(SampledSoftmaxConfig(), None, encoder, weight=1.0).ranking,
            given,
            weight=1.0,
            prototype_weight=1.0,
            item_weight=1.0,
            layer=layer,
        )


def test_a_batch_without_both_sides_is_refused() -> None:
    method, batch = ncl()
    for contrast in (None, replace(batch.contrast, segments=())):
        with pytest.raises(ShapeError, match="a view of the users and items"):
            method(replace(batch, contrast=contrast))


@pytest.mark.parametrize("start", ["svd", "random"])
def test_ncl_finds_the_two_communities_of_a_log(tmp_path: Path, start: str) -> None:
    data = grouped_log(tmp_path / "data", groups=2).folder
    options = {
        "data.path": data,
        "encoder.dim": 8,
        "encoder.start": start,
        "contrast.prototypes": 2,
        "optim.learning_rate": 0.05,
        "run.batch_size": 64,
        "run.device": "cpu",
    }
    config = resolve_config(TrainConfig, preset=METHODS["ncl"], options=options)
    made = assemble(config, open_dataset(data), torch.device("cpu"))
    for step, drawn in zip(range(60), made.batches.draw(0), strict=False):
        output = made.method(made.batches.complete(drawn, device=torch.device("cpu")))
        made.optimizer.zero_grad()
        output.loss.backward()
        made.optimizer.step()
        made.method.after_step((step + 1) / 60)
    assert isinstance(made.method, NeighbourhoodRecommendation)
    for side in (made.method.prototypes.users, made.method.prototypes.items):
        communities = np.arange(len(side.nearest)) % 2
        assert len({*zip(communities, side.nearest.tolist(), strict=True)}) == 2
    users, items = made.method.embed_all()
    for user, scores in enumerate((users @ items.T).tolist()):
        assert min(scores[user % 2 :: 2]) > max(scores[1 - user % 2 :: 2])
