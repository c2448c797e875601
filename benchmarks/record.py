"""What the benchmark scripts share: where the data is, the machine, and how a result is kept."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib as mpl
from checkout import HERE
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sslcore.cores import usable_cores
from sslcore.plots import MUTED, draw_panels, legend_below, series


def data_folder(name: str) -> Path:
    """Return a real data set's folder, or end the script with the reason why it cannot run."""
    base = Path(os.environ.get("MEDREC_DATA", HERE.parent.parent / "shared" / "data"))
    folder = base / name
    if not folder.is_dir():
        sys.exit(f"skipped: no {name} below {base}; set MEDREC_DATA to the folder that holds it")
    return folder


def run_medssl(command: str, *arguments: object) -> float:
    """Run a command of this checkout, and return the seconds that it took."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "medssl.cli", command, *map(str, arguments)], check=True)
    return round(time.perf_counter() - start, 1)


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


def earlier(name: str, same: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `keep` wrote, if it was measured with the same of these; else nothing."""
    file = HERE / "results" / f"{name}.json"
    found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return found if all(found.get(key) == value for key, value in same.items()) else {}


def keep_chart(name: str, figure: Figure) -> None:
    """Write `results/<name>.svg`, the same for the same figure."""
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(HERE / "results" / f"{name}.svg", metadata={"Date": None})


@dataclass(frozen=True)
class Dots:
    """One panel of a dot chart.

    Attributes:
        title: Above it.
        means: A dot each, the first at the bottom.
        spread: Half the length of each dot's bar.
        lines: Name to value of what the dots are compared with, two at most.
    """

    title: str
    means: Sequence[float]
    spread: Sequence[float]
    lines: Mapping[str, float]


def dot_chart(names: Sequence[str], panels: Sequence[Dots]) -> Figure:
    """Draw a dot per name in each panel, and a vertical line for each thing beside them."""

    def paint(axes: Axes, dots: Dots) -> None:
        places = range(len(names))
        axes.errorbar(dots.means, places, xerr=dots.spread, fmt="o", color=series(0).light)
        axes.set_yticks(places, names)
        axes.set_ylim(-0.6, len(names) - 0.4)
        for style, (label, value) in zip(("-", "--"), dots.lines.items(), strict=False):
            axes.axvline(value, color=MUTED.light, ls=style, label=label)
        axes.set_title(dots.title)
        axes.grid(visible=False, axis="y")
        if dots is panels[0]:
            legend_below(axes)

    return draw_panels(
        tuple(lambda axes, dots=dots: paint(axes, dots) for dots in panels),
        width=820,
        height=130 + 22 * len(names),
    )


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
