"""A ring of past keys, used as negatives."""

import torch
from torch import Tensor, nn

from sslcore.distributed import gather_rows
from sslcore.errors import ShapeError
from sslcore.numerics import unit_rows


class FeatureQueue(nn.Module):
    """The last `size` keys, `[size, dim]`, random directions before the first are pushed.

    All of it is in the state dict, so a resumed run goes on with the same negatives.
    """

    keys: Tensor
    cursor: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        if size < 1 or dim < 1:
            raise ShapeError(f"expected a queue of at least one key, got {size} x {dim}")
        self.register_buffer("keys", unit_rows(torch.randn(size, dim)))
        self.register_buffer("cursor", torch.zeros((), dtype=torch.long))
        self._staged: list[Tensor] = []

    def stage(self, *keys: Tensor) -> None:
        """Keep keys of this step, each `[batch, dim]`, for `push_staged`; only in training.

        A forward pass must not move the queue: it may be repeated, and others compare with it.
        """
        if self.training:
            self._staged = [each.detach() for each in keys]

    def push_staged(self) -> None:
        """Push what was staged, of all processes."""
        for keys in self._staged:
            self.push(gather_rows(keys))
        self._staged = []

    @torch.no_grad()
    def push(self, keys: Tensor) -> Tensor:
        """Overwrite the oldest entries with `keys`, `[batch, dim]`, wrapping at the end.

        Returns:
            Where each key now stands, `[batch]`.

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
        self.cursor.copy_((self.cursor + len(keys)) % size)
        return slots
