"""Triplet loss and the adapter for labelled losses: parity, mining, memory, both ends, errors."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import ContrastiveLoss, NTXentLoss, TripletMarginLoss
from torch import Tensor, nn
from torch.autograd import gradcheck

from sslcore.errors import ShapeError
from sslcore.methods.triplet import Triplet, triplet_objective
from sslcore.modules.branch import Branch
from sslcore.modules.queue import FeatureQueue
from sslcore.numerics import unit_rows
from sslcore.objectives.metric_learning import AlignedViews
from sslcore.objectives.nt_xent import nt_xent_loss
from sslcore.views import ViewBatch
from tests.reference.checks import (
    assert_autocast_changes_nothing,
    assert_finite_at_the_edge,
    assert_same_for_any_order,
)
from tests.reference.contrastive import triplet_by_hand
from tests.reference.waves import pair

shapes = st.tuples(st.integers(2, 7), st.integers(2, 6))
seeds = st.integers(0, 2**31)


def loss(z_a: Tensor, z_b: Tensor) -> Tensor:
    value: Tensor = triplet_objective()(z_a, z_b)[0]
    return value


def test_the_gradient_is_that_of_the_differences() -> None:
    z_a, z_b = (torch.from_numpy(np.random.default_rng(n).normal(size=(5, 3))) for n in (1, 2))
    assert gradcheck(loss, (z_a.requires_grad_(), z_b.requires_grad_()))


@given(shapes, seeds, st.floats(0.05, 1.0))
def test_all_triplets_match_the_formula_written_out(
    shape: tuple[int, int], seed: int, margin: float
) -> None:
    z_a, z_b = pair(shape, seed)
    objective = AlignedViews(
        TripletMarginLoss(margin=margin, distance=LpDistance(normalize_embeddings=True))
    )
    expected = triplet_by_hand(z_a.tolist(), z_b.tolist(), margin)
    assert objective(z_a, z_b)[0].item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_a_loss_of_pairs_through_the_adapter_is_the_one_written_here() -> None:
    z_a, z_b = pair((6, 4), seed=0)
    through, terms = AlignedViews(NTXentLoss(temperature=0.3))(z_a, z_b)
    torch.testing.assert_close(through, nt_xent_loss(z_a, z_b, temperature=0.3))
    cosine = torch.nn.functional.cosine_similarity(z_a, z_b).mean()
    torch.testing.assert_close(terms["positive_similarity"], cosine)


def test_hard_mining_takes_the_nearest_other_sample() -> None:
    angles = torch.tensor([0.0, 0.3, 2.0])
    z_a = torch.stack([angles.cos(), angles.sin()], dim=1)
    near, far = 2 * math.sin(0.15), 2 * math.sin(0.85)
    value = triplet_objective(margin=1.0, mining="hard")(z_a, z_a)[0].item()
    violated = [1 - near] * 4  # the third sample's nearest is farther than the margin
    assert far > 1
    assert value == pytest.approx(sum(violated) / 4, rel=1e-5)


def test_semihard_mining_skips_negatives_nearer_than_the_partner() -> None:
    z_a = torch.tensor([[1.0, 0.0], [0.9, 0.1], [-1.0, 0.2]])
    z_b = torch.tensor([[0.0, 1.0], [0.1, 0.9], [-0.2, -1.0]])
    hard = triplet_objective(mining="hard")(z_a, z_b)[0]
    assert triplet_objective(mining="semihard")(z_a, z_b)[0] < hard


@given(shapes, seeds)
def test_does_not_depend_on_the_order_of_samples_dimensions_or_views(
    shape: tuple[int, int], seed: int
) -> None:
    assert_same_for_any_order(loss, shape, seed)


def test_collapsed_embeddings_pay_the_margin() -> None:
    z = torch.ones(8, 4)
    assert triplet_objective(margin=0.2, mining="hard")(z, z)[0].item() == pytest.approx(
        0.2, abs=1e-3
    )


def test_separated_samples_with_equal_views_are_the_optimum() -> None:
    assert loss(torch.eye(4), torch.eye(4)).item() == 0


def test_autocast_does_not_lower_the_precision() -> None:
    assert_autocast_changes_nothing(loss)


@pytest.mark.parametrize("mining", ["semihard", "hard"])
def test_stays_finite_at_the_edge(mining) -> None:
    assert_finite_at_the_edge(lambda a, b: triplet_objective(mining=mining)(a, b)[0])


def test_further_negatives_raise_the_loss_only_where_they_are_near() -> None:
    z_a, z_b = pair((4, 8), seed=0)
    objective = triplet_objective(mining="hard")
    alone = objective(z_a, z_b, -10 * z_a)[0]
    crowded = objective(z_a, z_b, z_a + 0.01)[0]
    assert crowded > alone


def test_further_negatives_are_nobodys_partner() -> None:
    z = torch.eye(3)
    value, _ = AlignedViews(ContrastiveLoss(pos_margin=0, neg_margin=1))(z, z, z)
    # Each view meets its copy in the memory as a negative at distance 0, below the margin 1.
    assert value.item() == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("negatives", [(3, 5), (4,)])
def test_refuses_negatives_of_another_width(negatives: tuple[int, ...]) -> None:
    z = torch.eye(4)
    with pytest.raises(ShapeError, match=r"negatives \[count, 4\]"):
        triplet_objective()(z, z, torch.zeros(negatives))


@pytest.mark.parametrize(
    ("shape_a", "shape_b", "message"),
    [((4, 3), (4, 2), "one shape"), ((4,), (4,), "batch, dim"), ((1, 3), (1, 3), "at least 2")],
)
def test_refuses_inputs_it_cannot_compare(
    shape_a: tuple[int, ...], shape_b: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        triplet_objective()(torch.zeros(shape_a), torch.zeros(shape_b))


def with_memory() -> Triplet:
    torch.manual_seed(0)
    branch = Branch(nn.Linear(8, 8), nn.Linear(8, 4))
    return Triplet(branch, triplet_objective(), FeatureQueue(12, 4))


def test_memory_takes_both_views_after_the_step() -> None:
    method = with_memory()
    assert method.memory is not None
    before = method.memory.keys.clone()
    batch = ViewBatch((torch.randn(3, 8), torch.randn(3, 8)))
    method(batch)
    assert torch.equal(method.memory.keys, before)
    method.after_step(0.1)
    z = method.student(torch.cat(batch.views))
    torch.testing.assert_close(method.memory.keys[:6], z / z.norm(dim=1, keepdim=True))
    assert torch.equal(method.memory.keys[6:], before[6:])


def test_memory_without_past_projections_holds_no_negatives() -> None:
    method, other = with_memory(), with_memory()
    assert other.memory is not None
    other.memory.keys.copy_(unit_rows(torch.randn(12, 4)))  # other random directions
    batch = ViewBatch((torch.randn(3, 8), torch.randn(3, 8)))
    z_a, z_b = (method.student(view) for view in batch.views)
    expected = method.objective(z_a, z_b, torch.zeros(0, 4))[0]
    assert method(batch).loss == other(batch).loss == expected


def test_a_samples_own_past_projections_are_no_negatives() -> None:
    method = with_memory()
    assert method.memory is not None
    old = torch.randn(4, 4)
    method.memory.push(old, torch.tensor([0, 5, 1, 6]))
    views = (torch.randn(3, 8), torch.randn(3, 8))
    z_a, z_b = (method.student(view) for view in views)
    loss = method(ViewBatch(views, ids=torch.arange(3))).loss
    torch.testing.assert_close(loss, method.objective(z_a, z_b, old[[1, 3]])[0])
    method.after_step(0.1)
    assert method.memory.ids[:10].tolist() == [0, 5, 1, 6, 0, 1, 2, 0, 1, 2]


def test_memory_cannot_keep_segments_apart() -> None:
    batch = ViewBatch((torch.randn(4, 8), torch.randn(4, 8)), segments=(2, 2))
    with pytest.raises(ShapeError, match="segments"):
        with_memory()(batch)
