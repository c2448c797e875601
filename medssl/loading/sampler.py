"""Which rows each step reads, as a pure function of the seed and the number of the step."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch.utils.data import Sampler

from sslcore.errors import ConfigError
from sslcore.random import derive_keys

_ORDER = 0x0DE2  # keeps the order's keys apart from those of the views


class Step(NamedTuple):
    """The rows one process reads for one step.

    Attributes:
        epoch: From 0.
        rows: Of the manifest.
    """

    epoch: int
    rows: list[int]


class StepSampler(Sampler[Step]):
    """Walks through shuffled epochs from any step on; an epoch's last short batch is dropped.

    Attributes:
        steps_per_epoch: Whole batches in the data.
        world: Processes that train together.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        *,
        seed: int,
        first_step: int = 0,
        last_step: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """Plan the steps `first_step` to `last_step - 1`.

        Args:
            num_samples: Rows of the manifest.
            batch_size: Of all processes together.
            seed: Decides, with the epoch, the order.
            first_step: Where a resumed run continues.
            last_step: One past the last.
            rank: Which slice of every batch is ours.
            world: Number of slices.

        Raises:
            ConfigError: Fewer rows than one batch, or a batch that does not divide by `world`.
        """
        if num_samples < batch_size:
            raise ConfigError(
                f"a batch of {batch_size} needs as many images, got {num_samples};"
                f" use --batch-size {max(2, num_samples // 2)}"
            )
        if batch_size % world:
            raise ConfigError(f"batch_size {batch_size} does not divide by {world} processes")
        self.steps_per_epoch = num_samples // batch_size
        self.world = world
        self._num_samples = num_samples
        self._batch_size = batch_size
        self._seed = seed
        self._steps = range(first_step, last_step)
        self._slice = slice(
            rank * batch_size // world,
            (rank + 1) * batch_size // world,
        )

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[Step]:
        order: list[int] = []
        ordered_epoch = -1
        for step in self._steps:
            epoch, position = divmod(step, self.steps_per_epoch)
            if epoch != ordered_epoch:
                order, ordered_epoch = self._order(epoch), epoch
            batch = order[position * self._batch_size : (position + 1) * self._batch_size]
            yield Step(epoch, batch[self._slice])

    def _order(self, epoch: int) -> list[int]:
        """Shuffle by sorting hashes, which no library version changes."""
        keys = derive_keys(torch.arange(self._num_samples), _ORDER, self._seed, epoch)
        order: list[int] = torch.argsort(keys, stable=True).tolist()
        return order
