"""SwAV: the loss written out, the queue, frozen prototypes."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sslcore.methods.swav import Swav, SwavConfig
from sslcore.modules.branch import Branch
from sslcore.modules.prototypes import Prototypes
from sslcore.modules.queue import FeatureQueue
from sslcore.numerics import unit_rows
from sslcore.objectives.sinkhorn import sinkhorn
from sslcore.views import ViewBatch
from tests.reference.clustering import cross_entropies_by_hand, sinkhorn_by_hand


def swav(queue: FeatureQueue | None = None, **options: float) -> Swav:
    torch.manual_seed(0)
    return Swav(
        Branch(nn.Linear(8, 8), nn.Linear(8, 4)).double(),
        Prototypes(5, 4).double(),
        queue,
        **options,  # type: ignore[arg-type]
    )


def new_queue() -> FeatureQueue:
    torch.manual_seed(1)
    return FeatureQueue(30, 4).double()


def some_views(count: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 6, 8, generator=generator, dtype=torch.float64).unbind()


def scores_of(method: Swav, views: tuple[Tensor, ...]) -> list[Tensor]:
    vectors = F.normalize(method.prototypes.vectors, dim=1)
    return [(F.normalize(method.student(view), dim=1) @ vectors.T).detach() for view in views]


def test_loss_is_the_papers_written_out() -> None:
    method, views = swav(), some_views(3)
    scores = [each.tolist() for each in scores_of(method, views)]
    losses = []
    for full in (0, 1):
        targets = sinkhorn_by_hand(scores[full], 0.05, 3)
        for other in range(3):
            if other != full:
                losses += cross_entropies_by_hand(scores[other], targets, 0.1)
    loss = method(ViewBatch(views)).loss
    assert loss.item() == pytest.approx(sum(losses) / len(losses), rel=1e-9)


def test_queue_takes_part_in_the_assignment_from_its_share_of_the_run_on() -> None:
    views = some_views(2)
    plain, queued = swav(), swav(new_queue(), queue_from=0.5)
    assert queued(ViewBatch(views)).loss == plain(ViewBatch(views)).loss
    queued.progress.move(0.5)
    assert queued(ViewBatch(views)).loss == plain(ViewBatch(views)).loss  # nothing in it yet
    assert queued.queue is not None
    pushed = unit_rows(some_views(3)[2][:, :4])
    queued.queue.push(pushed)  # the rest are random directions, which nothing is assigned beside
    scores = scores_of(queued, views)
    past = pushed @ F.normalize(queued.prototypes.vectors, dim=1).T
    losses = [
        F.cross_entropy(scores[other] / 0.1, sinkhorn(torch.cat([scores[full], past]))[:6])
        for full, other in ((0, 1), (1, 0))
    ]
    torch.testing.assert_close(queued(ViewBatch(views)).loss, torch.stack(losses).mean())


def test_full_views_are_queued_once_and_only_after_the_step() -> None:
    method, views = swav(new_queue()), some_views(3)
    assert method.queue is not None
    before = method.queue.keys.clone()
    projections = [unit_rows(method.student(view)) for view in views[:2]]
    method(ViewBatch(views))
    assert torch.equal(method.queue.keys, before)
    method.after_step(0.1)
    method.after_step(0.2)
    torch.testing.assert_close(method.queue.keys[:12], torch.cat(projections))
    assert torch.equal(method.queue.keys[12:], before[12:])


def test_a_queue_that_is_not_full_goes_on_from_the_state_dict() -> None:
    def step(method: Swav) -> float:
        loss: float = method(ViewBatch(some_views(2))).loss.item()
        method.after_step(0.1)
        return loss

    method = swav(new_queue())
    step(method)
    other = swav(FeatureQueue(30, 4).double())  # other random directions
    other.load_state_dict(method.state_dict())
    assert other.queue is not None
    assert other.queue.filled == 12
    assert [step(method) for _ in range(3)] == [step(other) for _ in range(3)]


def test_nothing_is_queued_while_it_is_evaluated() -> None:
    method = swav(new_queue()).eval()
    assert method.queue is not None
    before = method.queue.keys.clone()
    method(ViewBatch(some_views(2)))
    method.after_step(0.1)
    assert torch.equal(method.queue.keys, before)


def test_prototypes_stand_still_in_the_first_part_of_the_run() -> None:
    method, views = swav(frozen_until=0.1), some_views(2)
    method(ViewBatch(views)).loss.backward()
    assert method.prototypes.vectors.grad is not None
    assert (method.prototypes.vectors.grad == 0).all()
    method.after_step(0.1)
    method(ViewBatch(views)).loss.backward()
    assert method.prototypes.vectors.grad.abs().sum() > 0


def test_targets_get_no_gradient() -> None:
    method, views = swav(), some_views(2)
    method(ViewBatch(views)).loss.backward()
    scores = [method.prototypes(method.student(view)) for view in views]
    targets = [sinkhorn(each.detach()) for each in scores]
    other = copy.deepcopy(method)
    other.zero_grad()
    again = [other.prototypes(other.student(view)) for view in views]
    losses = [F.cross_entropy(again[i] / 0.1, targets[1 - i]) for i in (0, 1)]
    torch.stack(losses).mean().backward()
    for mine, theirs in zip(method.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


def test_settings_reach_the_method() -> None:
    config = SwavConfig(
        head_dims=(6, 4),
        num_prototypes=9,
        temperature=0.2,
        epsilon=0.3,
        queue_size=12,
        queue_from=0.4,
        frozen_until=0.5,
    )
    method = config.build(nn.Identity(), 8)
    assert isinstance(method, Swav)
    assert method.prototypes.vectors.shape == (9, 4)
    assert method.queue is not None
    assert method.queue.keys.shape == (12, 4)
    numbers = (method.temperature, method.epsilon, method.queue_from, method.frozen_until)
    assert numbers == (0.2, 0.3, 0.4, 0.5)
    without = SwavConfig(queue_size=0).build(nn.Identity(), 8)
    assert isinstance(without, Swav)
    assert without.queue is None
