"""Which text files have columns, and which have lines `user item item ...`: their lines tell."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from recssl.errors import LogError
from recssl.ingest.blocks import read_blocks
from recssl.settings.ingest import IngestConfig

# pairs: `user item`, the same either way; numbers: three to five in each line, either of both
TextForm = Literal["columns", "lists", "pairs", "numbers"]

_BYTES, _LINES = 1_000_000, 1_000  # looked at
_WIDEST = 5  # columns of a file without a header: user, item, rating, time and one more
_ODD = 10  # one line in so many may be damaged


def text_formats(
    paths: Sequence[Path], config: IngestConfig, note: Callable[[str], None]
) -> dict[Path, Literal["csv", "adjacency"]]:
    """Choose how each text file of a log is read.

    Lists in one file make lists of those that could be either, columns do not.

    Args:
        paths: All text files, those of valid and test too.
        config: Pairs are columns if it names some.
        note: Told of files whose own lines do not tell.

    Raises:
        LogError: Some have lists and others columns, or one cannot be read.
    """
    forms = {path: text_form(path) for path in paths}
    lists, columns, numbers = (
        [path for path in paths if forms[path] == form] for form in ("lists", "columns", "numbers")
    )
    if lists and columns:
        raise LogError(
            f"{lists[0]} has lines of user item item ..., but {columns[0]} has columns; read them"
            " apart, or let the name of what has columns end in .csv, with a header. If neither"
            " has columns: --set format=adjacency"
        )
    if lists and numbers:
        shown = ", ".join(map(str, numbers[:4])) + (", ..." if len(numbers) > 4 else "")
        note(
            f"{shown}: read as user item item ..., like {lists[0]}; should there be columns, let"
            " the name end in .csv, with a header"
        )
    named = any((config.user, config.item, config.time, config.weight))
    taken = {"lists"} | ({"numbers"} if lists else set()) | (set() if named else {"pairs"})
    return {path: "adjacency" if form in taken else "csv" for path, form in forms.items()}


def text_form(path: Path) -> TextForm:
    """Tell the form of a text file by its first lines.

    Raises:
        LogError: It cannot be read.
    """
    data = next(read_blocks(path), b"")[:_BYTES]
    whole = data.rpartition(b"\n")[0] or data
    lines = [line for line in whole.decode(errors="replace").splitlines() if line.strip()][:_LINES]
    if re.search(r"[\t,;|]", "".join(lines)):
        return "columns"
    rows = [line.split() for line in lines]
    if rows and not all(token.lstrip("-").isdigit() for token in rows[0]):
        return "columns"  # a header, or ids that are texts
    return _form_of_numbers(rows)


def _form_of_numbers(rows: list[list[str]]) -> TextForm:
    widths = Counter(map(len, rows))
    if max(widths, default=0) <= 2:
        return "pairs"
    width, count = widths.most_common(1)[0]
    is_even = len(rows) - count <= max(1, len(rows) // _ODD)
    if is_even and width > 2 and len({row[0] for row in rows}) < len(rows):
        return "columns"  # in lists a user has one line
    if max(widths) > _WIDEST or not is_even:
        return "lists"
    return "pairs" if width <= 2 else "numbers"
