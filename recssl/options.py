"""Options that several commands of `recssl.cli` share."""

from pathlib import Path
from typing import Annotated

import typer

Run = Annotated[Path, typer.Argument(help="Folder that train made.")]
Column = Annotated[str | None, typer.Option(metavar="COLUMN", help="Default: found by name.")]
Parts = Annotated[
    list[Path] | None, typer.Option(metavar="LOG", help="A log that is this part; repeatable.")
]
Features = Annotated[Path | None, typer.Option(metavar="TABLE", help="With an id column.")]
Users = Annotated[list[str] | None, typer.Option("--user", metavar="ID", help="Repeatable.")]
Items = Annotated[list[str], typer.Option("--item", metavar="ID", help="Repeatable.")]
Table = Annotated[
    Path | None, typer.Option("--out", help="Parquet or CSV file instead of the screen.")
]
NewItems = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Items after the log too; of new-items.")
]
Length = Annotated[int, typer.Option("-k", "--top", min=1, help="Length of a list.")]
