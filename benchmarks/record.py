"""What the benchmark scripts share: where the data is, the machine, and how a result is kept."""

import json
import os
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib as mpl
from checkout import HERE
from matplotlib.figure import Figure

from sslcore.cores import usable_cores


def data_folder(name: str) -> Path:
    """Return a real data set's folder, or end the script with the reason why it cannot run."""
    base = Path(os.environ.get("MEDREC_DATA", HERE.parent.parent / "shared" / "data"))
    folder = base / name
    if not folder.is_dir():
        sys.exit(f"skipped: no {name} below {base}; set MEDREC_DATA to the folder that holds it")
    return folder


def machine() -> dict[str, Any]:
    """Describe what the numbers were measured on, without naming the machine."""
    return {
        "cpu": _cpu_model(),
        "cores": usable_cores(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "monai", "pydicom", "numpy")},
    }


def keep(name: str, result: Mapping[str, Any]) -> None:
    """Write `results/<name>.json` and print it."""
    text = json.dumps({"machine": machine(), **result}, indent=1)
    (HERE / "results" / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    print(text)


def keep_chart(name: str, figure: Figure) -> None:
    """Write `results/<name>.svg`, the same for the same figure."""
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(HERE / "results" / f"{name}.svg", metadata={"Date": None})


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
