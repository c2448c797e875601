"""From the folder of a run or of its results to `report.html`."""

from datetime import UTC, datetime
from pathlib import Path

from medssl.config import ReportConfig
from medssl.report import headline
from medssl.report.data_sections import data_section, reading_section
from medssl.report.inputs import Inputs, read_inputs
from medssl.report.map_sections import map_sections
from medssl.report.result_sections import result_sections
from medssl.report.run_sections import training_section
from medssl.report.slide_section import slide_sections
from medssl.report.view_section import view_section
from sslcore.console import Progress
from sslcore.files import write_text
from sslcore.report.page import (
    Chapters,
    render_page,
    require_replaceable_page,
    write_chapters,
)
from sslcore.report.parts import Page
from sslcore.report.setup import setup_section
from sslcore.version import project_version

_LIBRARIES = ("torch", "monai", "lightning-fabric", "scikit-learn", "pydicom", "numpy", "polars")
_NOTICE = (
    "This file holds thumbnails of images, with whatever is written into their pixels: handle it"
    " as patient data. It names images and patients by keys only, and holds no path and no other"
    " value of a file's header. It needs no network and contains no scripts."
)


def write_report(
    folder: Path,
    config: ReportConfig,
    out: Path | None = None,
    *,
    now: datetime | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write one self-contained HTML file about `folder`, and return its path.

    Args:
        folder: Made by `medssl finetune`, or by `medssl pretrain`; then without label results.
        config: How much is shown.
        out: The file to write; `report.html` in the folder by default.
        now: The time to print; by default the present.
        progress: Told about chapters that are done.

    Raises:
        DataError: The folder does not exist, or is neither of the two.
        OutputError: The file cannot be written, or is something else than a page.
    """
    path = out or folder / "report.html"
    require_replaceable_page(path)
    inputs = read_inputs(folder)
    page = build_page(inputs, config, now or datetime.now(UTC), progress)
    write_text(path, render_page(page))
    return path


def build_page(
    inputs: Inputs, config: ReportConfig, now: datetime, progress: Progress | None = None
) -> Page:
    """Arrange what there is to show."""
    chapters: Chapters = (
        lambda: result_sections(inputs),
        lambda: [data_section(inputs)],
        lambda: slide_sections(inputs, config),
        lambda: [view_section(inputs, config)],
        lambda: [training_section(inputs)],
        lambda: map_sections(inputs, config),
        lambda: [reading_section(), setup_section(inputs.configs, _LIBRARIES)],
    )
    return Page(
        kind="medssl report · few labels" if inputs.results else "medssl report · pretraining",
        headline=headline.headline(inputs),
        summary=headline.summary(inputs),
        notice=_NOTICE,
        tiles=headline.tiles(inputs.results),
        sections=write_chapters(chapters, progress),
        foot=f"Written by medrec-ssl {project_version()} on {now:%d %B %Y, %H:%M} UTC.",
    )
