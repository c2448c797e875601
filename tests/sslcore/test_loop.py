import copy
import itertools
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision.amp import MixedPrecision
from torch import Tensor, nn

from sslcore.errors import ConfigError, DivergedError
from sslcore.methods.method import Method, StepOutput
from sslcore.schedules import warmup_cosine
from sslcore.training.loop import LoopSettings, StepRecord, fit
from sslcore.views import ViewBatch


class Regression(Method[ViewBatch[Tensor]]):
    """Draws the two views of a sample together, and keeps a running average of its weights."""

    average: Tensor

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Linear(16, 4))
        self.register_buffer("average", torch.zeros(16, 8))
        self.progress: list[float] = []

    @property
    def encoder(self) -> nn.Module:
        return self.net

    def forward(self, batch: ViewBatch[Tensor]) -> StepOutput:
        a, b = (self.net(view).float() for view in batch.views)
        loss = (a - b).square().mean()
        return StepOutput(loss, {"size": a.detach().norm()})

    def after_step(self, progress: float) -> None:
        self.progress.append(progress)
        first = self.net[0]
        assert isinstance(first, nn.Linear)
        self.average.lerp_(first.weight.detach(), 0.1)


def raw_batches(first_step: int = 0) -> Iterator[Tensor]:
    for step in itertools.count(first_step):
        yield torch.randn(16, 8, generator=torch.Generator().manual_seed(step))


def make_views(x: Tensor) -> ViewBatch[Tensor]:
    return ViewBatch((x, x + x.sin().roll(1, 1)))


def run(
    method: Regression, optimizer: torch.optim.Optimizer, steps: int = 6, **changes: Any
) -> list[StepRecord]:
    log: list[StepRecord] = []
    first_step = changes.pop("first_step", 0)
    options: dict[str, Any] = {
        "fabric": Fabric(accelerator="cpu", devices=1),
        "prepare": make_views,
        "schedule": lambda progress: 1 - progress,
        "on_step": log.append,
        "first_step": first_step,
    }
    batches = changes.pop("batches", raw_batches(first_step))
    settings = LoopSettings(steps, batch_size=16)
    fit(method, batches, optimizer, settings, **(options | changes))
    return log


def adam(method: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(method.parameters(), lr=0.01)


def test_training_lowers_the_loss_and_is_the_same_twice() -> None:
    first, second = Regression(), Regression()
    log = run(first, adam(first))
    assert log == run(second, adam(second))
    assert log[-1].loss < log[0].loss


def test_steps_count_from_one_and_the_rate_is_the_schedules_at_the_middle_of_the_step() -> None:
    method = Regression()
    log = run(method, adam(method), steps=4)
    assert [record.step for record in log] == [1, 2, 3, 4]
    assert [record.lr for record in log] == pytest.approx([0.00875, 0.00625, 0.00375, 0.00125])


def test_weight_decay_follows_its_own_schedule_and_stays_where_there_is_none() -> None:
    method = Regression()
    groups = [
        {"params": [method.net[0].weight], "weight_decay": 0.5},
        {"params": [method.net[0].bias], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.01)
    seen: list[list[float]] = []

    def on_step(_: StepRecord) -> None:
        seen.append([group["weight_decay"] for group in optimizer.param_groups])

    run(method, optimizer, steps=2, on_step=on_step)
    assert seen == [[0.5, 0.0]] * 2
    run(method, optimizer, steps=2, on_step=on_step, decay=lambda progress: 1 + 2 * progress)
    assert seen[2:] == [[0.75, 0.0], [1.25, 0.0]]


@pytest.mark.parametrize("steps", [1, 2, 10])
def test_no_step_of_warm_up_and_decay_is_wasted(steps: int) -> None:
    method = Regression()
    log = run(method, adam(method), steps, schedule=partial(warmup_cosine, warmup=0.1))
    assert min(record.lr for record in log) > 0


def test_after_step_is_called_on_the_bare_method_once_a_step() -> None:
    method = Regression()
    run(method, adam(method), steps=4)
    assert method.progress == [0.25, 0.5, 0.75, 1.0]


def test_continuing_from_the_state_equals_the_unbroken_run() -> None:
    whole, parts, fresh = Regression(), Regression(), Regression()
    unbroken = run(whole, adam(whole))

    def stop(record: StepRecord) -> None:
        if record.step == 3:
            raise KeyboardInterrupt

    optimizer = adam(parts)
    with pytest.raises(KeyboardInterrupt):
        run(parts, optimizer, on_step=stop)
    later = adam(fresh)
    fresh.load_state_dict(copy.deepcopy(parts.state_dict()))
    groups = later.state_dict()["param_groups"]
    later.load_state_dict({"state": optimizer.state_dict()["state"], "param_groups": groups})
    assert run(fresh, later, first_step=3) == unbroken[3:]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_poisoned_batch_stops_the_run_before_it_changes_the_weights(precision: Any) -> None:
    method = Regression()
    optimizer = adam(method)
    poisoned = itertools.chain(itertools.islice(raw_batches(), 2), [torch.full((16, 8), torch.nan)])
    before: dict[str, Tensor] = {}

    def remember(record: StepRecord) -> None:
        before.update({name: p.clone() for name, p in method.named_parameters()})

    fabric = Fabric(accelerator="cpu", devices=1, precision=precision)
    with pytest.raises(DivergedError, match="step 2: loss nan"):
        run(method, optimizer, batches=poisoned, on_step=remember, fabric=fabric)
    for name, parameter in method.named_parameters():
        assert torch.equal(parameter, before[name])


def test_with_a_gradient_scaler_an_overflow_skips_the_step_but_a_bad_loss_ends_the_run() -> None:
    method = Regression()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**30)
    plugin = MixedPrecision("16-mixed", "cpu", scaler)
    start = [p.clone() for p in method.parameters()]
    moved: list[bool] = []

    def watch(record: StepRecord) -> None:
        pairs = zip(start, method.parameters(), strict=True)
        moved.append(any(not torch.equal(a, b) for a, b in pairs))

    batches = itertools.chain(itertools.islice(raw_batches(), 40), [torch.full((16, 8), torch.inf)])
    fabric = Fabric(accelerator="cpu", devices=1, plugins=plugin)
    with pytest.raises(DivergedError, match="step 40"):
        run(method, adam(method), 41, batches=batches, on_step=watch, fabric=fabric)
    assert not moved[0]
    assert moved[-1]
    assert scaler.get_scale() < 2.0**30


@pytest.mark.parametrize("count", [0, 3])
def test_a_source_that_ends_early_is_an_error_not_a_hang(count: int) -> None:
    method = Regression()
    batches = itertools.islice(raw_batches(), count)
    with pytest.raises(ConfigError, match=f"ended at step {count} of 6"):
        run(method, adam(method), batches=batches)


def test_gradients_are_clipped_and_the_norm_is_the_one_before() -> None:
    method = Regression()
    optimizer = torch.optim.SGD(method.parameters(), lr=1.0)
    start = [p.clone() for p in method.parameters()]
    settings = LoopSettings(1, clip_norm=1e-3)
    log: list[StepRecord] = []
    fit(
        method,
        raw_batches(),
        optimizer,
        settings,
        fabric=Fabric(accelerator="cpu", devices=1),
        prepare=make_views,
        schedule=lambda _: 1.0,
        on_step=log.append,
    )
    moves = [(b - a).flatten() for a, b in zip(start, method.parameters(), strict=True)]
    assert torch.cat(moves).norm().item() == pytest.approx(1e-3, rel=1e-3)
    assert log[0].grad_norm > 1e-2


def test_shares_tell_where_the_time_went() -> None:
    def slow_batches() -> Iterator[Tensor]:
        for batch in raw_batches():
            time.sleep(0.02)
            yield batch

    method = Regression()
    log = run(method, adam(method), batches=slow_batches())
    waiting = max(record.wait_share for record in log[1:])
    assert 0.5 < waiting < 1
    assert all(0 <= record.prepare_share < 1 - record.wait_share for record in log)
    assert all(record.samples_per_second < 16 / 0.02 for record in log)


def test_a_batch_reaches_the_method_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    method = Regression()
    forward: Callable[[ViewBatch[Tensor]], StepOutput] = method.forward

    def spy(batch: ViewBatch[Tensor]) -> StepOutput:
        seen.append(batch)
        return forward(batch)

    monkeypatch.setattr(method, "forward", spy)
    prepared: list[object] = []

    def prepare(x: Tensor) -> ViewBatch[Tensor]:
        prepared.append(make_views(x))
        return prepared[-1]  # type: ignore[return-value]

    run(method, adam(method), 2, prepare=prepare)
    assert [id(batch) for batch in seen] == [id(batch) for batch in prepared]
