"""What one pretraining leaves on disk, and when it may be continued.

RUN/
    config.yaml           everything that decides the result, resolved
    manifest.parquet      the data, all splits; rejected.parquet beside it if a folder was scanned
    log.jsonl             one line per step
    health.jsonl          one line per health check
    checkpoint/           see `sslcore.training.checkpoint`
    encoder.safetensors   the result, with encoder.json: how to rebuild it
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from medssl.config import PretrainConfig
from sslcore.config import dump_config, resolve_config
from sslcore.files import write_text
from sslcore.training.run_folder import TrainingFolder, require_same_settings

MAY_DIFFER = frozenset(
    {
        "data.workers",
        "data.cache_gb",
        "data.store",
        "data.store_gb",
        "run.device",
        "run.checkpoint_minutes",
        "run.health_every",
    }
)  # not run.health_samples: mean and deviation of the data are taken from those images


@dataclass(frozen=True, slots=True)
class RunFolder(TrainingFolder):
    """Names of the files of one run."""

    @property
    def manifest(self) -> Path:
        """The data."""
        return self.path / "manifest.parquet"

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
        """Claim the folder; see `TrainingFolder.claimed`."""
        with self.claimed(lambda: self.write_config(config), resume=resume):
            yield


def require_same_config(given: PretrainConfig, stored: PretrainConfig, *, place: Path) -> None:
    """Refuse to continue a run with settings that change its result.

    The length of the run is one of them, since the learning rate follows it.

    Raises:
        ConfigError: Naming each key that differs, with both values.
    """
    require_same_settings(given, stored, place=place, may_differ=MAY_DIFFER)
