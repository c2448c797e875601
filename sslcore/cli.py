"""What the command lines of both domains share. Imports nothing heavy before a command runs."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from sslcore.config import Section

# How often a thread of torch looks for work before it sleeps, unless the user says otherwise; it is
# read when torch is loaded. On two cores the demo pretrains with 6.2 steps per second with this
# and 4.1 where threads sleep at once; the default of 300,000 is as fast alone, but takes 1.5 to 6
# times as long where another program has one of the cores.
_SPINS = "2000"

SectionT = TypeVar("SectionT", bound="Section")

ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings in YAML.")
]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any setting; may be repeated."),
]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")]
Seed = Annotated[int | None, typer.Option(help="Of everything drawn at random.")]
ReportFile = Annotated[
    Path | None, typer.Option("--out", help="The file; default: report.html in the folder.")
]


def build_app() -> typer.Typer:
    """Return an empty command line with plain help, in half the time of a coloured one."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
    return typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,  # its boxes would print local variables: pixels, people
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def resolve(
    section: "type[SectionT]",
    file: Path | None,
    assignments: Sequence[str] | None,
    options: Mapping[str, Any] | None = None,
    derived: Mapping[str, Sequence[str]] | None = None,
    preset: Mapping[str, Any] | None = None,
    instead_of: Mapping[str, Sequence[str]] | None = None,
) -> "SectionT":
    """Return the settings of a command; see `sslcore.config.resolve_config`.

    Call it before anything heavy is imported, so that a typing mistake shows soon.

    Raises:
        ConfigError: See there.
    """
    from sslcore.config import resolve_config

    return resolve_config(
        section,
        file=file,
        options=options,
        assignments=assignments or (),
        derived=derived,
        preset=preset,
        instead_of=instead_of,
    )


def show_version(program: str) -> Callable[[bool], None]:
    """Return the callback of `--version`."""

    def show(wanted: bool) -> None:
        if wanted:
            from sslcore.version import project_version

            typer.echo(f"{program} {project_version()}")
            raise typer.Exit

    return show


def run_typed(app: typer.Typer, program: str, arguments: list[str]) -> None:
    """Run one command as if it had been typed; leave with its status if it fails."""
    status = typer.main.get_command(app).main(arguments, program, standalone_mode=False)
    if status:
        raise typer.Exit(status)
