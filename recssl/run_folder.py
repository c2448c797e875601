"""What one training leaves on disk, and when it may be continued.

RUN/
    config.yaml             everything that decides the result, resolved
    log.jsonl               one line per step
    health.jsonl            one line per health check
    checkpoint/             see `sslcore.training.checkpoint`
    encoder.safetensors     weights of the best step, with encoder.json beside it
    embeddings.safetensors  the result: users and items, ready for inner products; its metadata says
                            of which data set, by which method, of which step
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from recssl.settings.train import TrainConfig
from sslcore.config import dump_config, resolve_config
from sslcore.errors import CheckpointError
from sslcore.files import whole_file, write_text
from sslcore.training.checkpoint import write_tensors
from sslcore.training.run_folder import TrainingFolder, require_same_settings

MAY_DIFFER = frozenset(
    {"data.path", "run.device", "run.checkpoint_minutes"}  # the fingerprint tells the data
)
_FORMAT = 1
_ABOUT = "about"  # key of the metadata, a JSON text


@dataclass(frozen=True, slots=True)
class EmbeddingsInfo:
    """Where embeddings come from.

    Attributes:
        fingerprint: Of the data set.
        data: Its folder, absolute.
        method: Such as `mf+sampled_softmax`.
        dim: Columns.
        step: Optimiser steps behind them.
        similarity: How a user and an item are compared.
        popularity: Weight of popularity in the last column, see `recssl.popularity_column`; 0 if
            there is no such column.
    """

    fingerprint: str
    data: str
    method: str
    dim: int
    step: int
    similarity: str = "dot"
    popularity: float = 0.0


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The result of a run: the score of an item for a user is the inner product of their rows.

    Attributes:
        users: `[num_users, dim]`, float32.
        items: `[num_items, dim]`, float32.
        info: Where they come from.
    """

    users: NDArray[np.float32]
    items: NDArray[np.float32]
    info: EmbeddingsInfo


@dataclass(frozen=True, slots=True)
class RunFolder(TrainingFolder):
    """Names of the files of one run."""

    @property
    def embeddings(self) -> Path:
        """Users and items."""
        return self.path / "embeddings.safetensors"

    def read_config(self) -> TrainConfig:
        """Read the configuration of the run.

        Raises:
            ConfigError: There is none, or it is damaged.
        """
        return resolve_config(TrainConfig, file=self.config)

    def write_config(self, config: TrainConfig) -> None:
        """Write the configuration, whole or not at all."""
        write_text(self.config, dump_config(config))

    @contextmanager
    def opened(self, config: TrainConfig, *, resume: bool) -> Iterator[None]:
        """Claim the folder; see `TrainingFolder.claimed`.

        Raises:
            ConfigError: The run was begun with other settings, or on another data set.
        """
        with self.claimed(lambda: self.write_config(config), resume=resume):
            if resume:
                stored = self.read_config()
                require_same_settings(config, stored, place=self.config, may_differ=MAY_DIFFER)
                self.write_config(config)
            yield

    def write_embeddings(self, embeddings: Embeddings) -> None:
        """Write users and items, and where they come from, as one file: whole or not at all.

        Raises:
            OutputError: The disk is full, or the place cannot be written.
        """
        with whole_file(self.embeddings) as draft:
            sides = {"users": embeddings.users, "items": embeddings.items}
            tensors = {name: torch.from_numpy(rows) for name, rows in sides.items()}
            about = json.dumps({"format": _FORMAT, **asdict(embeddings.info)})
            write_tensors(draft, tensors, {_ABOUT: about})

    def read_embeddings(self) -> Embeddings:
        """Read what `write_embeddings` wrote.

        Raises:
            CheckpointError: There are none yet, or they are damaged or of another version.
        """
        if not self.embeddings.exists():
            raise CheckpointError(
                f"{self.path} holds no embeddings; train first, or finish with --resume"
            )
        try:
            with safe_open(self.embeddings, framework="np") as file:
                about: dict[str, Any] = json.loads((file.metadata() or {}).get(_ABOUT, "{}"))
                if {"fingerprint", "data"} - about.keys():
                    raise CheckpointError(
                        f"{self.embeddings} lacks fingerprint or data; train again"
                    )
                if about.pop("format") != _FORMAT:
                    raise CheckpointError(f"{self.embeddings}: of another version; train again")
                users, items = (file.get_tensor(name) for name in ("users", "items"))
            if not (np.isfinite(users).all() and np.isfinite(items).all()):
                raise CheckpointError(f"{self.embeddings}: not all numbers are finite; train again")
            return Embeddings(users, items, EmbeddingsInfo(**about))
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise CheckpointError(f"{self.embeddings}: damaged ({error}); train again") from error
