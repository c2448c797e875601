"""What one pretraining leaves on disk, and when it may be continued.

RUN/
    config.yaml           everything that decides the result, resolved
    manifest.parquet      the data, all splits; rejected.parquet beside it if a folder was scanned
    log.jsonl             one line per step
    health.jsonl          one line per health check
    checkpoint/           see `sslcore.training.checkpoint`
    encoder.safetensors   the result, with encoder.json: how to rebuild it
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medssl.config import PretrainConfig
from sslcore.config import dump_config, resolve_config
from sslcore.errors import ConfigError, OutputError, SSLError
from sslcore.files import in_use, output_errors, remove_drafts, require_new_folder, write_text

MAY_DIFFER = frozenset(
    {
        "data.workers",
        "data.cache_gb",
        "run.device",
        "run.checkpoint_minutes",
        "run.health_every",
    }
)  # not run.health_samples: mean and deviation of the data are taken from those images


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Names of the files of one run."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def manifest(self) -> Path:
        """The data."""
        return self.path / "manifest.parquet"

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

    def read_config(self) -> PretrainConfig:
        """Read the configuration of the run.

        Raises:
            ConfigError: There is none, or it is damaged.
        """
        return resolve_config(PretrainConfig, file=self.config)

    def write_config(self, config: PretrainConfig) -> None:
        """Write the configuration, whole or not at all."""
        write_text(self.config, dump_config(config))

    @contextmanager
    def opened(self, config: PretrainConfig, *, resume: bool) -> Iterator[None]:
        """Claim the folder: a new one, or one that holds a run to continue.

        A new run that fails before its first step leaves nothing behind, so that the same command
        can be given again with the mistake mended.

        Raises:
            OutputError: The folder is taken, in use, cannot be written, or holds no run.
        """
        if resume and not self.config.is_file():
            raise OutputError(f"{self.path} holds no run to continue; start it without --resume")
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
                self.write_config(config)
                yield
            except SSLError:
                if not self.log.exists():
                    shutil.rmtree(self.path)
                raise


def require_same_config(given: PretrainConfig, stored: PretrainConfig, *, place: Path) -> None:
    """Refuse to continue a run with settings that change its result.

    The length of the run is one of them, since the learning rate follows it.

    Raises:
        ConfigError: Naming each key that differs, with both values.
    """
    new, old = _flat(given.model_dump(mode="json")), _flat(stored.model_dump(mode="json"))
    differing = [
        f"  {key}: {old.get(key)} in the run, now {new.get(key)}"
        for key in sorted(new.keys() | old.keys())
        if key not in MAY_DIFFER and new.get(key) != old.get(key)
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
