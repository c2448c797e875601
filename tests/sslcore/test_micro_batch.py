"""A batch that is encoded in parts: same value and gradient, less memory, statistics move once."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sslcore.errors import ShapeError
from sslcore.methods.method import ViewMethod
from sslcore.methods.registry import CONFIGS
from sslcore.modules.branch import Branch, set_micro_batch
from sslcore.modules.ema import EmaTeacher
from sslcore.modules.in_parts import encode_in_parts
from sslcore.views import ViewBatch
from tests.sslcore.test_registry import config_of

ROWS = 14
IN_PARTS = [
    config.model_fields["name"].default
    for config in CONFIGS
    if not config.needs_tokens and not config.needs_squares
]


def build(name: str) -> ViewMethod:
    """Around an encoder that treats every row by itself; heads may have batch norm."""
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.LayerNorm(12), nn.Linear(12, 8))
    return config_of(name).build(encoder, 8).double()


def batch() -> ViewBatch[Tensor]:
    generator = torch.Generator().manual_seed(1)
    views = tuple(torch.randn(3, ROWS, 6, generator=generator, dtype=torch.float64))
    return ViewBatch(views, keys=torch.arange(ROWS), labels=torch.arange(ROWS) % 3)


def step(method: ViewMethod) -> tuple[Tensor, dict[str, Tensor]]:
    loss = method(batch()).loss
    loss.backward()
    method.after_step(0.5)
    return loss.detach(), {
        key: value.grad for key, value in method.named_parameters() if value.grad is not None
    }


@pytest.mark.parametrize("rows", [1, 4, 13, 14, 100])
@pytest.mark.parametrize("name", IN_PARTS)
def test_value_gradient_and_state_are_those_of_the_whole_batch(name: str, rows: int) -> None:
    whole = build(name)
    parts = copy.deepcopy(whole)
    set_micro_batch(parts, rows)
    seen: list[int] = []
    parts.encoder.register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    (loss, grads), (loss_in_parts, grads_in_parts) = step(whole), step(parts)
    torch.testing.assert_close(loss_in_parts, loss, rtol=1e-12, atol=1e-12)
    assert grads.keys() == grads_in_parts.keys()
    torch.testing.assert_close(grads_in_parts, grads, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(
        dict(parts.state_dict()), dict(whole.state_dict()), rtol=1e-9, atol=1e-12
    )
    assert max(seen) <= rows


class _PeakMemory(TorchDispatchMode):
    """Bytes of all living tensors that were made inside, at most."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._living: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                memory = leaf.untyped_storage()
                self._living[memory._cdata] = (StorageWeakRef(memory), memory.nbytes())
        self._living = {key: entry for key, entry in self._living.items() if not entry[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self._living.values()))
        return result


def peak_of(rows: int | None) -> int:
    """Of the encoder; head and objective take the same in any case."""
    torch.manual_seed(0)
    layers = [layer for _ in range(8) for layer in (nn.Linear(32, 32), nn.Tanh())]
    branch = Branch(nn.Sequential(*layers), nn.Identity())
    branch.micro_batch = rows
    with _PeakMemory() as memory:
        views = torch.randn(2, 512, 32)
        sum(branch(view).square().sum() for view in views).backward()  # type: ignore[union-attr]
    return memory.peak


def test_the_peak_of_memory_shrinks() -> None:
    whole, halves, eighths = (peak_of(rows) for rows in (None, 256, 64))
    assert halves < 0.5 * whole  # two views, two parts each: one of four is kept
    assert eighths < 0.4 * whole  # a fourth are the views, the features and their gradients


def normed() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh())


@pytest.mark.parametrize("momentum", [0.1, None])
def test_running_statistics_move_once_per_part(momentum: float | None) -> None:
    encoder, view = normed(), torch.randn(12, 4)
    assert isinstance(encoder[1], nn.BatchNorm1d)
    encoder[1].momentum = momentum
    by_hand = copy.deepcopy(encoder)
    parts = [by_hand(part) for part in view.split(4)]
    features = encode_in_parts(encoder, view, rows=4)
    features.square().sum().backward()
    torch.cat(parts).square().sum().backward()
    torch.testing.assert_close(features, torch.cat(parts))
    torch.testing.assert_close(encoder.state_dict(), by_hand.state_dict())
    assert encoder[1].num_batches_tracked == 3
    assert encoder[1].momentum == momentum
    for mine, theirs in zip(encoder.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


def test_statistics_that_are_kept_still_and_norms_without_them() -> None:
    encoder, view = normed(), torch.randn(12, 4)
    encoder[1].eval()
    before = copy.deepcopy(encoder.state_dict())
    encode_in_parts(encoder, view, rows=4).sum().backward()
    torch.testing.assert_close(encoder.state_dict(), before)
    plain = nn.BatchNorm1d(4, track_running_stats=False)
    encode_in_parts(plain, view, rows=4).sum().backward()
    assert plain.num_batches_tracked is None


def test_a_teacher_is_encoded_in_parts_without_gradient() -> None:
    seen: list[int] = []

    class Counting(nn.Linear):
        def forward(self, view: Tensor) -> Tensor:
            seen.append(len(view))
            return super().forward(view)

    branch = Branch(Counting(4, 4), nn.Identity())
    teacher = EmaTeacher(branch)
    set_micro_batch(teacher, 5)
    assert not teacher(torch.randn(12, 4)).requires_grad
    assert seen == [4, 4, 4]  # once each, and as equal as can be


def test_autocast_holds_in_the_second_pass_too() -> None:
    method = config_of("simclr").build(normed(), 5)
    set_micro_batch(method, 4)
    with torch.autocast("cpu", torch.bfloat16):
        loss = method(ViewBatch((torch.randn(8, 4), torch.randn(8, 4)))).loss
    loss.backward()
    assert all(value.grad is not None for value in method.parameters())


def test_what_has_no_rows_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"view is a tuple; leave run\.micro_batch out"):
        encode_in_parts(nn.Identity(), (torch.ones(4, 2),), rows=2)
    with pytest.raises(ShapeError, match="at least one row, got 0"):
        encode_in_parts(nn.Identity(), torch.ones(4, 2), rows=0)
