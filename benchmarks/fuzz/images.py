"""Read files that a coverage-guided fuzzer makes of good ones: none may be taken for our mistake.

Run: python benchmarks/fuzz/images.py [SECONDS] [FORMAT ...]

Needs the extra `fuzz`, atheris, which finds changes of a file that lead to other code. Each
format gets its share of the seconds, one hour in all by default. Everything that a scan does with a
file is done with each input, and with a mask what `medssl segment` does; of a slide in MIRAX one
part is changed, the others are whole. Ends with status 1 if a reader failed in a way it does not
foresee, or ended the process. What did so is kept in the folder `fuzz_found` of the current
directory. The results keep the formats that were fuzzed before.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import above  # noqa: F401
from record import HERE, keep

from tests.medssl import test_bif_slides, test_dicom_slides, test_slides
from tests.medssl.test_fuzz import FORMATS, sample
from tests.medssl.test_masks_fuzz import MASKS, mask
from tests.medssl.test_mirax_slides import PARTS, part_bytes

FOUND = Path("fuzz_found")
SECONDS = 3600
_LIMITS = ("-timeout=60", "-rss_limit_mb=4096", "-print_final_stats=1", "-runs=5000")
_SEEDS: Mapping[str, Callable[[], bytes]] = {
    **{name: partial(sample, name) for name in FORMATS},
    "slide": test_slides.slide_bytes,
    "dicom slide": test_dicom_slides.slide_bytes,
    "bif slide": test_bif_slides.slide_bytes,
    **{f"mirax {part}": partial(part_bytes, part) for part in PARTS},
    **{f"mask {name}": partial(mask, name) for name in MASKS},
}


def main() -> int:
    """Fuzz each format in a process of its own; return 1 if something was found."""
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    names = sys.argv[2:] or tuple(_SEEDS)
    with tempfile.TemporaryDirectory() as corpus:
        results = {name: fuzz(name, seconds / len(names), Path(corpus) / name) for name in names}
    every = _kept_before() | results
    totals = {
        word: round(sum(each[word] for each in every.values()), 1)
        for word in ("seconds", "executions")
    }
    keep("fuzz_images", {**totals, "formats": every})
    return 1 if any(sum(result["found"].values()) for result in results.values()) else 0


def _kept_before() -> dict[str, dict[str, Any]]:
    """Return the recorded results of formats that are still fuzzed."""
    recorded = json.loads((HERE / "results" / "fuzz_images.json").read_text(encoding="utf-8"))
    return {name: each for name, each in recorded["formats"].items() if name in _SEEDS}


def fuzz(name: str, seconds: float, corpus: Path) -> dict[str, Any]:
    """Fuzz one format, in one process after the other: what atheris watches loses memory.

    Of 5000 executions each, since it never gives back what comparing arrays returns.
    """
    corpus.mkdir()
    seed = _SEEDS[name]()
    (corpus / "seed").write_bytes(seed)
    folder = FOUND / name.replace(" ", "_")
    folder.mkdir(parents=True, exist_ok=True)
    begin, executions, ended = time.monotonic(), 0, 0
    while (left := int(begin + seconds - time.monotonic())) > 0:
        command = [sys.executable, str(HERE / "fuzz" / "reader.py"), name, str(folder), str(corpus)]
        options = (*_LIMITS, f"-max_len={2 * len(seed)}", f"-max_total_time={left}")
        kept = f"-artifact_prefix={folder}/"
        done = subprocess.run(
            [*command, *options, kept], capture_output=True, check=False, text=True
        )
        counted = re.search(r"stat::number_of_executed_units:\s+(\d+)", done.stderr)
        if "ModuleNotFoundError" in done.stderr:
            sys.exit(done.stderr)
        executions += int(counted[1]) if counted else 0
        ended += done.returncode != 0
    bugs = [path.name for path in folder.glob("bug-*")]
    slow = [path.name for path in folder.glob("timeout-*")]
    other = [path.name for path in folder.iterdir() if path.name not in (*bugs, *slow)]
    found = {"reader_bug": len(bugs), "over_60_seconds": len(slow), "ended_the_process": len(other)}
    return {
        "seconds": round(time.monotonic() - begin, 1),
        "executions": executions,
        "inputs_kept": len(list(corpus.iterdir())),
        "found": found,
    }


if __name__ == "__main__":
    sys.exit(main())
