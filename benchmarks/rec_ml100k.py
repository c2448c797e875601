"""MovieLens-100K, split by time, by the commands a user types, beside all baselines tuned.

Run: python benchmarks/rec_ml100k.py

Ratings of 4 and 5 are interactions. The first 80 % are train, the next 10 % choose the best step
and the baselines' settings, the last 10 % are looked at once. So late a user is mostly a new
one: of whom nothing is known before is left out for all methods alike, and counted in the result;
who is known from the validation part only is scored from there.
"""

import tempfile
from pathlib import Path

from rec_line import line
from record import data_folder, keep

SEEDS = (0, 1, 2)


def main() -> None:
    """Measure with three seeds of the run; the baselines stand beside the first."""
    source = data_folder("rec_ml100k") / "ml-100k.inter"
    ingest: list[str | Path] = [source, "--split", "time", "--min-weight", "4"]
    runs = []
    for seed in SEEDS:
        evaluate = [] if seed == SEEDS[0] else ["baselines.names=[]"]
        with tempfile.TemporaryDirectory() as folder:
            runs.append(line(Path(folder), ingest, [f"run.seed={seed}"], evaluate))
    first, *others = runs
    keep(
        "rec_ml100k",
        {"data": "rec_ml100k", **first, "other_seeds": [run["models"][0] for run in others]},
    )


if __name__ == "__main__":
    main()
