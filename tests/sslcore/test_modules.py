"""Heads, teacher, queue and branch: what they keep, what they refuse."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sslcore.errors import ShapeError
from sslcore.modules.branch import Branch
from sslcore.modules.ema import EmaTeacher
from sslcore.modules.heads import first_layer, prediction_mlp, projection_mlp
from sslcore.modules.queue import FeatureQueue


def kinds(module: nn.Module) -> list[str]:
    return [type(layer).__name__ for layer in module.children()]


def test_head_has_norm_and_relu_between_layers_and_nothing_after_the_last() -> None:
    head = projection_mlp([8, 6, 4])
    assert kinds(head) == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert head(torch.randn(5, 8)).shape == (5, 4)


def test_head_without_hidden_norm_has_biases() -> None:
    head = projection_mlp([8, 6, 4], hidden_norm=False)
    assert kinds(head) == ["Linear", "ReLU", "Linear"]
    assert all(layer.bias is not None for layer in head if isinstance(layer, nn.Linear))


def test_final_norm_standardises_the_projections() -> None:
    head = projection_mlp([8, 6, 4], final_norm=True)
    assert kinds(head) == ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d"]
    z = head(torch.randn(64, 8))
    torch.testing.assert_close(z.mean(dim=0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.var(dim=0, correction=0), torch.ones(4), atol=1e-2, rtol=0)
    assert not list(head[-1].parameters())


def test_no_layer_in_front_of_a_norm_has_a_bias() -> None:
    for final_norm in (True, False):
        layers = list(projection_mlp([8, 6, 6, 4], final_norm=final_norm))
        for layer, following in zip(layers, [*layers[1:], None], strict=True):
            if isinstance(layer, nn.Linear):
                assert (layer.bias is None) == isinstance(following, nn.BatchNorm1d)


def test_a_head_of_one_layer_is_linear() -> None:
    assert kinds(projection_mlp([8, 4])) == ["Linear"]


@pytest.mark.parametrize("hidden_norm", [True, False])
def test_the_first_layer_ends_in_its_relu_and_shares_the_weights(hidden_norm: bool) -> None:
    head = projection_mlp([8, 6, 5, 4], hidden_norm=hidden_norm)
    layer = first_layer(head)
    assert kinds(layer) == (
        ["Linear", "BatchNorm1d", "ReLU"] if hidden_norm else ["Linear", "ReLU"]
    )
    assert layer[0] is head[0]


@pytest.mark.parametrize(
    "head", [projection_mlp([8, 4]), nn.Linear(8, 4), nn.Sequential(nn.ReLU())]
)
def test_a_head_without_a_middle_has_no_first_layer(head: nn.Module) -> None:
    with pytest.raises(ShapeError, match="head of at least two linear layers, got"):
        first_layer(head)


def test_predictor_keeps_the_size() -> None:
    assert prediction_mlp(4, 2)(torch.randn(5, 4)).shape == (5, 4)


@pytest.mark.parametrize("dims", [[], [8], [8, 0], [8, -1, 4]])
def test_head_refuses_sizes_that_make_no_layer(dims: list[int]) -> None:
    with pytest.raises(ShapeError, match="at least two positive layer sizes"):
        projection_mlp(dims)


def test_branch_is_head_after_encoder() -> None:
    encoder, head = nn.Linear(3, 4), nn.Linear(4, 2)
    x = torch.randn(5, 3)
    torch.testing.assert_close(Branch(encoder, head)(x), head(encoder(x)))


def student() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_teacher_moves_by_the_rest_of_its_momentum(dtype: torch.dtype) -> None:
    trained = student().to(dtype)
    teacher = EmaTeacher(trained)
    before = copy.deepcopy(list(teacher.parameters()))
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(1.0)
    teacher.update(trained, momentum=0.9)
    for old, new in zip(before, teacher.parameters(), strict=True):
        assert new.dtype == dtype
        torch.testing.assert_close(new, old + 0.1)


def test_small_steps_are_not_lost_in_double_precision() -> None:
    trained = nn.Linear(1, 1, bias=False).double()
    teacher = EmaTeacher(trained)
    start = teacher.module.weight.item()
    with torch.no_grad():
        trained.weight.add_(1.0)
    teacher.update(trained, momentum=1 - 1e-12)
    assert teacher.module.weight.item() - start == pytest.approx(1e-12, rel=1e-3)


def test_teacher_copies_batch_norm_statistics() -> None:
    trained = student()
    teacher = EmaTeacher(trained)
    trained(torch.randn(16, 3) + 5)
    teacher.update(trained, momentum=0.99)
    for kept, current in zip(teacher.module.buffers(), trained.buffers(), strict=True):
        torch.testing.assert_close(kept, current)


@pytest.mark.parametrize(("momentum", "follows"), [(0.0, True), (1.0, False)])
def test_ends_of_the_momentum(momentum: float, follows: bool) -> None:
    trained = student()
    teacher = EmaTeacher(trained)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(1.0)
    teacher.update(trained, momentum=momentum)
    same = [
        torch.allclose(mine, theirs)
        for mine, theirs in zip(teacher.parameters(), trained.parameters(), strict=True)
    ]
    assert all(same) if follows else not any(same)


def test_teacher_is_not_trained_and_shares_nothing_with_the_student() -> None:
    trained = student()
    teacher = EmaTeacher(trained)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not teacher(torch.randn(4, 3)).requires_grad
    mine = {value.data_ptr() for value in teacher.state_dict().values()}
    assert not mine & {value.data_ptr() for value in trained.state_dict().values()}
    assert len(teacher.state_dict()) == len(trained.state_dict())


def test_queue_keeps_every_key_across_the_wrap() -> None:
    queue = FeatureQueue(10, 2)
    for step in range(3):
        queue.push(torch.full((4, 2), float(step)))
    assert sorted(queue.keys[:, 0].tolist()) == [0.0] * 2 + [1.0] * 4 + [2.0] * 4


@given(st.lists(st.integers(0, 7), min_size=1, max_size=12))
def test_queue_holds_the_last_keys_whatever_the_batches(sizes: list[int]) -> None:
    queue = FeatureQueue(7, 1)
    queue.keys.fill_(-1)
    pushed = torch.arange(sum(sizes), dtype=torch.float32)[:, None]
    for part in pushed.split(sizes):
        queue.push(part)
    kept = [value for value in queue.keys[:, 0].tolist() if value >= 0]
    assert sorted(kept) == pushed[-7:, 0].tolist()


def test_queue_starts_with_random_directions_of_length_one() -> None:
    keys = FeatureQueue(64, 16).keys
    torch.testing.assert_close(keys.norm(dim=1), torch.ones(64))
    assert (keys @ keys.T - torch.eye(64)).abs().mean() < 0.3


def test_queue_goes_on_from_its_state_dict() -> None:
    queue, other = FeatureQueue(5, 2), FeatureQueue(5, 2)
    queue.push(torch.randn(3, 2))
    other.load_state_dict(queue.state_dict())
    for each in (queue, other):
        each.push(torch.ones(4, 2))
    assert torch.equal(queue.keys, other.keys)
    assert queue.cursor == other.cursor == 2
    assert queue.filled == other.filled == 5


def test_queue_knows_what_was_pushed_and_of_which_samples() -> None:
    queue = FeatureQueue(5, 1)
    assert queue.pushed.shape == (0, 1)
    queue.push(torch.tensor([[1.0], [2.0]]), torch.tensor([7, 8]))
    assert queue.pushed.tolist() == [[1.0], [2.0]]
    assert queue.ids.tolist() == [7, 8, -1, -1, -1]
    queue.push(torch.tensor([[3.0]]))
    queue.push(torch.tensor([[4.0], [5.0], [6.0]]), torch.tensor([7, 9, 3]))
    assert queue.ids.tolist() == [3, 8, -1, 7, 9]
    assert queue.pushed[:, 0].tolist() == [6.0, 2.0, 3.0, 4.0, 5.0]


def test_queue_tells_the_past_keys_of_a_sample_from_those_of_others() -> None:
    queue = FeatureQueue(5, 1)
    queue.push(torch.tensor([[1.0], [2.0], [3.0], [4.0]]), torch.tensor([0, 1, 0, 2]))
    owned = queue.owned(torch.tensor([0, 2, 5]))
    assert owned is not None
    assert owned.int().tolist() == [[1, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0]]
    assert queue.of_others(torch.tensor([0, 5]))[:, 0].tolist() == [2.0, 4.0]
    assert queue.of_others(torch.tensor([0, 1, 2])).shape == (0, 1)
    assert queue.owned(None) is None
    assert queue.of_others(None)[:, 0].tolist() == [1.0, 2.0, 3.0, 4.0]


def test_queue_brings_what_is_staged_to_length_one_in_its_own_precision() -> None:
    queue = FeatureQueue(4, 64)
    rows = torch.randn(4, 64).bfloat16()
    queue.stage(rows)
    queue.push_staged()
    torch.testing.assert_close(queue.keys, torch.nn.functional.normalize(rows.float()))


def test_queue_takes_keys_of_another_precision() -> None:
    queue = FeatureQueue(4, 2)
    queue.push(torch.ones(1, 2, dtype=torch.bfloat16))
    assert queue.keys.dtype == torch.float32


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((6, 2), "6 keys does not fit a queue of 5; make the queue larger"),
        ((3, 4), r"keys \[batch, 2\], got \(3, 4\)"),
        ((2,), r"got \(2,\)"),
    ],
)
def test_queue_refuses_keys_it_cannot_hold(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        FeatureQueue(5, 2).push(torch.zeros(shape))


@pytest.mark.parametrize(("size", "dim"), [(0, 2), (4, 0)])
def test_queue_refuses_to_be_empty(size: int, dim: int) -> None:
    with pytest.raises(ShapeError, match="at least one key"):
        FeatureQueue(size, dim)
