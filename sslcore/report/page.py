"""A `Page` as one HTML file that needs nothing else."""

from collections.abc import Callable, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sslcore.console import Progress
from sslcore.errors import OutputError
from sslcore.plots import css_variables
from sslcore.report.parts import Page, Section

Chapters = Sequence[Callable[[], Sequence[Section]]]
"""Each makes some sections when it is called, which may take seconds."""

_HERE = Path(__file__).parent
_START = b"<!doctype html>"  # of the template, after blank lines


def write_chapters(chapters: Chapters, progress: Progress | None) -> tuple[Section, ...]:
    """Return the sections of all chapters, and report each chapter that is done."""
    if progress:
        progress.expect(len(chapters), unit="chapters")
    sections: list[Section] = []
    for chapter in chapters:
        sections.extend(chapter())
        if progress:
            progress.advance()
    return tuple(sections)


def require_replaceable_page(path: Path) -> None:
    """Raise if `path` is something else than a page of an earlier report.

    Raises:
        OutputError: It would be overwritten.
    """
    if not path.exists():
        return
    if path.is_file():
        with path.open("rb") as file:
            if file.read(64).lstrip().lower().startswith(_START):
                return
    raise OutputError(f"{path} exists and is no report; give another name with --out")


def render_page(page: Page) -> str:
    """Return the HTML of `page`; style, figures and images are inside it, scripts are not."""
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = css_variables() + (_HERE / "style.css").read_text(encoding="utf-8")
    return environment.get_template("template.html").render(
        page=page, style=Markup(style), markup=Markup
    )
