"""Options that several commands of the medical domain share, or that belong together."""

from pathlib import Path
from typing import Annotated

import typer

Labels = Annotated[
    Path | None,
    typer.Option(metavar="CSV", help="Table with a label per patient, file or sample."),
]
ClassFolders = Annotated[
    bool | None,
    typer.Option("--class-folders", help="Read the name of an image's folder as its label."),
]

PatientPattern = Annotated[
    str | None,
    typer.Option(metavar="REGEX", help=r"Finds the patient in the path, such as 'C\d+P(\d+)'."),
]

LabelTag = Annotated[
    str | None,
    typer.Option(
        metavar="KEYWORD", help="DICOM attribute that is the label: BodyPartExamined, ..."
    ),
]

Masks = Annotated[
    str | None,
    typer.Option(metavar="PATH", help="Of an image's mask: '{folder}/{stem}_mask.png', ..."),
]

SitePattern = Annotated[
    str | None, typer.Option(metavar="REGEX", help=r"Finds the site in the path, such as '(\w+)/'.")
]
