"""FAISS, which is loaded only when something needs it."""

import importlib
from typing import Any

from sslcore.errors import ConfigError


def load_faiss(user: str, *, way_out: str) -> Any:
    """Return the module `faiss`.

    Args:
        user: What needs it, such as `an index`.
        way_out: What to set to do without.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        return importlib.import_module("faiss")
    except ImportError as error:
        raise ConfigError(
            f"{user} needs FAISS, which is not installed: pip install faiss-cpu, or set {way_out}"
        ) from error
