"""When a run is saved, and what is said of its length."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from sslcore.console import Progress
from sslcore.diagnostics import Health
from sslcore.errors import CollapseError
from sslcore.training.health import Measurement
from sslcore.training.history import History
from sslcore.training.loop import StepRecord
from sslcore.training.recorder import Recorder, Rhythm


class Script:
    """Measures what it was told, one after the other; then it stays at the last."""

    def __init__(self, *spreads: float) -> None:
        self._spreads = list(spreads)

    def measure(self) -> Measurement:
        spread = self._spreads.pop(0) if len(self._spreads) > 1 else self._spreads[0]
        return Measurement(Health(spread, 30.0, 0.1, -1.0), None)


def saved_steps(folder: Path, steps: int, *spreads: float) -> list[int]:
    """Take `steps` steps with a check and, where allowed, a checkpoint after each."""
    saved: list[int] = []
    recorder = Recorder(
        Rhythm(steps=steps, health_every=1, checkpoint_seconds=0),
        log=History(folder / "log.jsonl"),
        health_log=History(folder / "health.jsonl"),
        monitor=Script(*spreads),
        save=saved.append,
        progress=Progress("test"),
    )
    recorder.begin(0)
    try:
        for step in range(1, steps + 1):
            recorder(StepRecord(step, 1.0, 0.1, 1.0, {}))
    except CollapseError:
        saved.append(-1)
    return saved


@pytest.mark.parametrize(
    ("steps", "spreads", "saved"),
    [
        (9, (0.5, 0.5, 0.5, 0.001), [1, 2, -1]),  # collapses after step 2
        (5, (0.5, 0.5, 0.001, 0.5), [1, 3, 4, 5]),  # recovers
        (3, (0.5, 0.5, 0.5, 0.001), [1, 2, 3]),  # the last step is kept whatever it is
    ],
)
def test_a_looming_collapse_does_not_replace_the_last_good_checkpoint(
    tmp_path: Path, steps: int, spreads: tuple[float, ...], saved: list[int]
) -> None:
    assert saved_steps(tmp_path, steps, *spreads) == saved


def notes(folder: Path, seconds: Iterator[float], *, steps: int, first_step: int = 0) -> list[str]:
    """Return what is said in seven steps, the clock read once in each."""
    stream, clock = io.StringIO(), 0.0
    with Progress("test", stream=stream) as progress:
        recorder = Recorder(
            Rhythm(steps=steps, health_every=steps, checkpoint_seconds=1e9),
            log=History(folder / "log.jsonl"),
            health_log=History(folder / "health.jsonl"),
            monitor=Script(0.5),
            save=lambda step: None,
            progress=progress,
            clock=lambda: clock,
        )
        recorder.begin(first_step)
        for step in range(first_step + 1, first_step + 8):
            clock += next(seconds)
            recorder(StepRecord(step, 1.0, 0.1, 1.0, {}))
    return [line for line in stream.getvalue().splitlines() if line.startswith("about")]


def test_the_length_of_a_long_run_is_said_once_and_how_to_have_less(tmp_path: Path) -> None:
    first_is_slow = iter([500.0, *[20.0] * 6])
    assert notes(tmp_path, first_is_slow, steps=140) == [
        "about 45 min for 135 more steps; --epochs N or --set run.steps=N for less"
    ]


def test_nothing_is_said_of_a_short_run(tmp_path: Path) -> None:
    assert notes(tmp_path, iter([2.0] * 7), steps=140) == []


def test_a_run_that_goes_on_is_not_told_to_be_shorter(tmp_path: Path) -> None:
    assert notes(tmp_path, iter([20.0] * 7), steps=140, first_step=40) == [
        "about 32 min for 95 more steps"
    ]
