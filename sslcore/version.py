"""Versions of this project and of what it stands on, without importing any of it."""

from importlib import metadata

DISTRIBUTION = "medrec-ssl"


def version_of(distribution: str) -> str | None:
    """Return the installed version of a distribution, None if it is missing."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def project_version() -> str:
    """Return this project's version, or say that it runs from a checkout without installation."""
    return version_of(DISTRIBUTION) or "not installed, run from a checkout"
