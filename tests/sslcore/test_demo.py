from pathlib import Path

import pytest

from sslcore.demo import fresh_folder, run_line
from sslcore.errors import OutputError


def test_a_marked_folder_is_emptied_and_another_one_is_left_alone(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    fresh_folder(ours, "one")
    (ours / "old").write_text("x")
    fresh_folder(ours, "one")
    assert [path.name for path in ours.iterdir()] == [".one-demo"]
    with pytest.raises(OutputError, match="choose another folder"):
        fresh_folder(ours, "other")
    theirs.mkdir()
    (theirs / "thesis").write_text("x")
    with pytest.raises(OutputError, match="holds other files"):
        fresh_folder(theirs, "one")


def test_commands_are_shown_as_typed_and_run_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    done: list[list[str]] = []
    run_line("one", [["a", "b c"], ["d"]], done.append)
    assert done == [["a", "b c"], ["d"]]
    assert "$ one a 'b c'\n\n$ one d\n" in capsys.readouterr().err
