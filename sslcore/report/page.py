"""A `Page` as one HTML file that needs nothing else."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sslcore.plots import css_variables
from sslcore.report.parts import Page

_HERE = Path(__file__).parent


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
