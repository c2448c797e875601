"""The one training loop."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from sslcore.errors import ConfigError, DivergedError
from sslcore.methods.method import Method, StepOutput
from sslcore.training.clipping import clip_gradients

BatchT = TypeVar("BatchT")
RawT = TypeVar("RawT")
ContentT = TypeVar("ContentT")

WAY_OUT = (  # of training that diverges
    "lower optim.learning_rate, lengthen optim.warmup, or train with run.precision=32-true"
)


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """How long and how carefully to train.

    Attributes:
        steps: Optimiser steps of the whole run.
        batch_size: Samples per step over all processes; only the reported rate depends on it.
        clip_norm: Upper bound on the gradient norm.
    """

    steps: int
    batch_size: int = 1
    clip_norm: float = 5.0


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One line of the training log. Times are left out when two records are compared.

    Attributes:
        step: Optimiser steps done, this one included.
        loss: Mean over the processes.
        lr: Learning rate of this step.
        grad_norm: Before clipping; infinite where fp16 training skipped the step.
        terms: Further scalars of the method.
        samples_per_second: Over all processes, without what `on_step` takes.
        wait_share: Share of the step spent waiting for data, 0 to 1.
        prepare_share: Share of the step spent in `prepare`; on a GPU only the time to start it.
    """

    step: int
    loss: float
    lr: float
    grad_norm: float
    terms: dict[str, float]
    samples_per_second: float = field(default=0.0, compare=False)
    wait_share: float = field(default=0.0, compare=False)
    prepare_share: float = field(default=0.0, compare=False)


def fit(  # noqa: PLR0913 - the parts of a run, each named at the call
    method: Method[BatchT],
    batches: Iterable[RawT],
    optimizer: torch.optim.Optimizer,
    settings: LoopSettings,
    *,
    fabric: Fabric,
    prepare: Callable[[RawT], BatchT],
    schedule: Callable[[float], float],
    on_step: Callable[[StepRecord], bool | None],
    decay: Callable[[float], float] | None = None,
    first_step: int = 0,
) -> None:
    """Train `method` until `settings.steps`, or until `on_step` ends it.

    Args:
        method: Already on `fabric.device` if `optimizer` holds restored state.
        batches: One raw batch for each step from `first_step` on.
        optimizer: Its groups' learning rates and weight decays at this point are the base values.
        settings: See `LoopSettings`.
        fabric: Launched. Brings device, precision and processes.
        prepare: From a raw batch to what `method` takes, on the device.
        schedule: Progress (0 to 1) to the factor on the base learning rates. Asked for the middle
            of each step, so that neither a warm-up from 0 nor a decay to 0 wastes a step.
        on_step: Receives every step's record; log, health and checkpoints live there. It may use
            `method` itself, and must leave it in training mode. If it returns true, training
            ends with this step.
        decay: Like `schedule`, to the factor on the base weight decays; constant by default.
        first_step: Number of steps done before, when resuming.

    Raises:
        ConfigError: `batches` ends too early.
        DivergedError: At the first loss or gradient norm that is not finite, before the weights
            are changed by it. With a gradient scaler (fp16) a gradient may overflow: the scaler
            then skips the step and lowers its scale.
    """
    method.train()
    model, stepper = fabric.setup(_SealedMethod(method), optimizer)
    base = [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
    source = iter(batches)
    for step in range(first_step, settings.steps):
        clock = _Clock()
        raw = _next(source, step, settings.steps)
        clock.waited()
        batch = prepare(raw)
        clock.prepared()
        middle = (step + 0.5) / settings.steps
        for group, (first_rate, first_decay) in zip(optimizer.param_groups, base, strict=True):
            group["lr"] = first_rate * schedule(middle)
            group["weight_decay"] = first_decay * (decay(middle) if decay else 1.0)
        output: StepOutput = model(_Sealed(batch)).content
        stepper.zero_grad()
        fabric.backward(output.loss)
        norm = clip_gradients(model, stepper, fabric=fabric, max_norm=settings.clip_norm)
        loss, grad_norm, terms = _scalars(output, norm, fabric)
        _require_finite(step, loss, grad_norm, overflow_is_skipped=has_scaler(fabric))
        stepper.step()
        method.after_step((step + 1) / settings.steps)
        rate = optimizer.param_groups[0]["lr"]
        times = clock.shares(settings.batch_size)
        if on_step(StepRecord(step + 1, loss, rate, grad_norm, terms, *times)):
            return


def has_scaler(fabric: Fabric) -> bool:
    """Tell whether gradients are scaled, as fp16 training needs."""
    return getattr(fabric.strategy.precision, "scaler", None) is not None


class _Sealed(Generic[ContentT]):
    """Carries a batch or an output past Fabric, which would copy it, or refuse a frozen one."""

    def __init__(self, content: ContentT) -> None:
        self.content = content


class _SealedMethod(nn.Module):
    """What Fabric wraps, so that `Method` needs to know nothing of Fabric."""

    def __init__(self, method: nn.Module) -> None:
        super().__init__()
        self.method = method

    def forward(self, batch: _Sealed[Any]) -> _Sealed[Any]:
        return _Sealed(self.method(batch.content))


class _Clock:
    """Where the time of one step goes."""

    def __init__(self) -> None:
        self._start = self._wait = self._prepare = time.perf_counter()

    def waited(self) -> None:
        self._wait = time.perf_counter()

    def prepared(self) -> None:
        self._prepare = time.perf_counter()

    def shares(self, samples: int) -> tuple[float, float, float]:
        total = max(time.perf_counter() - self._start, 1e-9)
        wait, prepare = self._wait - self._start, self._prepare - self._wait
        return samples / total, wait / total, prepare / total


def _next(source: Any, step: int, steps: int) -> Any:
    for raw in source:
        return raw
    raise ConfigError(f"the data source ended at step {step} of {steps}")


def _scalars(
    output: StepOutput, norm: Tensor, fabric: Fabric
) -> tuple[float, float, dict[str, float]]:
    """Fetch the step's numbers in one transfer; loss and terms are means over the processes."""
    numbers = (output.loss, norm, *output.logs.values())
    row = torch.stack([number.detach().float() for number in numbers])
    if fabric.world_size > 1:
        row = cast("Tensor", fabric.all_reduce(row, reduce_op="mean"))
    loss, total, *terms = row.tolist()
    return loss, total, dict(zip(output.logs, terms, strict=True))


def _require_finite(step: int, loss: float, norm: float, *, overflow_is_skipped: bool) -> None:
    checked = loss if overflow_is_skipped else loss + norm
    if not math.isfinite(checked):
        raise DivergedError(f"step {step}: loss {loss:.4g}, gradient norm {norm:.4g}; {WAY_OUT}")
