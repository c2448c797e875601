"""What this installation can do here, and what to install for what it cannot.

Everything else is imported late and one section at a time, so that a package which is missing or
broken costs its own section only.
"""

import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sslcore.version import project_version, version_of

PACKAGES = (
    "torch",
    "lightning-fabric",
    "monai",
    "scikit-learn",
    "polars",
    "pydicom",
    "imagecodecs",
    "pillow",
    "tifffile",
)
MIN_FREE_GB = 2.0
REINSTALL = "pip install -c constraints.txt -e ."


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the diagnosis.

    Attributes:
        name: What was looked at.
        value: What was found.
        remedy: What to do about it; None if all is well.
    """

    name: str
    value: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Findings by section, in order."""

    sections: dict[str, list[Finding]]

    @property
    def healthy(self) -> bool:
        """Whether nothing needs a remedy."""
        return all(item.remedy is None for items in self.sections.values() for item in items)

    def text(self) -> str:
        """Return aligned lines, what is wrong marked with an exclamation mark."""
        lines = []
        for section, items in self.sections.items():
            lines.append(section)
            width = max(len(item.name) for item in items)
            for item in items:
                mark = "!" if item.remedy else " "
                remedy = f"  -> {item.remedy}" if item.remedy else ""
                lines.append(f"{mark} {item.name:<{width}}  {item.value}{remedy}")
            lines.append("")
        verdict = "all is well" if self.healthy else "something is missing: the lines marked !"
        return "\n".join([*lines, verdict])


def examine(folder: Path) -> Diagnosis:
    """Look at versions, device, decoders, disk and site key.

    Args:
        folder: Where results would be written; its disk is measured.
    """
    sections: dict[str, Callable[[], list[Finding]]] = {
        "versions": _versions,
        "device": _device,
        "DICOM decoders": _decoders,
        "remote folders": _remote,
        "disk": lambda: [_disk(folder)],
        "site key": _site_key,
    }
    return Diagnosis({name: _unless_missing(look) for name, look in sections.items()})


def _unless_missing(look: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        return look()
    except ImportError as error:
        return [Finding(error.name or "import", "cannot be imported", REINSTALL)]


def _versions() -> list[Finding]:
    python = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    found = [Finding("medssl", project_version()), Finding("python", python)]
    for name in PACKAGES:
        version = version_of(name)
        found.append(Finding(name, version or "missing", None if version else REINSTALL))
    return found


def _device() -> list[Finding]:
    import torch

    from sslcore.device import choose_device, choose_precision

    device = choose_device("auto")
    precision = choose_precision("auto", device)
    return [
        Finding("--device auto", f"{device}, precision {precision}"),
        Finding("cpu", f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"),
    ]


def _decoders() -> list[Finding]:
    """Ask pydicom, for each transfer syntax, whether the decoder used here can run."""
    from pydicom.pixels.decoders.base import get_decoder

    from medssl.sources.dicom_codecs import COMPRESSED, DECODER_DEPENDENCIES, NATIVE, PLUGIN

    found = [
        Finding(syntax.name, "pydicom")
        if get_decoder(syntax).is_available
        else Finding(syntax.name, "missing", REINSTALL)
        for syntax in NATIVE
    ]
    for syntax in COMPRESSED:
        packages = " ".join(DECODER_DEPENDENCIES[syntax])
        if PLUGIN in get_decoder(syntax).available_plugins:
            found.append(Finding(syntax.name, packages))
        else:
            found.append(Finding(syntax.name, "missing", f"pip install {packages}"))
    return found


def _remote() -> list[Finding]:
    """Tell which protocols can be used; nobody needs one who does not."""
    from medssl.sources.remote import PACKAGES

    return [
        Finding(f"{protocol}://", f"{package} {version_of(package) or 'is not installed'}")
        for protocol, package in PACKAGES.items()
    ]


def _disk(folder: Path) -> Finding:
    free_gb = shutil.disk_usage(folder).free / 1e9
    remedy = None if free_gb >= MIN_FREE_GB else f"free {MIN_FREE_GB:g} GB, or write elsewhere"
    return Finding("free here", f"{free_gb:.1f} GB", remedy)


def _site_key() -> list[Finding]:
    """Tell where the key lies, which hashes patients' names; never what it is."""
    from medssl.identity import key_file

    path = key_file()
    return [Finding(str(path), "present" if path.is_file() else "the first scan will make it")]
