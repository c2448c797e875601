"""The whole line on an invented hospital, through the commands a user types."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from medssl.demo_hospital import write_hospital
from sslcore.console import Progress
from sslcore.demo import fresh_folder, run_line, say

PATIENTS = 40
IMAGES = 15  # per patient

# What two cores can do in the four minutes that somebody waits for a demo: many steps of a narrow
# network, rather than few of a wide one. Two small parts of an image have its texture in common,
# and little of its anatomy: that is what shall be learnt.
PRETRAIN_OPTIONS = (
    *("--backbone", "resnet10", "--set", "backbone.stem=medium", "--set", "backbone.width=16"),
    *("--image-size", "48", "--set", "views.crop_scale=[0.2,0.7]"),
    *("--batch-size", "64", "--epochs", "30", "--set", "optim.learning_rate=0.004"),
)
FINETUNE_OPTIONS = (
    *("--fraction", "0.01", "--fraction", "0.1", "--fraction", "1"),
    *("--batch-size", "16", "--set", "steps=300"),
)


def run_demo(
    out: Path,
    *,
    run_command: Callable[[list[str]], None],
    seed: int = 0,
    patients: int = PATIENTS,
    images: int = IMAGES,
    pretrain_options: Sequence[str] = PRETRAIN_OPTIONS,
    finetune_options: Sequence[str] = FINETUNE_OPTIONS,
) -> Path:
    """Write an invented hospital below `out`, then scan, pretrain, finetune and report.

    Args:
        out: Folder for everything; what an earlier demo left there is replaced.
        run_command: Runs one command of `medssl`, given its words; raises if it fails.
        seed: Of the hospital and of every command that takes one.
        patients: Size of the hospital.
        images: Per patient.
        pretrain_options: Further words of that command.
        finetune_options: Likewise.

    Returns:
        The report.

    Raises:
        OutputError: `out` holds something that no demo made.
    """
    start = time.monotonic()
    fresh_folder(out, "medssl")
    hospital, labels = out / "hospital", out / "labels.csv"
    manifest, run, results = out / "manifest.parquet", out / "run", out / "results"
    say(f"inventing a hospital of {patients} patients in {hospital}")
    with Progress("invent", total=patients, unit="patients") as progress:
        write_hospital(
            hospital,
            labels,
            patients=patients,
            images=images,
            seed=seed,
            on_patient=progress.advance,
        )
    seeded = ["--seed", str(seed)]
    commands = [
        ["scan", str(hospital), "--out", str(manifest), "--labels", str(labels)],
        ["pretrain", str(manifest), "--out", str(run), *pretrain_options, *seeded],
        ["finetune", str(run), "--out", str(results), *finetune_options, *seeded],
        ["report", str(results)],
    ]
    run_line("medssl", commands, run_command)
    report = results / "report.html"
    say(f"\ndone in {time.monotonic() - start:.0f} s; open the report in a browser:")
    return report.resolve()
