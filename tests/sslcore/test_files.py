import fcntl
import os
import shutil
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from sslcore.errors import OutputError
from sslcore.files import (
    in_use,
    new_parents,
    remove_drafts,
    remove_folder,
    require_new_folder,
    taking_turns,
    whole_file,
    whole_folder,
    write_text,
)


def fail_half_way(path: Path, error: type[BaseException]) -> None:
    path.write_text("half")
    raise error("half way")


def test_a_file_appears_with_its_whole_content_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    with whole_file(path) as draft:
        draft.write_text("one")
        assert not path.exists()
    assert path.read_text() == "one"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_keeps_the_old_file_and_leaves_no_draft(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(error), whole_file(path) as draft:
        fail_half_way(draft, error)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with (
        pytest.raises(OutputError, match=r"cannot write .*a\.txt: No space left on device"),
        whole_file(path),
        Path("/dev/full").open("w") as file,
    ):
        file.write("x")
    assert not path.exists()


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "box"
    with whole_folder(path) as draft:
        (draft / "inner").mkdir()
        (draft / "inner" / "a").write_text("1")
        assert not path.exists()
    assert (path / "inner" / "a").read_text() == "1"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="half way"), whole_folder(tmp_path / "box") as draft:
        fail_half_way(draft / "a", ValueError)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_never_replaces_another(tmp_path: Path) -> None:
    (tmp_path / "box").mkdir()
    (tmp_path / "box" / "old").write_text("1")
    with pytest.raises(OutputError, match="cannot write"), whole_folder(tmp_path / "box") as draft:
        (draft / "new").write_text("2")
    assert [path.name for path in (tmp_path / "box").iterdir()] == ["old"]


def test_two_that_write_one_folder_at_once_do_not_share_a_draft(tmp_path: Path) -> None:
    """Process numbers do not tell them apart: two containers may have the same."""
    path = tmp_path / "box"
    stack = ExitStack()
    late = stack.enter_context(whole_folder(path))
    (late / "a").write_text("late")
    with whole_folder(path) as early:
        (early / "a").write_text("early")
    assert (late / "a").read_text() == "late"
    with pytest.raises(OutputError, match="cannot write"):
        stack.close()
    assert (path / "a").read_text() == "early"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_disappears_before_its_files_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "box"
    path.mkdir()
    (path / "a").write_text("1")
    deleted: list[Path] = []

    def look(folder: Path) -> None:
        assert not path.exists()
        assert (folder / "a").read_text() == "1"
        deleted.append(folder)

    monkeypatch.setattr(shutil, "rmtree", look)
    remove_folder(path)
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == deleted
    remove_drafts(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OutputError, match=r"cannot write .*box: No such file"):
        remove_folder(path)


def test_turns_are_taken_one_after_another(tmp_path: Path) -> None:
    file, inside, seen = tmp_path / ".lock", threading.Event(), []

    def late() -> None:
        inside.set()
        with taking_turns(file) as is_alone:
            seen.append((is_alone, "late"))

    thread = threading.Thread(target=late)
    with taking_turns(file) as is_alone:
        thread.start()
        assert inside.wait(60)
        handle = os.open(file, os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(handle)
        seen.append((is_alone, "early"))
    thread.join(60)
    assert seen == [(True, "early"), (True, "late")]
    with taking_turns(tmp_path / "missing" / ".lock") as is_alone:
        assert not is_alone


def test_drafts_are_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".a.txt.7.draft").write_text("half")
    (tmp_path / ".box.7.draft").mkdir()
    (tmp_path / ".box.7.draft" / "x").write_text("half")
    (tmp_path / "kept.draft").write_text("whole")
    (tmp_path / ".hidden").write_text("whole")
    remove_drafts(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"kept.draft", ".hidden"}
    remove_drafts(tmp_path / "missing")


def test_a_new_folder_may_be_missing_or_empty_but_not_taken(tmp_path: Path) -> None:
    require_new_folder(tmp_path / "missing", way_out="rename it")
    require_new_folder(tmp_path, way_out="rename it")
    (tmp_path / "a").write_text("1")
    with pytest.raises(OutputError, match="already exists; rename it"):
        require_new_folder(tmp_path, way_out="rename it")
    with pytest.raises(OutputError, match="already exists"):
        require_new_folder(tmp_path / "a", way_out="rename it")


def test_a_folder_is_used_by_one_process_at_a_time_and_free_after_a_kill(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from sslcore.files import in_use\n"
        "with in_use(Path(sys.argv[1])):\n    print('in', flush=True); time.sleep(60)"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(OutputError, match="in use by another process"), in_use(tmp_path):
            pass
        process.kill()
    with in_use(tmp_path):
        pass
    with in_use(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_new_parents_stay_unless_something_fails(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    with pytest.raises(KeyboardInterrupt), new_parents(tmp_path / "old" / "a" / "b" / "out"):
        raise KeyboardInterrupt
    assert list(tmp_path.rglob("*")) == [tmp_path / "old"]
    with pytest.raises(KeyError), new_parents(tmp_path / "a" / "b" / "out"):
        fail_half_way(tmp_path / "a" / "mine", KeyError)
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"mine"}
    with new_parents(tmp_path / "c" / "out"):
        pass
    assert (tmp_path / "c").is_dir()
