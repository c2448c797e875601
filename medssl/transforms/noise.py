"""Additive noise."""

import torch
from torch import Tensor

from medssl.transforms.base import BatchedTransform, Params, change_rows, per_image, unless
from sslcore.random import SampleRandom, derive_keys

_TABLE_ROWS, _TABLE_COLUMNS = 2048, 512  # 4 MB of normal numbers
_TABLE_SEED = 0x4E01


class RandGaussianNoise(BatchedTransform):
    """Add normal noise of a random strength to each image.

    The noise of an image is a stretch of one long table of normal numbers, from a random place
    on. Drawing every pixel by itself costs more than all other transforms together, and the
    encoder cannot learn a table of which it sees about a million different stretches.
    """

    def __init__(self, *, low: float = 0.0, high: float = 0.05, prob: float = 0.3) -> None:
        """Draw the standard deviation, for values of 0 to 1, between `low` and `high`."""
        super().__init__(prob)
        self.low = low
        self.high = high
        self._table: Tensor | None = None

    def sample(self, random: SampleRandom) -> dict[str, Tensor]:
        """Draw `std` and `place`, 0 to 1, `[batch]`."""
        draws = random.uniform(shape=(3,))
        std = self.low + (self.high - self.low) * draws[:, 1]
        return {"std": unless(draws[:, 0] < self.prob, std, 0), "place": draws[:, 2]}

    def apply_(self, images: Tensor, params: Params) -> Tensor:
        """Like `apply`, but may overwrite `images`; clipped to 0 to 1."""
        std, place = params["std"], params["place"]
        return change_rows(self._add, images, std > 0, std, place)

    def _add(self, images: Tensor, std: Tensor, place: Tensor) -> Tensor:
        length = images[0].numel()
        stretches = self._numbers(images.device, length).unfold(0, length, 1)
        start = (place * len(stretches)).long().clamp_(max=len(stretches) - 1)
        noise = stretches.index_select(0, start).view_as(images)
        return images.addcmul_(noise, per_image(std, images)).clamp_(0, 1)

    def _numbers(self, device: torch.device, length: int) -> Tensor:
        """Return the table, long enough for images of `length` values, made once per device."""
        wanted = max(_TABLE_ROWS, -(-4 * length // _TABLE_COLUMNS))
        if self._table is None or self._table.device != device or len(self._table) < wanted:
            keys = derive_keys(torch.arange(wanted, device=device), _TABLE_SEED)
            self._table = SampleRandom(keys).normal(shape=(_TABLE_COLUMNS,))
        return self._table.flatten()
