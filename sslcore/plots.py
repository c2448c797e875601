"""The look of all figures: one palette, one style, and SVG that follows the page it stands in.

Figures are drawn in the light palette. In SVG every palette colour becomes a CSS variable, so
that one drawing serves the light and the dark page; a PNG keeps the light colours.
"""

import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from sslcore.files import whole_file


class Tone(NamedTuple):
    """One colour of the palette: its CSS variable, and its value on a light and a dark page."""

    name: str
    light: str
    dark: str


SURFACE = Tone("surface", "#ffffff", "#161b22")
INK = Tone("ink", "#1b2430", "#e3e8ee")
MUTED = Tone("muted", "#5a6675", "#9aa7b6")
GRID = Tone("grid", "#e1e6ec", "#2c3540")

SERIES = (
    Tone("series-1", "#0072b2", "#56b4e9"),
    Tone("series-2", "#d55e00", "#f5914f"),
    Tone("series-3", "#009e73", "#35c99a"),
    Tone("series-4", "#a5518a", "#e09ac6"),
    Tone("series-5", "#c98a00", "#f0c24a"),
    Tone("series-6", "#3f4fa8", "#98a5f0"),
    Tone("series-7", "#7a4f2a", "#c79b74"),
    Tone("series-8", "#7b8794", "#8b98a8"),
)
"""Told apart with the common kinds of colour blindness (after Okabe and Ito); always used with a
second mark: a marker, a dash pattern or a direct label."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
DASHES = ("-", (0, (5, 2)), (0, (1.2, 1.6)), (0, (6, 2, 1.2, 2)))

_TONES = (SURFACE, INK, MUTED, GRID, *SERIES)
_LETTER, _HANDLE = 6.3, 44  # px of a legend's letter and of the mark and space beside a name
_LONGEST_NAME = 36
_POINTS_PER_INCH = 72  # of the SVG backend: one point of the drawing is one px of the page

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # names may hold "$"
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.labelsize": 11,
    "axes.labelcolor": MUTED.light,
    "axes.edgecolor": MUTED.light,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID.light,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED.light,
    "ytick.color": MUTED.light,
    "xtick.labelsize": 10.5,
    "ytick.labelsize": 10.5,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "text.color": INK.light,
    "legend.frameon": False,
    "legend.fontsize": 10.5,
    "legend.handlelength": 2.4,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.5,
    "figure.facecolor": SURFACE.light,
    "axes.facecolor": "none",
}


def series(index: int) -> Tone:
    """Return the colour of series `index`; after the eighth they start again."""
    return SERIES[index % len(SERIES)]


def marker(index: int) -> str:
    """Return the marker of series `index`; with `series` it repeats after 64."""
    return MARKERS[(index + index // len(SERIES)) % len(MARKERS)]


def css_variables() -> str:
    """Return the palette as CSS: light, and dark on a screen that asks for it."""
    light = " ".join(f"--{tone.name}: {tone.light};" for tone in _TONES)
    dark = " ".join(f"--{tone.name}: {tone.dark};" for tone in _TONES)
    return (
        f":root {{ {light} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
    )


def draw(paint: Callable[[Axes], None], *, width: float = 400, height: float = 300) -> Figure:
    """Let `paint` fill the axes of a new figure of `width` x `height` px, in the common style."""
    return draw_panels((paint,), width=width, height=height)


def draw_panels(
    paints: tuple[Callable[[Axes], None], ...], *, width: float, height: float
) -> Figure:
    """Let each of `paints` fill one of the axes that stand side by side in a new figure."""
    with mpl.rc_context(_STYLE):
        size = (width / _POINTS_PER_INCH, height / _POINTS_PER_INCH)
        figure = Figure(figsize=size, dpi=_POINTS_PER_INCH, layout="constrained")
        axes = figure.subplots(1, len(paints), squeeze=False)
        for paint, axis in zip(paints, axes[0], strict=True):
            paint(axis)
    return figure


def legend_name(name: str) -> str:
    """Return `name` as a legend can show it: not too long, and not hidden for its first letter."""
    shown = (
        name
        if len(name) <= _LONGEST_NAME
        else f"{name[: _LONGEST_NAME - 1]}\N{HORIZONTAL ELLIPSIS}"
    )
    return f"\N{ZERO WIDTH SPACE}{shown}" if shown.startswith("_") else shown


def legend_columns(names: Sequence[str], width: float) -> int:
    """Return how many columns of a legend with `names` fit into `width` px."""
    widest = max(len(name) for name in names) * _LETTER + _HANDLE
    return int(min(max(width // widest, 1), len(names)))


def legend_below(axes: Axes) -> None:
    """Put the legend of `axes` under the figure."""
    handles, names = axes.get_legend_handles_labels()
    figure = axes.get_figure(root=True)
    if figure and handles:
        columns = legend_columns(names, figure.get_figwidth() * _POINTS_PER_INCH)
        legend = figure.legend(handles, names, loc="outside lower left", ncols=columns)
        for handle in legend.legend_handles:
            if isinstance(handle, PathCollection):  # points of a crowded scatter are small
                handle.set_sizes([36.0])
                handle.set_alpha(1.0)


def to_svg(figure: Figure, *, name: str, alt: str) -> str:
    """Return `figure` as an `<svg>` element for a page.

    Args:
        figure: Made by `draw`.
        name: Unique on the page; goes before every id of the drawing.
        alt: What a reader who can't see the drawing should know.
    """
    buffer = io.StringIO()
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}), _any_script():
        figure.savefig(buffer, format="svg", metadata={"Date": None}, facecolor="none")
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\b(id="|xlink:href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r"<g id=\"[^\"]*\">", "<g>", text)
    text = re.sub(r'(?<= )(d|x|y)="[^"]*"', _with_short_numbers, text)
    for tone in _TONES:
        text = text.replace(to_hex(tone.light), f"var(--{tone.name})")
    width = figure.get_figwidth() * _POINTS_PER_INCH
    height = figure.get_figheight() * _POINTS_PER_INCH
    head = (
        f'<svg class="drawing" role="img" aria-label="{escape(alt)}" '
        f'style="max-width: {width * 1.2:.0f}px" viewBox="0 0 {width:g} {height:g}" '
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    return head + text[text.index(">") + 1 :].strip()


def save_png(figure: Figure, path: Path, *, scale: float = 2.0) -> None:
    """Write `figure` as PNG, `scale` dots to the px, on the light surface."""
    with mpl.rc_context(_STYLE), _any_script(), whole_file(path) as draft:
        dpi = _POINTS_PER_INCH * scale
        figure.savefig(draft, format="png", dpi=dpi, metadata={"Software": None})


@contextmanager
def _any_script() -> Iterator[None]:
    """Allow letters that matplotlib's own font lacks: the reader's browser has them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield


def _with_short_numbers(attribute: re.Match[str]) -> str:
    return re.sub(r"(\.\d\d)\d+", r"\1", attribute.group())
