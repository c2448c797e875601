"""Prototypes, the head of DINO, centring and progress: what they keep, what they refuse."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sslcore.errors import ShapeError
from sslcore.modules.center import RunningCenter, SinkhornCentering
from sslcore.modules.distillation_head import DistillationHead
from sslcore.modules.progress import Progress
from sslcore.modules.prototypes import Prototypes
from sslcore.objectives.sinkhorn import sinkhorn
from tests.reference.waves import wave


def test_scores_are_cosines() -> None:
    prototypes, z = Prototypes(5, 4), 7 * torch.randn(6, 4)
    with torch.no_grad():
        prototypes.vectors.mul_(3)
    expected = F.normalize(z, dim=1) @ F.normalize(prototypes.vectors, dim=1).T
    torch.testing.assert_close(prototypes(z), expected)


def test_prototypes_start_with_random_directions_of_length_one() -> None:
    vectors = Prototypes(64, 16).vectors
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(64))
    assert (vectors @ vectors.T - torch.eye(64)).abs().mean() < 0.3


@pytest.mark.parametrize("frozen", [False, True])
def test_freezing_leaves_the_scores_and_their_gradient_and_stops_the_prototypes(
    frozen: bool,
) -> None:
    torch.manual_seed(0)
    prototypes, z = Prototypes(5, 4), torch.randn(6, 4, requires_grad=True)
    scores = prototypes(z, frozen=frozen)
    torch.testing.assert_close(scores, prototypes(z), rtol=0, atol=0)
    scores.square().sum().backward()
    assert z.grad is not None
    assert z.grad.abs().sum() > 0
    assert prototypes.vectors.grad is not None
    assert bool((prototypes.vectors.grad == 0).all()) == frozen


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_weight_decay_does_not_move_frozen_prototypes(kind: type[torch.optim.Optimizer]) -> None:
    prototypes, z = Prototypes(5, 4).double(), torch.randn(6, 4, dtype=torch.float64)
    before = prototypes(z).detach()
    optimizer = kind(prototypes.parameters(), lr=0.1, weight_decay=0.5)  # type: ignore[call-arg]
    for _ in range(3):
        prototypes(z, frozen=True).sum().backward()
        optimizer.step()
    torch.testing.assert_close(prototypes(z), before)


def test_scores_are_exact_under_autocast() -> None:
    prototypes, z = Prototypes(5, 4), torch.randn(6, 4)
    with torch.autocast("cpu", torch.bfloat16):
        scores = prototypes(z)
    torch.testing.assert_close(scores, prototypes(z), rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(6, 3), (4,), (2, 6, 4)])
def test_prototypes_refuse_rows_of_another_width(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"rows \[batch, 4\]"):
        Prototypes(5, 4)(torch.zeros(shape))


@pytest.mark.parametrize(("count", "dim"), [(1, 4), (5, 0)])
def test_prototypes_refuse_to_be_too_few(count: int, dim: int) -> None:
    with pytest.raises(ShapeError, match="at least two prototypes"):
        Prototypes(count, dim)


def test_head_has_gelu_between_layers_and_then_prototypes() -> None:
    head = DistillationHead([8, 6, 6, 4], 5)
    assert [type(layer).__name__ for layer in head.mlp] == ["Linear", "GELU"] * 2 + ["Linear"]
    z = torch.randn(3, 8)
    torch.testing.assert_close(head(z), head.prototypes(head.mlp(z)))
    head(z, frozen=True).sum().backward()
    assert head.prototypes.vectors.grad is not None
    assert (head.prototypes.vectors.grad == 0).all()


def test_head_has_batch_norm_before_each_gelu_if_wanted() -> None:
    head = DistillationHead([8, 6, 6, 4], 5, hidden_norm=True)
    kinds = [type(layer).__name__ for layer in head.mlp]
    assert kinds == ["Linear", "BatchNorm1d", "GELU"] * 2 + ["Linear"]


def test_head_starts_without_a_direction_that_all_share() -> None:
    head = DistillationHead([8, 6, 4], 5)
    linear = [layer for layer in head.mlp if isinstance(layer, nn.Linear)]
    assert all(bool((layer.bias == 0).all()) for layer in linear)


@pytest.mark.parametrize("dims", [[8], [8, 0]])
def test_head_refuses_sizes_that_make_no_layer(dims: list[int]) -> None:
    with pytest.raises(ShapeError, match="at least two positive layer sizes"):
        DistillationHead(dims, 5)


def test_running_center_moves_by_the_rest_of_its_momentum_and_only_after_the_step() -> None:
    center, scores = RunningCenter(6, momentum=0.9), wave(8, 6, 0.0).float()
    first = center(scores, temperature=0.04)
    torch.testing.assert_close(first, torch.softmax(scores / 0.04, dim=1))
    assert (center.center == 0).all()
    center.update()
    torch.testing.assert_close(center.center, 0.1 * scores.mean(dim=0))
    moved = center(scores, temperature=0.04)
    torch.testing.assert_close(moved, torch.softmax((scores - center.center) / 0.04, dim=1))


def test_running_center_is_moved_once_by_a_batch() -> None:
    center = RunningCenter(6)
    center(wave(8, 6, 0.0).float(), temperature=0.04)
    center.update()
    after = center.center.clone()
    center.update()
    assert torch.equal(center.center, after)


def test_running_center_stands_still_in_evaluation_and_without_rows() -> None:
    center = RunningCenter(6).eval()
    center(wave(8, 6, 0.0).float(), temperature=0.04)
    center.update()
    center.train()
    center(torch.zeros(0, 6), temperature=0.04)
    center.update()
    assert (center.center == 0).all()


def test_running_center_comes_to_rest_at_the_mean_so_that_no_prototype_always_wins() -> None:
    center, scores = RunningCenter(6), wave(64, 6, 0.0).float()
    scores[:, 2] += 5
    for _ in range(200):
        center(scores, temperature=0.04)
        center.update()
    torch.testing.assert_close(center.center, scores.mean(dim=0))
    assert (center(scores, temperature=0.04).argmax(dim=1) == 2).float().mean() < 0.5


def test_sinkhorn_centering_is_the_sinkhorn_step_and_keeps_nothing() -> None:
    centering, scores = SinkhornCentering(iterations=2), wave(8, 6, 0.0)
    actual = centering(scores, temperature=0.07)
    torch.testing.assert_close(actual, sinkhorn(scores, epsilon=0.07, iterations=2))
    centering.update()
    assert not centering.state_dict()


def test_progress_is_in_the_state_dict() -> None:
    progress, other = Progress(), Progress()
    assert progress.value == 0
    progress.move(0.25)
    state: dict[str, Tensor] = progress.state_dict()
    other.load_state_dict(state)
    assert other.value == 0.25
