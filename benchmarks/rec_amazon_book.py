"""Amazon-Book in the split of KGAT, as it comes, by the commands a user types.

Run: python benchmarks/rec_amazon_book.py

This is not the Amazon-Book of LightGCN's tables; numbers compare with each other only. The
validation part is cut from train, 10 % per user. The run is trained once to choose the best step,
and the baselines are tuned on the same part; all are fitted on train without it.
"""

import tempfile
from pathlib import Path

from rec_line import line
from record import data_folder, keep


def main() -> None:
    """Measure with the default settings; 3 GB let EASE in."""
    source = data_folder("rec_amazon_book_kgat")
    ingest: list[str | Path] = [source / "train.txt", "--test", source / "test.txt"]
    with tempfile.TemporaryDirectory() as folder:
        found = line(Path(folder), ingest, [], ["baselines.memory_gb=3"])
    keep("rec_amazon_book_kgat", {"data": "rec_amazon_book_kgat", **found})


if __name__ == "__main__":
    main()
