"""Decode every file of the DICOM collection and compare with the values written down for it.

Run: python benchmarks/dicom_files.py
The collection is looked for in MEDREC_DATA, by default ../shared/data beside the checkout.
"""

import csv
import json
import sys
import time
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
from record import HERE, data_folder, machine

from medssl.errors import IngestError
from medssl.sources.decoded import Values
from medssl.sources.open import open_image
from medssl.sources.sniff import sniff

DATA = data_folder("dicom_files")
RESULT = HERE / "results" / "dicom_files.json"
DECODERS = ("imagecodecs",)
TOLERANCE = 1e-6

# The collection's own reader could not decode this one; it is CT_small without meta information.
SAME_AS = {"no_meta.dcm": "CT_small.dcm"}
# The same pictures in several transfer syntaxes: without loss, every value must agree.
TWINS = (
    ("693_UNCI.dcm", "693_J2KI.dcm"),
    ("US1_J2KR.dcm", "examples_jpeg2k.dcm"),
    ("MR_small.dcm", "MR_small_RLE.dcm"),
    ("MR_small.dcm", "MR_small_bigendian.dcm"),
    ("MR_small.dcm", "MR_small_implicit.dcm"),
    ("MR_small.dcm", "MR_small_jp2klossless.dcm"),
    ("MR_small.dcm", "MR_small_jpeg_ls_lossless.dcm"),
    ("emri_small.dcm", "emri_small_RLE.dcm"),
    ("emri_small.dcm", "emri_small_jpeg_2k_lossless.dcm"),
    ("emri_small.dcm", "emri_small_jpeg_ls_lossless.dcm"),
    ("CT_small.dcm", "no_meta.dcm"),
)


def main() -> int:
    """Check all files, print a table, write the result; return 1 if anything disagrees."""
    with (DATA / "MANIFEST.csv").open(newline="", encoding="utf-8") as table:
        expected = {row["file"]: row for row in csv.DictReader(table)}
    checked = [_check(name, expected) for name in expected]
    twins = [
        {"pair": list(pair), "equal": bool(np.array_equal(_load(pair[0]), _load(pair[1])))}
        for pair in TWINS
    ]
    result = {
        "files": checked,
        "twins": twins,
        "decoded": sum(item["outcome"] == "decoded" for item in checked),
        "rejected": Counter(item["reason"] for item in checked if item["reason"]),
        "as_expected": sum(item["as_expected"] for item in checked),
        "milliseconds": round(sum(item["milliseconds"] for item in checked), 1),
        "machine": {**machine(), **{name: version(name) for name in DECODERS}},
    }
    _print(result)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    good = result["as_expected"] == len(expected) and all(item["equal"] for item in twins)
    return 0 if good else 1


def _check(name: str, expected: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    row = expected[SAME_AS.get(name, name)]
    began = time.perf_counter()
    outcome: dict[str, Any] = {"file": name, "outcome": "decoded", "reason": None}
    try:
        values = _load(name)
    except IngestError as error:
        outcome |= {"outcome": "rejected", "reason": str(error.reason), "detail": error.detail}
        outcome["as_expected"] = not row["decoded_shape"] and error.reason == "no_pixels"
    else:
        outcome |= _measure(values)
        outcome["as_expected"] = _agrees(outcome, row)
    outcome["milliseconds"] = round(1000 * (time.perf_counter() - began), 1)
    return outcome


def _load(name: str) -> Values:
    path = DATA / name
    with open_image(path, sniff(path)) as reader:
        frames = [reader.decode(frame).values for frame in range(reader.facts.frames)]
    return np.stack(frames) if len(frames) > 1 else frames[0]


def _measure(values: Values) -> dict[str, Any]:
    return {
        "shape": "x".join(map(str, values.shape)),
        "dtype": values.dtype.name,
        "min": float(values.min()),
        "max": float(values.max()),
    }


def _agrees(found: Mapping[str, Any], row: Mapping[str, str]) -> bool:
    if not row["decoded_shape"]:
        return False
    return bool(
        found["shape"] == row["decoded_shape"]
        and found["dtype"] == np.dtype(row["dtype"]).name
        and abs(found["min"] - float(row["min"])) <= TOLERANCE
        and abs(found["max"] - float(row["max"])) <= TOLERANCE
    )


def _print(result: Mapping[str, Any]) -> None:
    for item in result["files"]:
        mark = "ok " if item["as_expected"] else "BAD"
        what = item["reason"] or f"{item['shape']} {item['dtype']} {item['min']:g}..{item['max']:g}"
        print(f"{mark} {item['file']:36} {what:42} {item['milliseconds']:7.1f} ms")
    for item in result["twins"]:
        print(f"{'ok ' if item['equal'] else 'BAD'} {' = '.join(item['pair'])}")
    total = len(result["files"])
    print(
        f"{result['decoded']} of {total} decoded, {dict(result['rejected'])} rejected; "
        f"{result['as_expected']} of {total} as expected"
    )


if __name__ == "__main__":
    sys.exit(main())
