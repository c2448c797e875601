r"""Time and memory of the commands on invented logs of growing size.

Each size is an invented log of so many million interactions: 40,000 users and 10,000 items per
million, with times, popularity and activity by power laws, and tastes that groups of users share.
It is written in blocks to a temporary folder, and every command a user would type runs as a
process of its own: ingest, train for one epoch, evaluate 10,000 users, export with an index. Ids
are integers for users, texts for items.

Run: OMP_NUM_THREADS=2 OMP_WAIT_POLICY=PASSIVE python benchmarks/rec_big_log.py \
         [--parquet] [1] [5] [20] [50]
1, 5 and 50 without a size. 50 million need 7 GB of memory, 12 GB of disk below TMPDIR, and half an
hour or more, most of it for the 19,000 steps of the epoch.

`seconds` are by the clock, `processor_seconds` of all threads, user and system; `peak_gb` is the
largest resident memory of the process, pages of memory-mapped files among it.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from record import keep

from sslcore.files import whole_file

USERS_PER_MILLION, ITEMS_PER_MILLION = 40_000, 10_000
GROUPS = 50
OWN_SHARE = 0.7  # of the interactions that stay within the taste of the user's group
DAYS = 365
BLOCK = 500_000  # rows; a child's peak is never told below what this script itself holds
FIRST_SECOND = 1_700_000_000
# the one that fits all sizes: EASE holds items x items, tuning the others takes hours at 50 million
BASELINES = "[popularity]"


def blocks(rows: int) -> Iterator[pl.DataFrame]:
    """Yield a log in the order of its times, always the same one."""
    millions = rows / 1e6
    users, items = int(USERS_PER_MILLION * millions), int(ITEMS_PER_MILLION * millions)
    per_group = items // GROUPS
    for number, start in enumerate(range(0, rows, BLOCK)):
        rng = np.random.default_rng((0, number))
        count = min(BLOCK, rows - start)
        user = (users * rng.random(count) ** 1.5).astype(np.int64)
        place = (per_group * rng.random(count) ** 3).astype(np.int64)
        own = rng.random(count) < OWN_SHARE
        item = place * GROUPS + np.where(own, user % GROUPS, rng.integers(GROUPS, size=count))
        seconds = FIRST_SECOND + DAYS * 86_400 * (start + np.arange(count)) // rows
        yield pl.DataFrame(
            {"user_id": 3 * user + 1_000_000, "item": item, "timestamp": seconds}
        ).select(
            "user_id",
            pl.format("B{}", pl.col("item").cast(pl.String).str.zfill(8)).alias("item_id"),
            "timestamp",
        )


def write_log(path: Path, rows: int) -> None:
    """Write the log, as Parquet if the name says so, else as CSV."""
    if path.suffix == ".parquet":
        path.mkdir()  # a log may be a folder of files
        for number, block in enumerate(blocks(rows)):
            block.write_parquet(path / f"{number:04d}.parquet")
        return
    with whole_file(path) as draft, draft.open("wb") as file:
        for number, block in enumerate(blocks(rows)):
            block.write_csv(file, include_header=number == 0)


def measured(command: str, *arguments: object) -> dict[str, float]:
    """Run a command of `recssl`, and end the script if it fails."""
    began = time.perf_counter()
    words = [sys.executable, "-m", "recssl.cli", command, *map(str, arguments)]
    process = subprocess.Popen(words)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"recssl {command} ended with status {os.waitstatus_to_exitcode(status)}")
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_gb": round(usage.ru_maxrss / 1e6, 2),  # given in KB by Linux
    }


def measure(millions: int, suffix: str, folder: Path) -> dict[str, Any]:
    """Write a log, run all commands on it, and return what they took."""
    log, dataset, run = folder / f"log{suffix}", folder / "dataset", folder / "run"
    write_log(log, millions * 1_000_000)
    files = log.iterdir() if log.is_dir() else [log]
    size = sum(file.stat().st_size for file in files)
    steps = {
        "ingest": measured("ingest", log, "--out", dataset),
        "train": measured("train", dataset, "--out", run, "--epochs", "1"),
        "evaluate": measured(
            "evaluate",
            run,
            *("--set", "max_users=10000", "--set", f"baselines.names={BASELINES}"),
        ),
        "export": measured("export", run, "--out", folder / "export"),
    }
    return {
        "million_interactions": millions,
        "users": USERS_PER_MILLION * millions,
        "items": ITEMS_PER_MILLION * millions,
        "log_gb": round(size / 1e9, 2),
        **steps,
    }


def growth(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Compare each size with the one before; 1 is growth in proportion to the interactions."""
    found = []
    for small, large in pairwise(rows):
        times = large["million_interactions"] / small["million_interactions"]
        ratios = {
            command: {
                name: round(large[command][name] / small[command][name] / times, 2)
                for name in ("processor_seconds", "peak_gb")
            }
            for command in ("ingest", "train", "evaluate", "export")
        }
        sizes = [row["million_interactions"] for row in (small, large)]
        found.append({"from_to_million": sizes, "times": times, **ratios})
    return found


def main() -> None:
    """Measure the sizes named on the command line, or 1, 5 and 50 million."""
    sizes = [int(word) for word in sys.argv[1:] if word != "--parquet"] or [1, 5, 50]
    suffix = ".parquet" if "--parquet" in sys.argv else ".csv"
    rows = []
    for millions in sorted(sizes):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(millions, suffix, Path(folder)))
        print(rows[-1], flush=True)
    keep(
        f"rec_big_log{'_parquet' if suffix == '.parquet' else ''}",
        {
            "log": f"invented, {suffix}",
            "threads": os.environ.get("OMP_NUM_THREADS", "all"),
            "load_average": round(os.getloadavg()[0], 1),
            "epochs": 1,
            "baselines": BASELINES,
            "sizes": rows,
            "growth": growth(rows),
        },
    )


if __name__ == "__main__":
    main()
