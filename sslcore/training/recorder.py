"""What happens after each step: the log, the health of the embeddings, checkpoints, progress."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from sslcore.console import Progress, duration
from sslcore.diagnostics import CollapseGuard
from sslcore.training.health import Measured, Monitor, as_health
from sslcore.training.history import History, read_history
from sslcore.training.loop import StepRecord

_SMOOTHING = 0.9  # of the shown share of waiting
_LONG = 300.0  # seconds of a run whose length is foretold
_TIMED = 4  # steps it is foretold from; the one before them also waits for workers and compilers


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often what happens.

    Attributes:
        steps: Of the whole run.
        health_every: Steps.
        checkpoint_seconds: At least this long between two checkpoints.
    """

    steps: int
    health_every: int
    checkpoint_seconds: float


class Recorder:
    """Writes down a run while it goes on. Used by one process only."""

    def __init__(  # noqa: PLR0913 - the parts of a run, each named at the call
        self,
        rhythm: Rhythm,
        *,
        log: History,
        health_log: History,
        monitor: Monitor,
        save: Callable[[int], None],
        progress: Progress,
        is_interrupted: Callable[[], bool] = lambda: False,
        on_check: Callable[[int, Measured], bool] | None = None,
        unit: str = "images",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; `begin` starts.

        Args:
            rhythm: How often what happens. The last step always gets a check and a checkpoint.
            log: Of the steps.
            health_log: Of the health checks.
            monitor: Measures.
            save: Writes a checkpoint of the given step.
            progress: Where loss, rate and warnings are shown.
            is_interrupted: Whether the user wants to stop after this step.
            on_check: Receives the step and the measurement of each health check; true ends the
                run after this step.
            unit: Plural of what a batch holds.
            clock: Seconds.
        """
        self._is_interrupted = is_interrupted
        self._rhythm = rhythm
        self._log = log
        self._health_log = health_log
        self._monitor = monitor
        self._save = save
        self._progress = progress
        self._clock = clock
        self._saved_at = clock()
        self._guard = CollapseGuard()
        self._waiting = 0.0
        self._on_check = on_check
        self._unit = unit
        self._is_enough = False
        self._first_step = 0
        self._timed_from = 0.0

    def begin(self, first_step: int) -> None:
        """Cut both logs back to `first_step`, and measure the untrained encoder of a new run."""
        self._progress.expect(self._rhythm.steps, done=first_step, unit="steps")
        self._first_step = first_step
        self._log.truncate_after(first_step)
        if first_step == 0:
            self._health_log.truncate_after(-1)
            self._check(0)
            return
        self._health_log.truncate_after(first_step)
        for record in read_history(self._health_log.path):
            self._guard.check(as_health(record))

    def __call__(self, record: StepRecord) -> bool:
        """Write the record, do what is due, and tell whether the run ends early.

        Raises:
            CollapseError: The embeddings have collapsed. While that looms, no checkpoint replaces
                the last good one; the end of the run and Ctrl-C make one in any case.
            OutputError: The disk is full, or the place cannot be written.
            KeyboardInterrupt: The user wants to stop; the step is in a checkpoint.
        """
        self._log.append(asdict(record))
        self._show(record)
        self._foretell(record.step)
        last = record.step == self._rhythm.steps
        if last or record.step % self._rhythm.health_every == 0:
            self._check(record.step)
        last = last or self._is_enough
        stop = self._is_interrupted() and not last
        if last or stop or self._is_due():
            self._log.sync()
            self._health_log.sync()
            self._save(record.step)
            self._saved_at = self._clock()
        if stop:
            self._progress.note(f"step {record.step} is saved; go on with --resume")
            raise KeyboardInterrupt
        return self._is_enough

    def _is_due(self) -> bool:
        is_late = self._clock() - self._saved_at >= self._rhythm.checkpoint_seconds
        return is_late and not self._guard.is_worried

    def _check(self, step: int) -> None:
        measured = self._monitor.measure()
        self._health_log.append({"step": step, **measured.as_record()})
        warning = self._guard.check(measured.health)
        if warning:
            self._progress.note(f"warning: {warning}")
        self._progress.advance(0, **measured.facts())
        if self._on_check and self._on_check(step, measured):
            self._is_enough = True

    def _foretell(self, step: int) -> None:
        """Say once, after a few steps, how long a long run will take."""
        taken = step - self._first_step
        if taken == 1:
            self._timed_from = self._clock()
        if taken != 1 + _TIMED:
            return
        left = self._rhythm.steps - step
        seconds = left * (self._clock() - self._timed_from) / _TIMED
        if seconds >= _LONG:
            shorter = "; --epochs N or --set run.steps=N for less" if not self._first_step else ""
            self._progress.note(f"about {duration(seconds)} for {left} more steps{shorter}")

    def _show(self, record: StepRecord) -> None:
        first = self._waiting == 0
        kept = 0.0 if first else _SMOOTHING
        self._waiting = kept * self._waiting + (1 - kept) * record.wait_share
        self._progress.advance(
            1,
            loss=f"{record.loss:.4f}",
            speed=f"{record.samples_per_second:.0f} {self._unit}/s",
            waiting=f"{self._waiting:.0%}",
        )
