"""The chapter on how a report came to be: configurations without paths, and versions."""

import platform
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from sslcore.report.parts import Cell, Code, Note, Part, Section, Table
from sslcore.version import project_version, version_of

_HIDDEN = "(a path, not shown)"


def setup_section(configs: Mapping[str, Mapping[str, Any]], libraries: Sequence[str]) -> Section:
    """Return the chapter.

    Args:
        configs: Title to the content of each configuration file.
        libraries: Distributions whose versions are worth knowing.
    """
    parts: list[Part] = [
        Code(f"{title}: configuration", yaml.safe_dump(without_paths(tree), sort_keys=False))
        for title, tree in configs.items()
    ]
    if not parts:
        parts.append(Note("config.yaml of the run is missing or can't be read."))
    versions = [("medrec-ssl", project_version()), ("Python", platform.python_version())]
    versions += [(name, version_of(name) or "not installed") for name in libraries]
    rows = tuple((Cell(name), Cell(version)) for name, version in versions)
    caption = "Versions of the installation that wrote this report"
    parts.append(Table(caption, ("Package", "Version"), (("", rows),), numeric=False))
    return Section("setup", "Configuration and versions", tuple(parts))


def without_paths(tree: Any) -> Any:
    """Copy a configuration; what names a place on the disk is left out."""
    if isinstance(tree, Mapping):
        return {
            key: _HIDDEN
            if value is not None and key in ("path", "labels")
            else without_paths(value)
            for key, value in tree.items()
        }
    if isinstance(tree, list):
        return [without_paths(item) for item in tree]
    if isinstance(tree, str) and ("/" in tree or "\\" in tree):
        return _HIDDEN
    return tree
