"""Every method, one contract."""

import copy
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from sslcore.errors import ShapeError
from sslcore.methods.byol import Byol
from sslcore.methods.method import ViewMethod
from sslcore.methods.moco import Moco
from sslcore.methods.registry import METHODS
from sslcore.methods.settings import MethodSection
from sslcore.methods.simsiam import SimSiam
from sslcore.methods.triplet import Triplet, TripletConfig
from sslcore.modules.branch import Branch
from sslcore.modules.queue import FeatureQueue
from sslcore.numerics import unit_rows
from sslcore.random import derive_keys
from sslcore.views import ViewBatch
from tests.sslcore.test_registry import config_of
from tests.sslcore.toy_tokens import ToyTokens, as_image

SMALL = {
    "head_dims": (16, 8),
    "queue_size": 96,
    "predictor_dim": 8,
    "momentum": 0.9,
    "num_prototypes": 12,
}
# compare no views; they have contracts of their own
APART = ("mae", "simmim", "rotation", "jigsaw")
NAMES = [*(name for name in METHODS if name not in APART), "triplet with memory"]
# as the queue fills, or the centre
HARDER_AT_FIRST = (
    "moco",
    "moco_v2",
    "triplet with memory",
    "nnclr",
    "dino",
)  # as the queue fills, or the centre
ONE_GROUP = (
    *("moco", "moco_v2", "triplet with memory", "supcon", "nnclr"),
    *("swav", "dino", "dinov2", "dinov3"),
)
each_method = pytest.mark.parametrize("name", NAMES)
# pairs of the two full views, and pairs that each further crop adds
FULL_AND_CROP_PAIRS = {
    "byol": (2, 2),
    "simsiam": (2, 2),
    "moco": (1, 1),
    "moco_v2": (1, 1),
    "moco_v3": (2, 2),
    "nnclr": (2, 2),
    "lejepa": (2, 1),  # a mean over views
    "swav": (2, 2),
    "dino": (2, 2),
    "dinov2": (2, 2),
    "dinov3": (2, 2),
}
Log = list[tuple[float, dict[str, float]]]


def small(name: str) -> MethodSection:
    if name == "triplet with memory":
        return TripletConfig(head_dims=(16, 8), memory_size=160)
    kind = type(config_of(name))
    return kind(**{key: value for key, value in SMALL.items() if key in kind.model_fields})


def new_encoder(name: str) -> nn.Module:
    if small(name).needs_tokens:
        return ToyTokens()
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU())


def build(name: str) -> ViewMethod:
    torch.manual_seed(0)
    return small(name).build(new_encoder(name), 16)


def batch_of(name: str, *views: Tensor) -> ViewBatch[Tensor]:
    """Views `[batch, 8]` as the method's encoder takes them, keys, and labels that say nothing."""
    if small(name).needs_tokens:
        views = tuple(as_image(view) for view in views)
    rows = torch.arange(len(views[0]))
    return ViewBatch(views, keys=derive_keys(rows), labels=torch.full_like(rows, -1))


def batches(name: str, first: int, stop: int) -> Iterator[ViewBatch[Tensor]]:
    for step in range(first, stop):
        generator = torch.Generator().manual_seed(step % 4)
        x = torch.randn(16, 8, generator=generator)
        noise = 0.3 * torch.randn(2, 16, 8, generator=generator)
        yield batch_of(name, x + noise[0], x + noise[1])


def train(name: str, method: ViewMethod, opt: torch.optim.Optimizer, first: int, stop: int) -> Log:
    log: Log = []
    for step, batch in enumerate(batches(name, first, stop), start=first):
        output = method(batch)
        opt.zero_grad()
        output.loss.backward()
        opt.step()
        method.after_step((step + 1) / 40)
        terms = {name: value.item() for name, value in output.logs.items()}
        log.append((output.loss.item(), terms))
    return log


def sgd(method: nn.Module) -> torch.optim.SGD:
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    return torch.optim.SGD(trained, lr=0.05, momentum=0.9)


@each_method
def test_forward_leaves_the_next_forward_unchanged(name: str) -> None:
    method, batch = build(name), next(batches(name, 0, 1))
    assert method(batch).loss.item() == method(batch).loss.item()


@each_method
def test_forward_moves_no_state_but_batch_norm_statistics(name: str) -> None:
    method, batch = build(name), next(batches(name, 0, 1))
    method.eval()
    before = copy.deepcopy(method.state_dict())
    method(batch)
    after = method.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


@each_method
def test_training_is_deterministic_and_lowers_the_loss(name: str) -> None:
    method, again = build(name), build(name)
    first, second = (train(name, each, sgd(each), 0, 40) for each in (method, again))
    assert first == second
    if name not in HARDER_AT_FIRST:
        assert sum(loss for loss, _ in first[-5:]) < sum(loss for loss, _ in first[:5])


def shared_and_noise(name: str, count: int, seed: int) -> ViewBatch[Tensor]:
    """Four columns that both views share, and four louder ones that they do not."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(count, 4, generator=generator)
    noise = 2 * torch.randn(2, count, 4, generator=generator)
    return batch_of(name, *(torch.cat([shared, each], dim=1) for each in noise))


def partners_found(name: str, method: ViewMethod) -> float:
    """Share of unseen samples whose nearest projection in the other view is their own."""
    views = shared_and_noise(name, 64, 0).views
    with torch.no_grad():
        z_a, z_b = (unit_rows(method.student(view)) for view in views)
    return ((z_a @ z_b.T).argmax(dim=1) == torch.arange(64)).float().mean().item()


@each_method
def test_training_learns_what_the_views_share(name: str) -> None:
    method = build(name)
    before = partners_found(name, method)
    optimizer = torch.optim.AdamW(
        [parameter for parameter in method.parameters() if parameter.requires_grad], lr=5e-3
    )
    for step in range(150):
        optimizer.zero_grad()
        method(shared_and_noise(name, 64, 1 + step)).loss.backward()
        optimizer.step()
        method.after_step(step / 150)
    assert partners_found(name, method) > before + 0.1


@each_method
def test_state_dict_is_enough_to_resume(name: str) -> None:
    method, other = build(name), build(name)
    opt, other_opt = sgd(method), sgd(other)
    train(name, method, opt, 0, 7)
    other.load_state_dict(copy.deepcopy(method.state_dict()))
    other_opt.load_state_dict(copy.deepcopy(opt.state_dict()))
    assert train(name, method, opt, 7, 14) == train(name, other, other_opt, 7, 14)


@each_method
def test_what_is_kept_between_steps_moves_with_the_method(name: str) -> None:
    # A tensor that is neither parameter nor buffer would stay on the old device.
    method = build(name)
    train(name, method, torch.optim.SGD(method.parameters(), lr=0.1), 0, 3)
    for part in method.modules():
        kept = [each for v in vars(part).values() for each in (v if isinstance(v, list) else [v])]
        assert not any(isinstance(each, Tensor) for each in kept)
    moved = copy.deepcopy(method).double().float()
    (batch,) = batches(name, 3, 4)
    assert moved(batch).loss.item() == method(batch).loss.item()


@each_method
def test_nothing_is_stored_twice(name: str) -> None:
    pointers = [value.data_ptr() for value in build(name).state_dict().values()]
    assert len(pointers) == len(set(pointers))


@each_method
def test_every_trained_parameter_gets_a_gradient_and_no_other(name: str) -> None:
    method = build(name)
    method(next(batches(name, 0, 1))).loss.backward()
    for key, parameter in method.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, key
        assert parameter.requires_grad != key.startswith("teacher"), key


@each_method
def test_logs_are_detached_scalars(name: str) -> None:
    logs = build(name)(next(batches(name, 0, 1))).logs
    assert logs
    for value in logs.values():
        assert value.ndim == 0
        assert not value.requires_grad


@each_method
def test_encoder_is_the_one_that_came_in(name: str) -> None:
    encoder = new_encoder(name)
    assert small(name).build(encoder, 16).encoder is encoder


@each_method
def test_refuses_a_single_view(name: str) -> None:
    with pytest.raises(ShapeError, match="two views of each sample, got 1"):
        build(name)(batch_of(name, torch.randn(4, 8)))


@each_method
def test_crops_are_compared_with_both_full_views_and_not_with_each_other(name: str) -> None:
    """Without batch norm, and with one crop and then two, losses are means over pairs."""
    views = torch.randn(4, 16, 8, generator=torch.Generator().manual_seed(8)).unbind()
    method = build(name).eval()
    plain, with_one, with_other, with_both = (
        method(batch_of(name, *views[:2], *crops)).loss
        for crops in ((), views[2:3], views[3:], views[2:])
    )
    full, per_crop = FULL_AND_CROP_PAIRS.get(name, (1, 2))
    expected = ((full + per_crop) * (with_one + with_other) - full * plain) / (full + 2 * per_crop)
    torch.testing.assert_close(with_both, expected)
    assert not torch.allclose(with_one, plain)


@each_method
def test_segments_are_kept_apart_or_refused(name: str) -> None:
    batch = next(batches(name, 0, 1))
    halves = replace(batch, segments=(6, 10))
    method = build(name).eval()
    if name in ONE_GROUP:
        with pytest.raises(ShapeError, match="segments"):
            method(halves)
        return
    parts = [
        method(batch_of(name, *(view[rows] for view in batch.views))).loss
        for rows in (slice(0, 6), slice(6, 16))
    ]
    torch.testing.assert_close(method(halves).loss, torch.stack(parts).mean())


@each_method
def test_bfloat16_autocast_gives_a_finite_loss_in_full_precision(name: str) -> None:
    method = build(name)
    with torch.autocast("cpu", torch.bfloat16):
        loss = method(next(batches(name, 0, 1))).loss
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()


@each_method
def test_works_in_double_precision(name: str) -> None:
    method = build(name).double()
    batch = next(batches(name, 0, 1))
    output = method(replace(batch, views=tuple(view.double() for view in batch.views)))
    output.loss.backward()
    method.after_step(0.5)
    assert output.loss.dtype == torch.float64
    assert all(value.dtype != torch.float32 for value in method.state_dict().values())


@each_method
def test_equal_images_give_a_finite_gradient(name: str) -> None:
    method = build(name)
    method(batch_of(name, torch.ones(16, 8), torch.ones(16, 8))).loss.backward()
    for parameter in method.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()


def branch() -> Branch:
    torch.manual_seed(0)
    return Branch(nn.Linear(8, 8), nn.Linear(8, 4))


def test_moco_queues_the_teachers_keys_once_and_only_after_the_step() -> None:
    method = Moco(branch(), FeatureQueue(12, 4))
    batch = next(batches("simclr", 0, 1))
    before = method.queue.keys.clone()
    keys = unit_rows(method.teacher(batch.views[1])[:8])
    method(ViewBatch(tuple(view[:8] for view in batch.views)))
    assert torch.equal(method.queue.keys, before)
    method.after_step(0.1)
    method.after_step(0.2)
    torch.testing.assert_close(method.queue.keys[:8], keys)
    assert torch.equal(method.queue.keys[8:], before[8:])


def test_moco_queues_nothing_while_it_is_evaluated() -> None:
    method = Moco(branch(), FeatureQueue(12, 4)).eval()
    before = method.queue.keys.clone()
    method(ViewBatch((torch.randn(4, 8), torch.randn(4, 8))))
    method.after_step(0.1)
    assert torch.equal(method.queue.keys, before)


def test_byol_teacher_stands_still_at_the_end_of_the_run() -> None:
    method = Byol(branch(), nn.Linear(4, 4), momentum=0.9)
    with torch.no_grad():
        for parameter in method.student.parameters():
            parameter.add_(1.0)
    start = copy.deepcopy(method.teacher.state_dict())
    method.after_step(1.0)
    for key, value in method.teacher.state_dict().items():
        assert torch.equal(value, start[key])
    method.after_step(0.0)
    for key, value in method.teacher.state_dict().items():
        torch.testing.assert_close(value, start[key] + 0.1)


def test_byol_adds_both_directions_and_simsiam_averages_them() -> None:
    torch.manual_seed(0)
    predictor, batch = nn.Linear(4, 4), next(batches("simclr", 0, 1))
    byol, simsiam = Byol(branch(), predictor), SimSiam(branch(), predictor)
    torch.testing.assert_close(byol(batch).loss, 4 + 4 * simsiam(batch).loss)


def test_simsiam_does_not_train_its_targets() -> None:
    method = SimSiam(branch(), nn.Linear(4, 4))
    batch = next(batches("simclr", 0, 1))
    method(batch).loss.backward()
    through_predictor = [p.grad.clone() for p in method.student.parameters() if p.grad is not None]
    method.zero_grad()
    z_a, z_b = (method.student(view) for view in batch.views)
    p_a, p_b = method.predictor(z_a), method.predictor(z_b)
    cosine = nn.functional.cosine_similarity
    (-(cosine(p_a, z_b.detach()).mean() + cosine(p_b, z_a.detach()).mean()) / 2).backward()
    for mine, parameter in zip(through_predictor, method.student.parameters(), strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(mine, parameter.grad)


def test_triplet_without_memory_has_no_buffers() -> None:
    method = build("triplet")
    assert isinstance(method, Triplet)
    assert not [key for key in method.state_dict() if key.startswith("memory")]
