"""Supervised contrast: parity with loops and another code, both ends, errors, the method."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorch_metric_learning.losses import SupConLoss
from pytorch_metric_learning.reducers import MeanReducer
from torch import Tensor, nn

from sslcore.errors import ShapeError
from sslcore.methods.supcon import SupCon
from sslcore.modules.branch import Branch
from sslcore.objectives.nt_xent import nt_xent_loss
from sslcore.objectives.sup_con import sup_con_loss
from sslcore.views import ViewBatch
from tests.reference.checks import (
    assert_autocast_changes_nothing,
    assert_finite_at_the_edge,
    assert_gradient_is_right,
)
from tests.reference.contrastive import sup_con_by_hand
from tests.reference.waves import pair

shapes = st.tuples(st.integers(2, 9), st.integers(1, 6))
seeds = st.integers(0, 2**31)
temperatures = st.floats(0.05, 2.0)


def some_labels(count: int, seed: int = 0) -> Tensor:
    return torch.randint(-1, 3, (count,), generator=torch.Generator().manual_seed(seed))


def with_labels(z_a: Tensor, z_b: Tensor) -> Tensor:
    return sup_con_loss(z_a, z_b, labels=torch.arange(len(z_a)) % 4 - 1)


@given(shapes, seeds, temperatures)
def test_matches_the_formula_written_out(
    shape: tuple[int, int], seed: int, temperature: float
) -> None:
    z_a, z_b = pair(shape, seed)
    labels = some_labels(shape[0], seed)
    expected = sup_con_by_hand(z_a.tolist(), z_b.tolist(), labels.tolist(), temperature)
    actual = sup_con_loss(z_a, z_b, labels=labels, temperature=temperature).item()
    assert actual == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(shapes, seeds, temperatures)
def test_matches_pytorch_metric_learning(
    shape: tuple[int, int], seed: int, temperature: float
) -> None:
    z_a, z_b = pair(shape, seed)
    labels = some_labels(shape[0], seed).abs()
    labels[0] = 3  # theirs is 0 where there is one class only
    loss = SupConLoss(temperature=temperature, reducer=MeanReducer())
    theirs = loss(torch.cat([z_a, z_b]), labels.repeat(2))
    ours = sup_con_loss(z_a, z_b, labels=labels, temperature=temperature)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


@given(shapes, seeds)
def test_without_labels_it_is_nt_xent(shape: tuple[int, int], seed: int) -> None:
    z_a, z_b = pair(shape, seed)
    unknown = torch.full((shape[0],), -1)
    for labels in (unknown, torch.arange(shape[0])):
        expected = nt_xent_loss(z_a, z_b, temperature=0.1)
        torch.testing.assert_close(sup_con_loss(z_a, z_b, labels=labels), expected)


@given(seeds)
def test_names_of_classes_and_the_order_of_views_do_not_matter(seed: int) -> None:
    z_a, z_b = pair((6, 3), seed)
    expected = sup_con_loss(z_a, z_b, labels=torch.tensor([0, 0, 1, 1, 2, -1]))
    renamed = torch.tensor([7, 7, 0, 0, 1, -1])
    torch.testing.assert_close(sup_con_loss(z_b, z_a, labels=renamed), expected)
    turned = torch.tensor([5, 3, 1, 0, 2, 4])
    again = sup_con_loss(z_a[turned], z_b[turned], labels=renamed[turned])
    torch.testing.assert_close(again, expected)


def test_collapsed_embeddings_pay_for_guessing() -> None:
    z = torch.ones(16, 4)
    assert with_labels(z, z).item() == pytest.approx(math.log(2 * 16 - 1))


def test_two_classes_at_opposite_ends_are_the_optimum() -> None:
    z = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]])
    loss = sup_con_loss(z, z, labels=torch.tensor([0, 0, 1, 1]), temperature=0.05)
    assert loss.item() == pytest.approx(math.log(3), abs=1e-6)  # three partners share the rest


def test_gradient_is_right() -> None:
    assert_gradient_is_right(with_labels)


def test_autocast_does_not_lower_the_precision() -> None:
    assert_autocast_changes_nothing(with_labels)


def test_stays_finite_at_the_edge() -> None:
    assert_finite_at_the_edge(with_labels)


def test_refuses_labels_of_another_batch_and_inputs_it_cannot_compare() -> None:
    z = torch.zeros(4, 3)
    with pytest.raises(ShapeError, match=r"labels \[4\], got \(3,\)"):
        sup_con_loss(z, z, labels=torch.zeros(3, dtype=torch.long))
    with pytest.raises(ShapeError, match="one shape"):
        sup_con_loss(z, z[:, :2], labels=torch.zeros(4, dtype=torch.long))
    with pytest.raises(ShapeError, match="at least 2"):
        sup_con_loss(z[:1], z[:1], labels=torch.zeros(1, dtype=torch.long))


def test_the_method_brings_samples_of_a_class_together() -> None:
    torch.manual_seed(0)
    method = SupCon(Branch(nn.Linear(6, 8), nn.Linear(8, 4)))
    labels = torch.arange(24) % 3
    samples = 3 * torch.randn(24, 6)  # louder than what tells the classes apart
    samples[:, :3] = nn.functional.one_hot(labels) + 0.1 * torch.randn(24, 3)
    optimizer = torch.optim.AdamW(method.parameters(), lr=0.02)

    def nearest_of_own_class() -> float:
        with torch.no_grad():
            z = nn.functional.normalize(method.student(samples))
        similarity = (z @ z.T).fill_diagonal_(-2)
        return (labels[similarity.argmax(dim=1)] == labels).float().mean().item()

    before = nearest_of_own_class()
    for _ in range(150):
        noise = 0.05 * torch.randn(2, 24, 6)
        optimizer.zero_grad()
        method(ViewBatch((samples + noise[0], samples + noise[1]), labels=labels)).loss.backward()
        optimizer.step()
    assert before < 0.6
    assert nearest_of_own_class() > 0.9


def test_the_method_refuses_a_batch_without_labels() -> None:
    method = SupCon(Branch(nn.Identity(), nn.Identity()))
    with pytest.raises(ShapeError, match="learns from labels, and the batch brings none"):
        method(ViewBatch((torch.randn(4, 2), torch.randn(4, 2))))
