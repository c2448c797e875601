"""What a run cannot do, told before any time is spent on data."""

from pathlib import Path

from medssl.backbones import KNOWN
from medssl.config import PretrainConfig
from medssl.hub_backbones import HUB_KNOWN
from medssl.run_data import choose_backbone
from medssl.run_folder import RunFolder
from sslcore.config import suggest
from sslcore.errors import ConfigError


def check_names(config: PretrainConfig) -> None:
    """Raise `ConfigError` for an unknown backbone, before any time is spent on data."""
    name = choose_backbone(config)
    known = (*KNOWN, *HUB_KNOWN)
    if name not in known:
        raise ConfigError(f"backbone.name: unknown {name!r}; {suggest(name, known)}")
    if config.data.dims == 3:
        _check_volumes(config, name)
    weights = config.backbone.weights
    if weights and name not in HUB_KNOWN and not RunFolder(Path(weights)).encoder.exists():
        raise ConfigError(
            f"backbone.weights {weights}: {name} takes the folder of an earlier run; those of"
            f" transformers are for {', '.join(HUB_KNOWN)}, set backbone.name"
        )


def check_micro_batch(config: PretrainConfig) -> None:
    """Raise `ConfigError` for a micro-batch that the method would go past."""
    if config.run.micro_batch is not None and config.method.needs_tokens:
        raise ConfigError(
            f"run.micro_batch {config.run.micro_batch}: {config.method.name} reads the patches of"
            " whole batches; leave it out, or lower run.batch_size"
        )


def _check_volumes(config: PretrainConfig, name: str) -> None:
    if name in HUB_KNOWN:
        raise ConfigError(
            f"backbone.name {name} is for images; volumes (data.dims 3) need one of"
            f" {', '.join(KNOWN)}"
        )
    if config.method.needs_squares:
        raise ConfigError(
            f"method.name {config.method.name} is for images; volumes (data.dims 3) need another"
            " method, such as simclr or mae"
        )
