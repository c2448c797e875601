"""Losses row by row in blocks, so that no matrix of batch x batch is kept for the gradient."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

RowLosses = Callable[[Tensor], Tensor]


def mean_in_blocks(
    losses: RowLosses, count: int, *, block: int | None, device: torch.device
) -> Tensor:
    """Return the mean of the losses of `count` rows, computed `block` rows at a time.

    What a block computes is dropped and computed once more for the gradient, which is that of the
    whole: memory grows with `count * block` instead of `count` squared.

    Args:
        losses: From the numbers of some rows, `[rows]`, to their losses, `[rows]`.
        count: Rows in all.
        block: Rows at a time; None for all at once.
        device: Of the rows.
    """
    rows = torch.arange(count, device=device)
    if block is None or block >= count:
        return losses(rows).mean()
    parts = [
        checkpoint(losses, part, use_reentrant=False, preserve_rng_state=False)
        for part in torch.split(rows, block)
    ]
    return torch.cat(parts).sum() / count
