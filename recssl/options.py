"""Options that several commands of `recssl.cli` share."""

from pathlib import Path
from typing import Annotated

import typer

Run = Annotated[Path, typer.Argument(help="Folder that train made.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings in YAML.")
]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any setting; may be repeated."),
]
Column = Annotated[str | None, typer.Option(metavar="COLUMN", help="Default: found by name.")]
Parts = Annotated[
    list[Path] | None, typer.Option(metavar="LOG", help="A log that is this part; repeatable.")
]
Features = Annotated[Path | None, typer.Option(metavar="TABLE", help="With an id column.")]
Users = Annotated[list[str] | None, typer.Option("--user", metavar="ID", help="Repeatable.")]
Items = Annotated[list[str], typer.Option("--item", metavar="ID", help="Repeatable.")]
Page = Annotated[Path | None, typer.Option("--out", help="Default: report.html in the folder.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")]
Seed = Annotated[int | None, typer.Option(help="Of everything drawn at random.")]
Table = Annotated[
    Path | None, typer.Option("--out", help="Parquet or CSV file instead of the screen.")
]
Length = Annotated[int, typer.Option("-k", "--top", min=1, help="Length of a list.")]
