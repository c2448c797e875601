"""A random order of many numbers that is computed, not stored."""

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 6
_AT_ONCE = 1 << 14  # numbers whose temporary arrays stay in the processor's cache
_MIX = np.uint64(0xFF51AFD7ED558CCD)
_HALF = np.uint64(32)


class Permutation:
    """A pseudo-random permutation of `0 .. size - 1` that takes no memory.

    Numbers are written as a row and a column of a nearly square table. A Feistel network moves
    in turn each row by a hash of its number, and each column, which permutes the table. A result
    in the few places beyond `size - 1` is sent through again until it lands inside, which keeps
    the whole a permutation (cycle walking).

    Source:
        Black, Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002, sections 3 to 5.
        The hash is made like MurmurHash3's 64-bit finaliser.
    """

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        """Draw the round keys from `rng`; `size` is in `1 .. 2 ** 62`."""
        self._size = size
        columns = max(2, round(size**0.5))
        self._columns = np.uint64(columns)
        self._rows = np.uint64(max(2, -(-size // columns)))
        self._keys = rng.integers(0, 1 << 64, size=_ROUNDS, dtype=np.uint64)

    def __call__(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number at each of `positions`, which lie in `0 .. size - 1`."""
        numbers = np.empty(len(positions), dtype=np.int64)
        for start in range(0, len(positions), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            numbers[part] = self._mix_inside(positions[part].astype(np.uint64))
        return numbers

    def _mix_inside(self, positions: NDArray[np.uint64]) -> NDArray[np.uint64]:
        numbers = self._mix(positions)
        outside = np.flatnonzero(numbers >= self._size)
        while len(outside):
            numbers[outside] = again = self._mix(numbers[outside])
            outside = outside[again >= self._size]
        return numbers

    def _mix(self, numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
        row = numbers // self._columns
        column = numbers - row * self._columns
        for keys in self._keys.reshape(-1, 2):
            _move(row, column, keys[0], self._rows)
            _move(column, row, keys[1], self._columns)
        row *= self._columns
        row += column
        return row


def _move(
    places: NDArray[np.uint64], others: NDArray[np.uint64], key: np.uint64, count: np.uint64
) -> None:
    """Add a hash of `others` to `places`, modulo `count`, in place."""
    moves = others ^ key
    moves *= _MIX
    moves ^= moves >> _HALF
    moves *= _MIX
    moves >>= _HALF
    moves *= count
    moves >>= _HALF
    places += moves
    # below count the difference wraps around and is the larger one
    np.subtract(places, count, out=moves)
    np.minimum(places, moves, out=places)
