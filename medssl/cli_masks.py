"""The command of the medical domain that needs masks; see `medssl.cli`."""

from pathlib import Path
from typing import Annotated

import typer

from sslcore.cli import Assignments, ConfigFile, Device, Seed, resolve
from sslcore.console import user_errors
from sslcore.interrupts import load_torch


@user_errors()
def segment(
    run: Annotated[Path, typer.Argument(help="Folder that pretrain made.")],
    data: Annotated[
        Path | None, typer.Option(help="Manifest with masks; default: what was pretrained on.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("runs/segment"),
    config: ConfigFile = None,
    assignments: Assignments = None,
    structure: Annotated[
        list[str] | None,
        typer.Option(help="Value of the masks, or name in DICOM objects; may be repeated."),
    ] = None,
    binary: Annotated[
        bool | None, typer.Option("--binary", help="Whatever is marked is one class.")
    ] = None,
    fraction: Annotated[
        list[float] | None, typer.Option(help="Share of the masks; may be repeated.")
    ] = None,
    shots: Annotated[
        list[int] | None, typer.Option(help="Images or volumes instead; may be repeated.")
    ] = None,
    mode: Annotated[
        str | None, typer.Option(help="full or frozen, of the pretrained encoder.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="auto, given, patient, study, image, site or scanner.")
    ] = None,
    repeats: Annotated[int | None, typer.Option(help="Draws of masks per fraction.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps, at most.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images or volumes per step.")] = None,
    device: Device = None,
    seed: Seed = None,
) -> None:
    """Learn to outline structures from few masks, with and without pretraining."""
    load_torch()
    from medssl.config import SegmentConfig
    from sslcore.console import Progress

    settings = resolve(
        SegmentConfig,
        config,
        assignments,
        {
            "structures": structure or None,
            "binary": binary,
            "fractions": fraction or None,
            "shots": shots or None,
            "mode": mode,
            "split": split,
            "repeats": repeats,
            "steps": steps,
            "batch_size": batch_size,
            "device": device,
            "seed": seed,
        },
    )
    from medssl.segmentation import segment as job  # after the settings, as above

    with Progress("segment") as progress:
        result = job.segment(run, settings, out, data=data, progress=progress)
    typer.echo(result.table())
    typer.echo(out)
