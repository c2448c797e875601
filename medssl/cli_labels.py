"""Those commands of the medical domain that need labels; see `medssl.cli`."""

from pathlib import Path
from typing import Annotated

import typer

from medssl.cli_options import ClassFolders, Labels
from sslcore.cli import Assignments, ConfigFile, Device, Seed, resolve
from sslcore.console import user_errors
from sslcore.interrupts import load_torch


@user_errors()
def finetune(
    run: Annotated[Path, typer.Argument(help="Folder that pretrain made.")],
    data: Annotated[
        Path | None, typer.Option(help="Default: what the run was pretrained on.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("runs/finetune"),
    config: ConfigFile = None,
    assignments: Assignments = None,
    labels: Labels = None,
    class_folders: ClassFolders = None,
    fraction: Annotated[
        list[float] | None, typer.Option(help="Share of the labels; may be repeated.")
    ] = None,
    shots: Annotated[
        list[int] | None, typer.Option(help="Labels per class instead; may be repeated.")
    ] = None,
    mode: Annotated[str | None, typer.Option(help="linear or full.")] = None,
    split: Annotated[
        str | None, typer.Option(help="auto, given, patient, study, image, site or scanner.")
    ] = None,
    folds: Annotated[
        int | None, typer.Option(help="Test every patient, in so many parts; for few patients.")
    ] = None,
    repeats: Annotated[int | None, typer.Option(help="Label draws per fraction.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per step.")] = None,
    device: Device = None,
    seed: Seed = None,
) -> None:
    """Learn from few labels, with and without pretraining."""
    load_torch()
    from medssl.config import FinetuneConfig
    from sslcore.console import Progress

    settings = resolve(
        FinetuneConfig,
        config,
        assignments,
        {
            "labels": labels and str(labels),
            "class_folders": class_folders,
            "fractions": fraction or None,
            "shots": shots or None,
            "mode": mode,
            "split": split,
            "folds": folds,
            "repeats": repeats,
            "batch_size": batch_size,
            "device": device,
            "seed": seed,
        },
    )
    from medssl.fewlabels import finetune as job  # after the settings, as above

    with Progress("finetune") as progress:
        result = job.finetune(run, settings, out, data=data, progress=progress)
    typer.echo(result.table())
    typer.echo(out)


@user_errors()
def predict(
    results: Annotated[Path, typer.Argument(help="Folder of finetune, distill or segment.")],
    data: Annotated[Path, typer.Argument(help="Folder, manifest.parquet or MedMNIST .npz.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Default predictions.parquet, of segment a folder: outlines."),
    ] = None,
    config: ConfigFile = None,
    assignments: Assignments = None,
    batch_size: Annotated[int | None, typer.Option(help="Images at a time.")] = None,
    device: Device = None,
) -> None:
    """Name the class of each image, or outline what is in it."""
    load_torch()
    from medssl.config import EmbedConfig

    settings = resolve(
        EmbedConfig,
        config,
        assignments,
        {"batch_size": batch_size, "device": device},
    )
    if (results / "segmenter.safetensors").exists():
        from medssl.segmentation import predict as outline

        place = out or Path("outlines")
        typer.echo(f"{outline.predict(results, data, place, settings).cases} cases\n{place}")
        return
    from medssl import predict as job  # after the settings, as above

    table = out or Path("predictions.parquet")
    result = job.predict(results, data, table, settings)
    typer.echo("\n".join(f"{name}  {count}" for name, count in result.counts.items()))
    typer.echo(table)


@user_errors()
def distill(
    results: Annotated[Path, typer.Argument(help="Folder that finetune made.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Unlabelled images; default: what the encoder was pretrained on."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("runs/distill"),
    config: ConfigFile = None,
    assignments: Assignments = None,
    backbone: Annotated[str | None, typer.Option(help="Of the student: resnet10, ...")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per step.")] = None,
    device: Device = None,
    seed: Seed = None,
) -> None:
    """Teach a small network with the classes that a fine-tuned one gives to unlabelled images."""
    load_torch()
    from medssl.config import DistillConfig
    from sslcore.console import Progress

    settings = resolve(
        DistillConfig,
        config,
        assignments,
        {
            "backbone": backbone,
            "steps": steps,
            "batch_size": batch_size,
            "device": device,
            "seed": seed,
        },
    )
    from medssl.fewlabels import distill as job  # after the settings, as above

    with Progress("distill") as progress:
        result = job.distill(results, settings, out, data=data, progress=progress)
    typer.echo(result.table())
    typer.echo(out)
