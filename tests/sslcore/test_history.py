import json
import math
from pathlib import Path

import pytest

from sslcore.errors import OutputError
from sslcore.training.history import History, read_history


def filled(path: Path, steps: int = 5) -> History:
    history = History(path)
    for step in range(1, steps + 1):
        history.append({"step": step, "loss": 1 / step, "terms": {"a": 0.1 * step}})
    return history


def test_lines_come_back_as_they_were_with_every_bit(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    filled(path).sync()
    assert [record["loss"] for record in read_history(path)] == [1 / s for s in range(1, 6)]
    assert len(path.read_text().splitlines()) == 5


def test_a_number_that_is_not_finite_is_null_also_inside_the_terms(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    History(path).append({"step": 1, "grad_norm": math.inf, "terms": {"a": math.nan}})
    assert json.loads(path.read_text()) == {"step": 1, "grad_norm": None, "terms": {"a": None}}


@pytest.mark.parametrize("last", [0, 3, 5, 9])
def test_truncation_keeps_the_steps_up_to_the_given_one(tmp_path: Path, last: int) -> None:
    path = tmp_path / "log.jsonl"
    history = filled(path)
    before = path.read_text().splitlines()
    history.truncate_after(last)
    assert path.read_text().splitlines() == before[:last]
    history.append({"step": 10})
    assert read_history(path)[-1] == {"step": 10}


@pytest.mark.parametrize(
    "tail", ['{"step": 6, "lo', '{"step": 6, "lo\0\0\0\n{"step": 7}\n', "\0\0"]
)
def test_truncation_drops_what_a_crash_cut_off(tmp_path: Path, tail: str) -> None:
    path = tmp_path / "log.jsonl"
    history = filled(path)
    with path.open("a") as file:
        file.write(tail)
    history.truncate_after(9)
    assert [record["step"] for record in read_history(path)] == [1, 2, 3, 4, 5]


def test_reading_ignores_a_line_that_is_being_written(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    filled(path)
    with path.open("a") as file:
        file.write('{"step": 6')
    assert len(read_history(path)) == 5


def test_a_log_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    history = History(tmp_path / "log.jsonl")
    history.truncate_after(3)
    history.sync()
    assert read_history(history.path) == []


@pytest.mark.parametrize("line", ["nonsense", "[1]", '{"loss": 1}', '{"step": "a"}'])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n' + line + "\n")
    with pytest.raises(OutputError, match=r"log\.jsonl, line 2"):
        read_history(path)


def test_a_log_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        History(tmp_path / "missing" / "log.jsonl").append({"step": 1})
