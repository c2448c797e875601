"""Files of a run that a report can do without: what cannot be read is empty."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from sslcore.errors import OutputError
from sslcore.training.history import read_history


def read_tree(path: Path) -> Mapping[str, Any]:
    """Return the content of a YAML file."""
    try:
        tree = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return tree if isinstance(tree, dict) else {}


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the records of a `sslcore.training.history` log."""
    try:
        return read_history(path)
    except (OSError, OutputError):
        return []
