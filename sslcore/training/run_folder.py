"""The folder of a run: claimed by one process, and continued only with the settings it had."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sslcore.config import Section
from sslcore.errors import ConfigError, OutputError, SSLError
from sslcore.files import (
    in_use,
    output_errors,
    remove_drafts,
    require_local,
    require_new_folder,
)


@dataclass(frozen=True, slots=True)
class TrainingFolder:
    """Names of the files that the run of every domain leaves."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def log(self) -> Path:
        """One line per step."""
        return self.path / "log.jsonl"

    @property
    def health(self) -> Path:
        """One line per health check."""
        return self.path / "health.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints."""
        return self.path / "checkpoint"

    @property
    def encoder(self) -> Path:
        """Weights of the encoder."""
        return self.path / "encoder.safetensors"

    @contextmanager
    def claimed(self, begin: Callable[[], None], *, resume: bool) -> Iterator[None]:
        """Claim the folder: a new one, or one that holds a run to continue.

        A new run that fails before its first step leaves nothing behind, so that the same command
        can be given again with the mistake mended.

        Args:
            begin: Writes what a new run starts with.
            resume: Whether a run must be there already.

        Raises:
            OutputError: The folder is taken, in use, cannot be written, or holds no run.
        """
        if resume and not self.config.is_file():
            raise OutputError(f"{self.path} holds no run to continue; start it without --resume")
        require_local(self.path)
        with output_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        with in_use(self.path):
            remove_drafts(self.path)
            remove_drafts(self.checkpoints)
            if resume:
                yield
                return
            require_new_folder(
                self.path, way_out="continue it with --resume, or give another name with --out"
            )
            try:
                begin()
                yield
            except SSLError:
                if not self.log.exists():
                    shutil.rmtree(self.path)
                raise


def require_same_settings(
    given: Section, stored: Section, *, place: Path, may_differ: frozenset[str]
) -> None:
    """Refuse to continue a run with settings that change its result.

    Args:
        given: Now.
        stored: Of the run.
        place: Where `stored` was read.
        may_differ: Dotted keys that do not change the result.

    Raises:
        ConfigError: Naming each key that differs, with both values.
    """
    new, old = _flat(given.model_dump(mode="json")), _flat(stored.model_dump(mode="json"))
    differing = [
        f"  {key}: {old.get(key)} in the run, now {new.get(key)}"
        for key in sorted(new.keys() | old.keys())
        if key not in may_differ and new.get(key) != old.get(key)
    ]
    if differing:
        raise ConfigError(
            "the run cannot be continued with other settings; use its own, or another --out\n"
            + "\n".join([f"  ({place})", *differing])
        )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
