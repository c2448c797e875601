"""Random numbers that depend on the sample, not on the batch it happens to be in.

Every sample has a key, and every draw of a sample is a hash of its key and the number of the
draw. So a sample gets the same augmentation alone or in a batch, on any number of processes and
after any resume, and a whole batch is drawn with a few tensor operations on the device.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Fix torch's random state inside the block, and leave it outside as it was.

    For what takes no generator of its own: the first weights of layers, and dropout.
    """
    awake = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    used = [torch.cuda.current_device()] if awake else []  # by default all GPUs would wake up
    with torch.random.fork_rng(devices=used):
        torch.manual_seed(seed)
        yield


def derive_keys(indices: Tensor, *parts: int) -> Tensor:
    """Return one key per sample, `[batch]`, from its index and what else it depends on.

    Args:
        indices: Positions in the data set, `[batch]`, integers.
        parts: For example the seed, the epoch and the number of the view.
    """
    keys = torch.zeros_like(indices, dtype=torch.int64)
    for part in parts:
        keys = _hash(keys + part)
    return _hash(keys + indices)


class SampleRandom:
    """One independent random stream per sample.

    Source:
        The hash is SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number
        generators", OOPSLA 2014, used with the draw's number as a counter.
    """

    def __init__(self, keys: Tensor) -> None:
        """Start the streams of `keys`, `[batch]`, int64."""
        self._keys = keys
        self._draws = 0

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def device(self) -> torch.device:
        """Where the draws are made."""
        return self._keys.device

    def uniform(
        self, low: float = 0.0, high: float = 1.0, *, shape: tuple[int, ...] = ()
    ) -> Tensor:
        """Draw from `[low, high]`, `[batch, *shape]`, float32; `high` only by rounding."""
        return low + (high - low) * self._unit(shape)

    def normal(self, mean: float = 0.0, std: float = 1.0, *, shape: tuple[int, ...] = ()) -> Tensor:
        """Draw from a normal distribution, `[batch, *shape]`, float32 (Box-Muller)."""
        radius = torch.sqrt(-2 * torch.log1p(-self._unit(shape)))
        return mean + std * radius * torch.cos(2 * math.pi * self._unit(shape))

    def integers(self, count: int) -> Tensor:
        """Draw from `0 .. count - 1`, `[batch]`, int64."""
        return (self._unit(()) * count).long()

    def chance(self, probability: float) -> Tensor:
        """Draw booleans that are true with `probability`, `[batch]`."""
        return self._unit(()) < probability

    def _unit(self, shape: tuple[int, ...]) -> Tensor:
        count = math.prod(shape)
        numbers = torch.arange(self._draws, self._draws + count, device=self.device)
        self._draws += count
        bits = _hash(self._keys[:, None] + (numbers + 1) * _GOLDEN)
        unit = _shift_right(bits, 40).to(torch.float32) * 2.0**-24
        return unit.reshape(len(self), *shape)


def _hash(z: Tensor) -> Tensor:
    z = z + _GOLDEN
    z = (z ^ _shift_right(z, 30)) * _MIX_1
    z = (z ^ _shift_right(z, 27)) * _MIX_2
    return z ^ _shift_right(z, 31)


def _shift_right(z: Tensor, bits: int) -> Tensor:
    """Shift without carrying the sign."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)
