"""What the demos of both domains share: their folder, and commands as a user types them."""

import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from sslcore.errors import OutputError
from sslcore.files import write_text


def fresh_folder(out: Path, program: str) -> None:
    """Make `out` an empty folder that carries the mark of the program's demo.

    Raises:
        OutputError: `out` holds something that no demo of `program` made.
    """
    mark = out / f".{program}-demo"
    if out.exists() and any(out.iterdir()) and not mark.is_file():
        raise OutputError(f"{out} holds other files; choose another folder: --out NAME")
    if out.exists():
        shutil.rmtree(out)
    write_text(mark, f"made by {program} demo, which may replace this folder\n")


def run_line(
    program: str, commands: Sequence[list[str]], run_command: Callable[[list[str]], None]
) -> None:
    """Show and run one command after the other.

    Args:
        program: That the commands belong to.
        commands: Words of each.
        run_command: Runs one command, given its words; raises if it fails.
    """
    for words in commands:
        say(f"\n$ {program} {shlex.join(words)}")
        run_command(words)


def say(text: str) -> None:
    """Tell the user on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
