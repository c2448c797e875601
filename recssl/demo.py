"""The whole line on an invented bookshop, through the commands a user types."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from recssl.demo_log import write_log
from sslcore.console import Progress
from sslcore.demo import fresh_folder, run_line, say

USERS = 2000
ITEMS = 600
INTERACTIONS = 60_000

# What two cores can do in the minute that somebody waits for a demo.
# Few items are popular in every batch; with log_q they keep the place that they deserve.
TRAIN_OPTIONS = (
    *("--epochs", "6", "--batch-size", "1024"),
    *("--set", "encoder.dim=16", "--set", "sampling.log_q=1"),
)
EVALUATE_OPTIONS = ("--set", "baselines.names=[popularity, item_knn, ease]")


def run_demo(
    out: Path,
    *,
    run_command: Callable[[list[str]], None],
    seed: int = 0,
    users: int = USERS,
    items: int = ITEMS,
    interactions: int = INTERACTIONS,
    train_options: Sequence[str] = TRAIN_OPTIONS,
    evaluate_options: Sequence[str] = EVALUATE_OPTIONS,
) -> Path:
    """Write an invented log below `out`, then run every command on it, up to the report.

    Args:
        out: Folder for everything; what an earlier demo left there is replaced.
        run_command: Runs one command of `recssl`, given its words; raises if it fails.
        seed: Of the log and of every command that takes one.
        users: Size of the log.
        items: Likewise.
        interactions: Likewise.
        train_options: Further words of that command.
        evaluate_options: Likewise.

    Returns:
        The report.

    Raises:
        OutputError: `out` holds something that no demo made.
    """
    start = time.monotonic()
    fresh_folder(out, "recssl")
    logs, features = out / "logs", out / "items.csv"
    dataset, run = str(out / "dataset"), str(out / "run")
    say(f"inventing a bookshop with {users} readers and {items} books in {logs}")
    with Progress("invent", total=users, unit="readers") as progress:
        known = write_log(
            logs,
            features,
            users=users,
            items=items,
            interactions=interactions,
            seed=seed,
            on_user=progress.advance,
        )
    seeded = ["--seed", str(seed)]
    commands = [
        ["ingest", str(logs), "--out", dataset, "--item-features", str(features), *seeded],
        ["train", dataset, "--out", run, *train_options, *seeded],
        ["evaluate", run, *evaluate_options, *seeded],
        ["export", run, "--out", str(out / "index")],
        ["recommend", run, "--user", known.user, "-k", "5"],
        ["similar", run, "--item", known.item, "-k", "5"],
        ["report", run],
    ]
    run_line("recssl", commands, run_command)
    report = Path(run) / "report.html"
    say(f"\ndone in {time.monotonic() - start:.0f} s; open the report in a browser:")
    return report.resolve()
