"""A ring of past keys, used as negatives."""

import torch
from torch import Tensor, nn

from sslcore.distributed import gather_rows
from sslcore.errors import ShapeError
from sslcore.numerics import unit_rows


class FeatureQueue(nn.Module):
    """The last `size` keys, `[size, dim]`, random directions before the first are pushed.

    All of it is in the state dict, so a resumed run goes on with the same negatives.

    Attributes:
        keys: In any order, `[size, dim]`.
        ids: Number of the sample that each key is of, `[size]`; -1 where nobody said, and where
            nothing was pushed yet.
        filled: How many keys were pushed, at most `size`; a scalar.
        cursor: Where the next key goes; a scalar.
    """

    keys: Tensor
    ids: Tensor
    filled: Tensor
    cursor: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        if size < 1 or dim < 1:
            raise ShapeError(f"expected a queue of at least one key, got {size} x {dim}")
        self.register_buffer("keys", unit_rows(torch.randn(size, dim)))
        self.register_buffer("ids", torch.full((size,), -1))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))
        self.register_buffer("cursor", torch.zeros((), dtype=torch.long))
        self._staged: list[tuple[Tensor, Tensor | None]] = []

    @property
    def pushed(self) -> Tensor:
        """The keys without random directions, `[filled, dim]`."""
        return self.keys[: int(self.filled)]

    def owned(self, ids: Tensor | None) -> Tensor | None:
        """Tell which keys are of the samples `ids`, `[batch]`: `[batch, size]`; None without ids.

        A sample's own past keys are no negatives of it. A queue holds some wherever it goes back
        to the last epoch.
        """
        return None if ids is None else ids[:, None] == self.ids

    def of_others(self, ids: Tensor | None) -> Tensor:
        """Return the keys of `pushed` that are of none of the samples `ids`; all without ids."""
        if ids is None:
            return self.pushed
        return self.pushed[torch.isin(self.ids[: int(self.filled)], ids, invert=True)]

    def stage(self, *keys: Tensor, ids: Tensor | None = None) -> None:
        """Keep keys of this step, each `[batch, dim]`, for `push_staged`; only in training.

        A forward pass must not move the queue: it may be repeated, and others compare with it.

        Args:
            keys: Brought to length 1, in the precision of the queue.
            ids: Of their samples, `[batch]`; not negative.
        """
        if self.training:
            self._staged = [(unit_rows(each.detach().to(self.keys)), ids) for each in keys]

    def push_staged(self) -> None:
        """Push what was staged, of all processes."""
        for keys, ids in self._staged:
            self.push(gather_rows(keys), None if ids is None else gather_rows(ids))
        self._staged = []

    @torch.no_grad()
    def push(self, keys: Tensor, ids: Tensor | None = None) -> None:
        """Overwrite the oldest entries with `keys`, `[batch, dim]`, wrapping at the end.

        Args:
            keys: Taken as they are.
            ids: Of their samples, `[batch]`.

        Raises:
            ShapeError: If the keys are of another width, or more than the queue holds.
        """
        size, dim = self.keys.shape
        if keys.ndim != 2 or keys.shape[1] != dim:
            raise ShapeError(f"expected keys [batch, {dim}], got {tuple(keys.shape)}")
        if len(keys) > size:
            raise ShapeError(
                f"a batch of {len(keys)} keys does not fit a queue of {size};"
                " make the queue larger or the batch smaller"
            )
        slots = (self.cursor + torch.arange(len(keys), device=self.keys.device)) % size
        self.keys[slots] = keys.to(self.keys)
        self.ids[slots] = -1 if ids is None else ids
        self.cursor.copy_((self.cursor + len(keys)) % size)
        self.filled.add_(len(keys)).clamp_(max=size)
