"""What the command lines of both domains share: messages for users, and progress."""

import errno
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TextIO

import typer

from sslcore.errors import SSLError

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_LINE_EVERY = 10.0  # seconds, without a terminal


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn what a user can mend into one message on stderr; let bugs trace back.

    An `SSLError` or a full disk ends with exit status 2, Ctrl-C with 130.
    """
    try:
        yield
    except SSLError as error:
        raise _stop(f"error: {error}", 2) from error
    except KeyboardInterrupt as error:
        raise _stop("interrupted; what was finished before is kept", 130) from error
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        place = f" while writing {error.filename}" if error.filename else ""
        raise _stop(f"error: no space left on the disk{place}; free some, try again", 2) from error


def _stop(message: str, status: int) -> typer.Exit:
    typer.secho(_without_secrets(message), fg=typer.colors.RED, err=True)
    return typer.Exit(status)


def _without_secrets(message: str) -> str:
    """Cover user and password of a URL, which a user may have given where a path belongs."""
    return re.sub(r"(:/{1,2})[^/\s]+@", r"\1***@", message)


class Progress:
    """Where a long piece of work stands: a bar on a terminal, else a line every ten seconds.

    Everything goes to stderr. Use it as a context manager.
    """

    def __init__(
        self,
        title: str,
        *,
        total: int | None = None,
        unit: str = "images",
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; nothing is shown before the `with` block begins.

        Args:
            title: What is being done, in a word.
            total: Number of units of the whole work, if known by now.
            unit: Plural.
            stream: Where it is shown; stderr by default.
            clock: Seconds.
        """
        self.title = title
        self._stream = stream or sys.stderr
        self._clock = clock
        self._pace = _Pace(total, unit)
        self._facts: dict[str, str] = {}
        self._bar: _Bar | None = None
        self._last_line = 0.0

    def __enter__(self) -> Self:
        now = self._clock()
        self._pace.begin(now, 0)
        self._last_line = now
        if self._stream.isatty():
            self._bar = _Bar(self.title, self._stream)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None and self._pace.counts:
            self._show()
        if self._bar:
            self._bar.close()

    def expect(self, total: int | None, *, done: int = 0, unit: str | None = None) -> None:
        """Start a count: `total` units, of which `done` are from an earlier session."""
        self._pace = _Pace(total, unit or self._pace.unit)
        self._pace.begin(self._clock(), done)
        self._facts = {}

    def advance(self, count: int = 1, **facts: str) -> None:
        """Report `count` more units, and facts to show beside them, such as `loss="0.41"`."""
        now = self._clock()
        self._pace.done += count
        self._facts |= facts
        if self._bar or now - self._last_line >= _LINE_EVERY:
            self._last_line = now
            self._show()

    def note(self, message: str) -> None:
        """Show a message, such as a warning, that stays."""
        if self._bar:
            self._bar.note(message)
        else:
            self._stream.write(message + "\n")
            self._stream.flush()

    def _show(self) -> None:
        facts = [f"{name} {value}" for name, value in self._facts.items()]
        text = "  ".join([*self._pace.words(self._clock()), *facts])
        if self._bar:
            self._bar.show(self._pace.done, self._pace.total, text)
        else:
            self.note(f"{self.title}  {text}")


class _Pace:
    """How much is done, how fast, and how long the rest takes."""

    def __init__(self, total: int | None, unit: str) -> None:
        self.total = total
        self.unit = unit
        self.done = 0
        self._ahead = 0  # done before this session, so it says nothing about its rate
        self._start = 0.0

    def begin(self, now: float, done: int) -> None:
        self.done = self._ahead = done
        self._start = now

    @property
    def counts(self) -> bool:
        """Whether there is anything to count; some work has only messages."""
        return self.done > 0 or self.total is not None

    def words(self, now: float) -> list[str]:
        of = "" if self.total is None else f"/{self.total}"
        words = [f"{self.done}{of} {self.unit}"]
        seconds, count = now - self._start, self.done - self._ahead
        if count and seconds > 0:
            rate = count / seconds
            words.append(f"{rate:.3g} {self.unit}/s")
            if self.total is not None and self.total > self.done:
                words.append(f"{duration((self.total - self.done) / rate)} left")
        return words


def duration(seconds: float) -> str:
    """Return a length of time in the unit that suits it: `45 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


class _Bar:
    """The terminal's form of `Progress`."""

    def __init__(self, title: str, stream: TextIO) -> None:
        # 0.1 s of imports that `--help` does not wait for
        from rich.console import Console  # noqa: PLC0415
        from rich.progress import BarColumn, TextColumn  # noqa: PLC0415
        from rich.progress import Progress as RichProgress  # noqa: PLC0415

        columns = (
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}", markup=False),
        )
        self._rich = RichProgress(*columns, console=Console(file=stream))
        self._task = self._rich.add_task(title, total=None, text="")
        self._rich.start()

    def show(self, done: int, total: int | None, text: str) -> None:
        self._rich.update(self._task, completed=done, total=total, text=text)

    def note(self, message: str) -> None:
        self._rich.console.print(message, markup=False, highlight=False)

    def close(self) -> None:
        self._rich.stop()
