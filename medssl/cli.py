"""Command line of the medical domain. Parses, calls, prints; decides nothing.

Results go to stdout, messages and progress to stderr. Everything that imports torch, MONAI or
polars is imported inside a command, so that `--help` does not wait for it.
"""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from medssl import cli_labels, cli_masks
from medssl.cli_options import (
    ClassFolders,
    Labels,
    LabelTag,
    Masks,
    PatientPattern,
    SitePattern,
)
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


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=show_version("medssl"), help="Show it and exit."
        ),
    ] = False,
) -> None:
    """Self-supervised learning on medical images: from a folder to a report."""


@app.command()
@user_errors()
def scan(
    folder: Annotated[Path, typer.Argument(help="Any depth; s3://bucket/folder; MedMNIST .npz.")],
    out: Annotated[Path, typer.Option(help="Where the table goes.")] = Path("manifest.parquet"),
    config: ConfigFile = None,
    assignments: Assignments = None,
    labels: Labels = None,
    class_folders: ClassFolders = None,
    label_tag: LabelTag = None,
    masks: Masks = None,
    patient_pattern: PatientPattern = None,
    site_pattern: SitePattern = None,
    private: Annotated[
        bool | None, typer.Option("--private", help="No path below the folder in any table.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; default by cores.")] = None,
) -> None:
    """List the images of a folder, and what cannot be read."""
    from medssl.scanning.settings import ScanConfig
    from sslcore.console import Progress

    settings = resolve(
        ScanConfig,
        config,
        assignments,
        {
            "labels": labels and str(labels),
            "class_folders": class_folders,
            "label_tag": label_tag,
            "masks": masks,
            "patient_pattern": patient_pattern,
            "site_pattern": site_pattern,
            "private": private,
            "workers": workers,
        },
    )
    from medssl.scanning import scan as job  # after the settings, so that a typing mistake shows

    with Progress("scan") as progress:
        summary = job.scan(folder, out, settings, progress)
    typer.echo(summary.table())
    typer.echo(out)


@app.command()
@user_errors()
def pretrain(
    data: Annotated[
        Path | None, typer.Argument(help="Folder, manifest.parquet or MedMNIST .npz.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/pretrain"),
    config: ConfigFile = None,
    assignments: Assignments = None,
    method: Annotated[
        str | None,
        typer.Option(help="simclr, moco_v2, byol, vicreg, dino, mae, ...; see docs/methods.md."),
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="resnet18, vit_tiny, ...")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Samples per step.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of a view, px.")] = None,
    dims: Annotated[int | None, typer.Option(help="3 learns from volumes.")] = None,
    device: Device = None,
    devices: Annotated[int | None, typer.Option(help="Processes, one per device.")] = None,
    seed: Seed = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
) -> None:
    """Pretrain an encoder on images without labels."""
    load_torch()
    from medssl.config import DERIVED, PretrainConfig
    from sslcore.training.settings import INSTEAD_OF

    stored = out / "config.yaml"
    if resume and not (stored.exists() or data or config or assignments):
        raise typer.BadParameter(
            f"{out} holds no run to continue; name the run's folder with --out, or start one"
            " without --resume"
        )
    file = config or (stored if resume and stored.exists() else None)
    if not (data or file or assignments):
        raise typer.BadParameter("give a folder, manifest.parquet or MedMNIST .npz")
    settings = resolve(
        PretrainConfig,
        file,
        assignments,
        {
            "data.path": data and str(data),
            "method.name": method,
            "backbone.name": backbone,
            "run.epochs": epochs,
            "run.batch_size": batch_size,
            "image_size": image_size,
            "data.dims": dims,
            "run.device": device,
            "run.devices": devices,
            "run.seed": seed,
        },
        derived=DERIVED,
        instead_of=INSTEAD_OF,
    )
    from medssl import pretrain as job  # after the settings, as above

    result = job.pretrain(settings, out, resume=resume)
    typer.echo(f"{result.steps} steps, last loss {result.final_loss:.4f}\n{result.encoder}")


@app.command()
@user_errors()
def cache(
    data: Annotated[
        Path | None, typer.Argument(help="Folder, manifest.parquet or MedMNIST .npz.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the store.")] = Path("store"),
    config: ConfigFile = None,
    assignments: Assignments = None,
    image_size: Annotated[int | None, typer.Option(help="As in pretrain.")] = None,
    dims: Annotated[int | None, typer.Option(help="As in pretrain.")] = None,
    workers: Annotated[int | None, typer.Option(help="Decoding processes.")] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read the store, and tell what is damaged.")
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Delete what other data or settings left.")
    ] = False,
) -> None:
    """Decode images once, for pretrain --set data.store=STORE."""
    load_torch()
    from medssl.config import DERIVED, PretrainConfig

    if not (data or config or assignments):
        raise typer.BadParameter("give a folder, manifest.parquet or MedMNIST .npz")
    wishes = {
        "data.path": data and str(data),
        "data.store": str(out),
        "image_size": image_size,
        "data.dims": dims,
        "data.workers": workers,
    }
    settings = resolve(PretrainConfig, config, assignments, wishes, derived=DERIVED)
    from medssl import cache as job  # after the settings, as above

    if not verify:
        typer.echo(f"{job.cache(settings, prune=prune)}\n{out}")
        return
    check = job.verify(settings)
    typer.echo(f"{check.complete} complete, {check.missing} missing, {check.damaged} damaged")
    if check.damaged:
        raise typer.Exit(1)


@app.command()
@user_errors()
def embed(
    run: Annotated[Path, typer.Argument(help="Folder that pretrain made.")],
    data: Annotated[Path, typer.Argument(help="Folder, manifest.parquet or MedMNIST .npz.")],
    out: Annotated[Path, typer.Option(help="Where the table goes.")] = Path("embeddings.parquet"),
    config: ConfigFile = None,
    assignments: Assignments = None,
    batch_size: Annotated[int | None, typer.Option(help="Images at a time.")] = None,
    device: Device = None,
) -> None:
    """Turn each image into a vector."""
    load_torch()
    from medssl.config import EmbedConfig

    settings = resolve(
        EmbedConfig,
        config,
        assignments,
        {"batch_size": batch_size, "device": device},
    )
    from medssl import embed as job  # after the settings, as above

    result = job.embed(run, data, out, settings)
    typer.echo(f"{result.count} images\n{out}")


for each in (cli_labels.finetune, cli_masks.segment, cli_labels.predict, cli_labels.distill):
    app.command()(each)


@app.command()
@user_errors()
def report(
    folder: Annotated[Path, typer.Argument(help="Folder that pretrain or finetune made.")],
    out: ReportFile = None,
    config: ConfigFile = None,
    assignments: Assignments = None,
    batch_size: Annotated[int | None, typer.Option(help="Images at a time.")] = None,
    device: Device = None,
    seed: Seed = None,
) -> None:
    """Write one HTML file about a run or its results."""
    load_torch()
    from medssl.config import ReportConfig
    from sslcore.console import Progress

    settings = resolve(
        ReportConfig,
        config,
        assignments,
        {"batch_size": batch_size, "device": device, "seed": seed},
    )
    from medssl.report.build import write_report  # after the settings, as above

    with Progress("report") as progress:
        path = write_report(folder, settings, out, progress=progress)
    typer.echo(path)


@app.command()
@user_errors()
def doctor() -> None:
    """Show what works here, and what to install for the rest."""
    load_torch()
    from medssl.doctor import examine

    diagnosis = examine(Path.cwd())
    typer.echo(diagnosis.text())
    if not diagnosis.healthy:
        raise typer.Exit(1)


@app.command()
@user_errors()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Of the invented hospital.")] = 0,
) -> None:
    """Try everything on an invented hospital."""
    from medssl.demo import run_demo

    typer.echo(run_demo(out, run_command=partial(run_typed, app, "medssl"), seed=seed))


if __name__ == "__main__":
    app()
