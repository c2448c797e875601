"""Which files DICOMDIRs list that are not there, as on a medium that was copied in part."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path

import polars as pl

from medssl.errors import IngestError
from medssl.manifest_paths import decode_path, encode_path, is_remote
from medssl.scanning.parts import Tables
from medssl.sources.dicomdir import DETAIL, listed_files

MOST_NAMES = 1_000_000  # of all lists together that are looked for
_GAINED = ".dcm"  # what programs append when they copy files from a medium, whose names have no end


def count_missing(root: Path, tables: Tables) -> int:
    """Return how many files DICOMDIRs list that are not there; large and small letters are alike.

    One that has gained the ending `.dcm` is there. Names are compared with those that the scan
    found; the disk is not asked.

    Args:
        root: Of the scan; from a remote one the lists are not fetched again, and nothing is missed.
        tables: Of the scan; the DICOMDIRs are among the files set aside.
    """
    lists = tables.rejected.filter(pl.col("detail") == DETAIL)["path"].to_list()
    if not lists or is_remote(root):
        return 0
    listed = {name.lower() for name in islice(_below(root, lists), MOST_NAMES)}
    found = chain(tables.rows["path"].unique(), tables.rejected["path"])
    there = [path.lower() for path in found]
    return len(listed.difference(there, (path.removesuffix(_GAINED) for path in there)))


def _below(root: Path, lists: Iterable[str]) -> Iterator[str]:
    for path in map(decode_path, lists):
        folder = path.rpartition("/")[0]
        with suppress(IngestError):  # one that has just gone misses nothing
            for name in listed_files(root / path):
                yield encode_path(f"{folder}/{name}".lstrip("/"))
