"""When a run is saved."""

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
