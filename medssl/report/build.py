"""From the folder of a run or of its results to `report.html`."""

from datetime import UTC, datetime
from pathlib import Path

from medssl.report import headline
from medssl.report.data_sections import data_section, reading_section, setup_section
from medssl.report.inputs import Inputs, read_inputs
from medssl.report.map_sections import map_sections
from medssl.report.page import render_page
from medssl.report.parts import Page
from medssl.report.result_sections import result_sections
from medssl.report.run_sections import training_section
from medssl.report.view_section import view_section
from sslcore.files import write_text
from sslcore.version import project_version

_NOTICE = (
    "This file holds thumbnails of images, with whatever is written into their pixels: handle it"
    " as patient data. It names images and patients by keys only, and holds no path and no other"
    " value of a file's header. It needs no network and contains no scripts."
)


def write_report(folder: Path, out: Path | None = None, *, now: datetime | None = None) -> Path:
    """Write one self-contained HTML file about `folder`, and return its path.

    Args:
        folder: Made by `medssl finetune`, or by `medssl pretrain`; then without label results.
        out: The file to write; `report.html` in the folder by default.
        now: The time to print; by default the present.

    Raises:
        DataError: The folder does not exist, or is neither of the two.
        OutputError: The file cannot be written.
    """
    inputs = read_inputs(folder)
    page = build_page(inputs, now or datetime.now(UTC))
    path = out or folder / "report.html"
    write_text(path, render_page(page))
    return path


def build_page(inputs: Inputs, now: datetime) -> Page:
    """Arrange what there is to show."""
    sections = (
        *result_sections(inputs),
        data_section(inputs),
        view_section(inputs),
        training_section(inputs),
        *map_sections(inputs),
        reading_section(),
        setup_section(inputs),
    )
    return Page(
        kind="medssl report · few labels" if inputs.results else "medssl report · pretraining",
        headline=headline.headline(inputs),
        summary=headline.summary(inputs),
        notice=_NOTICE,
        tiles=headline.tiles(inputs.results),
        sections=sections,
        foot=f"Written by medrec-ssl {project_version()} on {now:%d %B %Y, %H:%M} UTC.",
    )
