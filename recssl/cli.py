"""Command line of the recommender domain. Parses, calls, prints; decides nothing.

Results go to stdout, messages and progress to stderr. Everything that imports torch or polars is
imported inside a command, so that `--help` does not wait for it.
"""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from recssl import cli_lists
from recssl.options import Column, Features, Parts, Run
from sslcore.cli import (
    Assignments,
    ConfigFile,
    Device,
    ReportFile,
    Seed,
    build_app,
    resolve,
    run_typed,
    show_version,
)
from sslcore.console import user_errors
from sslcore.interrupts import load_torch

app = build_app()

Version = Annotated[
    bool,
    typer.Option(
        "--version", is_eager=True, callback=show_version("recssl"), help="Show it and exit."
    ),
]


@app.callback()
def main(
    version: Version = False,
) -> None:
    """Recommenders: from an interaction log to embeddings, an index and recommendations."""


@app.command(
    epilog="Also by --set (k-core, repeats, time range, form of the file): min_per_user,"
    " min_per_item, duplicates, since, until, time_format, format, separator, header"
)
@user_errors()
def ingest(
    logs: Annotated[list[Path], typer.Argument(help="Files, folders or patterns.")],
    out: Annotated[Path, typer.Option(help="Folder of the data set.")] = Path("dataset"),
    config: ConfigFile = None,
    assignments: Assignments = None,
    user: Column = None,
    item: Column = None,
    time: Column = None,
    weight: Column = None,
    split: Annotated[str | None, typer.Option(help="auto, time, leave_last_out, ...")] = None,
    valid: Parts = None,
    test: Parts = None,
    min_weight: Annotated[
        float | None, typer.Option(help="Ratings from here on count, others do not.")
    ] = None,
    max_bad: Annotated[float | None, typer.Option(help="Share of bad lines to tolerate.")] = None,
    user_features: Features = None,
    item_features: Features = None,
    seed: Seed = None,
) -> None:
    """Read logs into a data set with train, valid and test parts."""
    from recssl.settings.ingest import IngestConfig
    from sslcore.console import Progress

    settings = resolve(
        IngestConfig,
        config,
        assignments,
        {
            "user": user,
            "item": item,
            "time": time,
            "weight": weight,
            "split.name": split,
            "split.seed": seed,
            "valid": valid or None,
            "test": test or None,
            "min_weight": min_weight,
            "max_bad": max_bad,
            "user_features": user_features,
            "item_features": item_features,
        },
    )
    from recssl import ingest as job

    with Progress("ingest", unit="lines") as progress:
        summary = job.ingest(logs, settings, out, progress)
    typer.echo(f"{summary.table()}\n{out}")


@app.command()
@user_errors()
def train(
    data: Annotated[Path | None, typer.Argument(help="Folder that ingest made.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/recommender"),
    config: ConfigFile = None,
    assignments: Assignments = None,
    encoder: Annotated[str | None, typer.Option(help="mf, lightgcn or towers.")] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="bpr, infonce, bsl, triplet, directau, sgl, simgcl, xsimgcl, lightgcl, ncl,"
            " buir, selfcf, barlow_twins, vicreg, moco, byol, simclr or simsiam."
        ),
    ] = None,
    contrast: Annotated[
        str | None, typer.Option(help="Self-supervised part: simgcl, sgl, simclr, byol, ...")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the interactions.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Pairs per step.")] = None,
    device: Device = None,
    seed: Seed = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
) -> None:
    """Learn embeddings of users and items."""
    load_torch()
    from recssl.settings.methods import method_preset
    from recssl.settings.train import TrainConfig
    from sslcore.training.settings import INSTEAD_OF

    stored = out / "config.yaml"
    if resume and not (stored.exists() or data or config or assignments):
        raise typer.BadParameter(
            f"{out} holds no run to continue; name the run's folder with --out, or start one"
            " without --resume"
        )
    file = config or (stored if resume and stored.exists() else None)
    if not (data or file or assignments):
        raise typer.BadParameter("give the folder of a data set, as recssl ingest makes it")
    settings = resolve(
        TrainConfig,
        file,
        assignments,
        {
            "data.path": data,
            "encoder.name": encoder,
            "contrast.name": contrast,
            "run.epochs": epochs,
            "run.batch_size": batch_size,
            "run.device": device,
            "run.seed": seed,
        },
        preset=method_preset(method),
        instead_of=INSTEAD_OF,
    )
    from recssl import train as job

    result = job.train(settings, out, resume=resume)
    recall = "" if result.recall is None else f", validation recall {result.recall:.4f}"
    typer.echo(f"{result.steps} steps, best after {result.best_step}{recall}\n{result.embeddings}")


@app.command()
@user_errors()
def evaluate(
    run: Run,
    config: ConfigFile = None,
    assignments: Assignments = None,
    seed: Seed = None,
) -> None:
    """Measure a run beside tuned baselines, on all items."""
    from recssl.settings.evaluate import EvaluateConfig
    from sslcore.console import Progress

    settings = resolve(EvaluateConfig, config, assignments, {"seed": seed})
    load_torch()
    from recssl.evaluate import evaluate as job
    from recssl.evaluate import metrics_path
    from recssl.metrics_table import metrics_table

    with Progress("evaluate", unit="users") as progress:
        metrics = job(run, settings, progress)
    typer.echo(f"{metrics_table(metrics)}\n{metrics_path(run, settings)}")


@app.command()
@user_errors()
def export(
    run: Run,
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("export"),
    config: ConfigFile = None,
    assignments: Assignments = None,
    seed: Seed = None,
) -> None:
    """Write embeddings with their ids, and an index whose recall is measured."""
    from recssl.settings.export import ExportConfig
    from sslcore.console import Progress

    settings = resolve(ExportConfig, config, assignments, {"seed": seed})
    load_torch()
    from recssl.export import export as job

    with Progress("export", unit="users") as progress:
        job(run, settings, out, progress)
    typer.echo(out)


for each in (cli_lists.recommend, cli_lists.similar, cli_lists.new_items):
    app.command()(each)


@app.command()
@user_errors()
def report(
    run: Run,
    out: ReportFile = None,
    config: ConfigFile = None,
    assignments: Assignments = None,
    seed: Seed = None,
) -> None:
    """Write one HTML file about a run and what was measured of it."""
    from recssl.settings.report import ReportConfig
    from sslcore.console import Progress

    settings = resolve(ReportConfig, config, assignments, {"seed": seed})
    load_torch()
    from recssl.report.build import write_report

    with Progress("report") as progress:
        typer.echo(write_report(run, settings, out, progress=progress))


@app.command()
@user_errors()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Of the invented log.")] = 0,
) -> None:
    """Try everything on an invented bookshop."""
    from recssl.demo import run_demo

    typer.echo(run_demo(out, run_command=partial(run_typed, app, "recssl"), seed=seed))


if __name__ == "__main__":
    app()
