"""DINO: the loss written out, the teacher, what changes over a run."""

import copy

import pytest
import torch
from torch import Tensor, nn

from sslcore.methods.dino import Dino, DinoConfig
from sslcore.methods.self_distillation import Schedule
from sslcore.modules.branch import Branch
from sslcore.modules.center import RunningCenter
from sslcore.modules.distillation_head import DistillationHead
from sslcore.views import ViewBatch
from tests.reference.clustering import cross_entropies_by_hand, softmax_by_hand


def dino(schedule: Schedule | None = None) -> Dino:
    torch.manual_seed(0)
    student = Branch(nn.Linear(8, 8), DistillationHead([8, 6, 4], 5)).double()
    method = Dino(student, RunningCenter(5).double(), schedule=schedule)
    with torch.no_grad():  # so that student and teacher differ
        for parameter in method.student.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return method


def some_views(count: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 6, 8, generator=generator, dtype=torch.float64).unbind()


def by_hand(method: Dino, views: tuple[Tensor, ...], temperature: float) -> float:
    center = method.centering.state_dict()["center"]
    losses = []
    for full in (0, 1):
        theirs = (method.teacher(views[full]) - center).tolist()
        targets = [softmax_by_hand(row, temperature) for row in theirs]
        for other in range(len(views)):
            if other != full:
                scores = method.student(views[other]).tolist()
                losses += cross_entropies_by_hand(scores, targets, 0.1)
    return sum(losses) / len(losses)


def test_loss_is_the_papers_written_out() -> None:
    method, views = dino(), some_views(3)
    assert method(ViewBatch(views)).loss.item() == pytest.approx(by_hand(method, views, 0.04))
    method.after_step(0.15)
    expected = by_hand(method, views, 0.055)
    assert method(ViewBatch(views)).loss.item() == pytest.approx(expected)
    method.after_step(0.9)
    assert method(ViewBatch(views)).loss.item() == pytest.approx(by_hand(method, views, 0.07))


def test_teacher_never_sees_the_crops() -> None:
    method, views = dino(), some_views(4)
    seen: list[Tensor] = []
    method.teacher.module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    method(ViewBatch(views))
    assert [id(view) for view in seen] == [id(view) for view in views[:2]]


def test_center_moves_to_the_mean_of_the_teachers_scores_after_the_step() -> None:
    method, views = dino(), some_views(3)
    mean = torch.cat([method.teacher(view) for view in views[:2]]).mean(dim=0)
    method(ViewBatch(views))
    method.after_step(0.1)
    torch.testing.assert_close(method.centering.state_dict()["center"], 0.1 * mean)


def test_teacher_stands_still_at_the_end_of_the_run() -> None:
    method = dino(Schedule(momentum=0.9))
    start = copy.deepcopy(method.teacher.state_dict())
    method.after_step(1.0)
    for key, value in method.teacher.state_dict().items():
        assert torch.equal(value, start[key])
    method.after_step(0.0)
    student = method.student.state_dict()
    for key, value in method.teacher.state_dict().items():
        own = key.removeprefix("module.")
        torch.testing.assert_close(value, 0.9 * start[key] + 0.1 * student[own])


def test_prototypes_stand_still_in_the_first_part_of_the_run() -> None:
    method, views = dino(Schedule(frozen_until=0.1)), some_views(2)
    head = method.student.head
    assert isinstance(head, DistillationHead)
    method(ViewBatch(views)).loss.backward()
    assert head.prototypes.vectors.grad is not None
    assert (head.prototypes.vectors.grad == 0).all()
    method.after_step(0.1)
    method(ViewBatch(views)).loss.backward()
    assert head.prototypes.vectors.grad.abs().sum() > 0


def test_a_convolution_and_crops_of_another_size_will_do() -> None:
    encoder = nn.Sequential(nn.Conv2d(1, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    method = DinoConfig().build(encoder, 8)
    full, crop = torch.rand(2, 4, 1, 12, 12), torch.rand(4, 1, 6, 6)
    assert method(ViewBatch((full[0], full[1], crop))).loss.isfinite()


def test_settings_reach_the_method() -> None:
    config = DinoConfig(
        head_dims=(6, 4),
        num_prototypes=9,
        momentum=0.5,
        student_temperature=0.2,
        first_teacher_temperature=0.01,
        teacher_temperature=0.02,
        teacher_warmup=0.4,
        frozen_until=0.3,
    )
    method = config.build(nn.Identity(), 8)
    assert isinstance(method, Dino)
    assert method.schedule == Schedule(0.5, 0.2, 0.01, 0.02, 0.4, 0.3)
    assert method.student(torch.randn(3, 8)).shape == (3, 9)


@pytest.mark.parametrize("head_norm", [False, True])
def test_the_papers_head_without_batch_norm_is_a_setting(head_norm: bool) -> None:
    method = DinoConfig(head_norm=head_norm).build(nn.Identity(), 8)
    norms = [part for part in method.student.head.modules() if isinstance(part, nn.BatchNorm1d)]
    assert bool(norms) == head_norm
