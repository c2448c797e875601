"""From the folder of a run to `report.html`."""

from datetime import UTC, datetime
from pathlib import Path

from recssl.report import headline, words
from recssl.report.group_sections import group_sections
from recssl.report.inputs import Inputs, read_inputs
from recssl.report.log_section import log_section
from recssl.report.map_sections import map_sections
from recssl.report.result_sections import result_sections
from recssl.report.training_section import training_section
from recssl.report.user_section import user_section
from recssl.settings.report import ReportConfig
from sslcore.console import Progress
from sslcore.files import write_text
from sslcore.report.page import (
    Chapters,
    render_page,
    require_replaceable_page,
    write_chapters,
)
from sslcore.report.parts import Page, Section, Terms
from sslcore.report.setup import setup_section
from sslcore.version import project_version

_LIBRARIES = ("torch", "lightning-fabric", "scikit-learn", "scipy", "numpy", "polars")
_NOTICE = (
    "This file shows {users}names and ids of items, and the settings of the run without paths. It"
    " needs no network and contains no scripts."
)
_USERS = (
    "some users by the ids of the log, with what they took: handle it as personal data, or write it"
    " with --set users=0. It also shows "
)


def write_report(
    run: Path,
    config: ReportConfig,
    out: Path | None = None,
    *,
    now: datetime | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write one self-contained HTML file about `run`, and return its path.

    What is not there yet, such as metrics.json, is said in the page.

    Args:
        run: Folder made by `recssl train`.
        config: How much is shown.
        out: The file to write; `report.html` in the folder by default.
        now: The time to print; by default the present.
        progress: Told about chapters that are done.

    Raises:
        CheckpointError: The folder does not exist, or holds no run.
        DatasetError: `config.data` is no data set, or not that of the run; or it is damaged.
        OutputError: The file cannot be written, or is something else than a page.
    """
    path = out or run / "report.html"
    require_replaceable_page(path)
    inputs = read_inputs(run, config.data)
    page = build_page(inputs, config, now or datetime.now(UTC), progress)
    write_text(path, render_page(page))
    return path


def build_page(
    inputs: Inputs, config: ReportConfig, now: datetime, progress: Progress | None = None
) -> Page:
    """Arrange what there is to show."""
    chapters: Chapters = (
        lambda: result_sections(inputs),
        lambda: group_sections(inputs.results),
        lambda: [log_section(inputs)],
        lambda: [training_section(inputs)],
        lambda: map_sections(inputs, config),
        lambda: user_section(inputs, config),
        lambda: [
            Section("reading", "How to read this", (Terms(words.HOW_TO_READ),)),
            setup_section(inputs.configs, _LIBRARIES),
        ],
    )
    sections = write_chapters(chapters, progress)
    shows_users = any(section.key == "examples" for section in sections)
    return Page(
        kind="recssl report",
        headline=headline.headline(inputs),
        summary=headline.summary(inputs),
        notice=_NOTICE.format(users=_USERS if shows_users else ""),
        tiles=headline.tiles(inputs.results),
        sections=sections,
        foot=f"Written by medrec-ssl {project_version()} on {now:%d %B %Y, %H:%M} UTC.",
    )
