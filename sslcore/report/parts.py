"""What a report page consists of, as data; `template.html` gives each part its form.

Nothing in here, in `page.py`, in the template or in the style sheet knows what a report is about.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

NoteTone = Literal["missing", "neutral", "good", "warning"]
VerdictTone = Literal["good", "neutral", "bad"]


@dataclass(frozen=True, slots=True)
class Prose:
    """One paragraph."""

    kind: ClassVar[str] = "prose"
    text: str


@dataclass(frozen=True, slots=True)
class Note:
    """One sentence set apart: something is missing, worth knowing, in order, or wrong."""

    kind: ClassVar[str] = "note"
    text: str
    tone: NoteTone = "missing"


@dataclass(frozen=True, slots=True)
class Drawing:
    """One figure, as an `<svg>` element from `sslcore.plots.to_svg`, and its caption."""

    svg: str
    caption: str


@dataclass(frozen=True, slots=True)
class Drawings:
    """Figures side by side, as many as the width takes.

    Attributes:
        size: Least width of one figure.
    """

    kind: ClassVar[str] = "drawings"
    items: tuple[Drawing, ...]
    size: Literal["small", "medium", "large"] = "medium"


@dataclass(frozen=True, slots=True)
class Cell:
    """One value of a table.

    Attributes:
        text: The value.
        note: Something quiet below it, such as its interval.
        strong: The value the reader should find first.
        share: 0 to 1: how strongly the cell is shaded; None leaves it plain.
    """

    text: str
    note: str = ""
    strong: bool = False
    share: float | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose first column names its rows.

    Attributes:
        caption: What it shows.
        head: Names of the columns; the first one may be empty.
        groups: Rows under a common name; an empty name shows none.
        numeric: Whether all columns but the first hold numbers.
    """

    kind: ClassVar[str] = "table"
    caption: str
    head: tuple[str, ...]
    groups: tuple[tuple[str, tuple[tuple[Cell, ...], ...]], ...]
    numeric: bool = True


@dataclass(frozen=True, slots=True)
class Tables:
    """Small tables side by side.

    Attributes:
        size: Least width of one table.
    """

    kind: ClassVar[str] = "tables"
    items: tuple[Table, ...]
    size: Literal["small", "medium", "large"] = "small"


@dataclass(frozen=True, slots=True)
class Picture:
    """One thumbnail.

    Attributes:
        uri: The image itself, as a `data:` address.
        alt: What it shows, for those who can't see it.
        side: Width and height, px.
        lines: Below it.
        color: CSS colour of its frame, or empty.
    """

    uri: str
    alt: str
    side: int
    lines: tuple[str, ...] = ()
    color: str = ""


@dataclass(frozen=True, slots=True)
class Strip:
    """One row of a sheet: the picture it is about, then the others."""

    lead: Picture
    others: tuple[Picture, ...]


@dataclass(frozen=True, slots=True)
class Sheet:
    """Rows of thumbnails.

    Attributes:
        caption: What it shows.
        lead_head: Above the first picture of each row.
        others_head: Above the others.
    """

    kind: ClassVar[str] = "sheet"
    caption: str
    lead_head: str
    others_head: str
    strips: tuple[Strip, ...]


@dataclass(frozen=True, slots=True)
class Points:
    """A list of sentences."""

    kind: ClassVar[str] = "points"
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Terms:
    """Words and what they mean."""

    kind: ClassVar[str] = "terms"
    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Code:
    """Text to be shown letter by letter, folded up."""

    kind: ClassVar[str] = "code"
    title: str
    text: str


Part = Prose | Note | Drawings | Table | Tables | Sheet | Points | Terms | Code


@dataclass(frozen=True, slots=True)
class Section:
    """A chapter of the page.

    Attributes:
        key: Its anchor, unique on the page.
        title: Its heading, short enough for the list of contents.
        parts: What it shows, in order.
        lead: One or two sentences on what it says.
    """

    key: str
    title: str
    parts: tuple[Part, ...]
    lead: str = ""


@dataclass(frozen=True, slots=True)
class Tile:
    """One result in large figures.

    Attributes:
        title: What was measured, and on what.
        value: The result.
        interval: Its uncertainty.
        versus: What it is compared with.
        verdict: What the comparison says.
        tone: Of the verdict.
    """

    title: str
    value: str
    interval: str = ""
    versus: str = ""
    verdict: str = ""
    tone: VerdictTone = "neutral"


@dataclass(frozen=True, slots=True)
class Page:
    """A whole report.

    Attributes:
        kind: What sort of report, above the headline.
        headline: The result, in one line.
        summary: What was done, in one or two sentences.
        notice: What a reader must know before passing the file on.
        tiles: Results in large figures.
        sections: The chapters.
        foot: Last line: which version wrote it, and when.
    """

    kind: str
    headline: str
    summary: str
    notice: str
    tiles: tuple[Tile, ...]
    sections: tuple[Section, ...]
    foot: str
