import errno
import io

import pytest
import typer

from sslcore.console import Progress, user_errors
from sslcore.errors import ConfigError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (ConfigError("steps 0 is too few"), 2, "error: steps 0 is too few"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ConfigError("s3:/key:secret@b/m.csv: no such file"), 2, "s3:/***@b/m.csv: no such file"),
        (OSError(errno.ENOSPC, "No space left on device", "a.bin"), 2, "disk while writing a.bin"),
        (OSError(errno.EDQUOT, "Quota exceeded"), 2, "no space left on the disk;"),
    ],
)
def test_what_a_user_can_mend_is_a_message_and_an_exit_status(
    error: BaseException, status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as caught, user_errors():
        raise error
    assert caught.value.exit_code == status
    printed = capsys.readouterr()
    assert words in printed.err
    assert printed.out == ""


@pytest.mark.parametrize("error", [ValueError("bug"), OSError(errno.EIO, "bad disk")])
def test_a_bug_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)), user_errors():
        raise error


def test_without_a_terminal_there_is_a_line_every_ten_seconds_and_one_at_the_end() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress("train", total=100, unit="steps", stream=stream, clock=clock) as progress:
        for _ in range(50):
            clock.now += 0.5
            progress.advance(2, loss="0.50")
    lines = stream.getvalue().splitlines()
    assert lines == [
        "train  40/100 steps  4 steps/s  15 s left  loss 0.50",
        "train  80/100 steps  4 steps/s  5 s left  loss 0.50",
        "train  100/100 steps  4 steps/s  loss 0.50",
    ]


def test_what_an_earlier_session_did_says_nothing_about_the_rate() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress("train", stream=stream, clock=clock) as progress:
        progress.expect(1000, done=900, unit="steps")
        clock.now += 5
        progress.advance(50)
    assert stream.getvalue() == "train  950/1000 steps  10 steps/s  5 s left\n"


def test_an_unknown_total_has_no_time_left() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress("scan", stream=stream, clock=clock) as progress:
        clock.now += 2
        progress.advance(5)
    assert stream.getvalue() == "scan  5 images  2.5 images/s\n"


@pytest.mark.parametrize(
    ("seconds", "words"), [(80, "80 s left"), (600, "10 min left"), (7200, "2.0 h left")]
)
def test_time_left_has_a_fitting_unit(seconds: int, words: str) -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress("scan", total=seconds + 1, stream=stream, clock=clock) as progress:
        clock.now += 1
        progress.advance()
    assert words in stream.getvalue()


def test_a_terminal_gets_a_bar_and_notes_stay_above_it() -> None:
    stream = Terminal()
    with Progress("train", total=3, unit="steps", stream=stream) as progress:
        progress.advance(loss="[0.5]")
        progress.note("embeddings are close to collapse")
        progress.advance(2)
    shown = stream.getvalue()
    assert "3/3 steps" in shown
    assert "[0.5]" in shown
    assert "embeddings are close to collapse" in shown


def test_notes_are_plain_lines_without_a_terminal() -> None:
    stream = io.StringIO()
    with Progress("train", stream=stream) as progress:
        progress.note("careful")
    assert stream.getvalue().splitlines()[0] == "careful"


def test_work_without_a_count_ends_without_a_line_of_nothing() -> None:
    stream = io.StringIO()
    with Progress("export", unit="users", stream=stream) as progress:
        progress.note("users: 3 of 3")
    assert stream.getvalue() == "users: 3 of 3\n"
