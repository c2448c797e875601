"""Rows of all processes in one tensor; the identity for a single process."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Return the number of processes that train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather_rows(z: Tensor) -> Tensor:
    """Concatenate `z` of all processes, in the order of their ranks; gradients flow back.

    Every process then computes the same loss on the joined rows. Together with the mean of the
    gradients that `DistributedDataParallel` takes, value and gradient are those of one process
    with the joined batch.

    Args:
        z: `[batch, ...]`, of one shape on all processes (so drop a last, smaller batch).

    Returns:
        `[world_size * batch, ...]`; with one process `z` itself.
    """
    if world_size() == 1:
        return z
    gathered: Tensor = _GatherRows.apply(z)  # type: ignore[no-untyped-call]
    return gathered


def own_part(rows: Tensor) -> Tensor:
    """Return this process's part of rows that all processes hold; each row is in one part."""
    if world_size() == 1:
        return rows
    return rows[dist.get_rank() :: world_size()]


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.rows = z.shape[0]
        parts = [torch.empty_like(z) for _ in range(world_size())]
        dist.all_gather(parts, z.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        # Each process used these rows in its own copy of the loss, so its part is the sum of what
        # all of them ask for. The mean over processes that follows makes up for the copies.
        total = grads[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.narrow(0, dist.get_rank() * ctx.rows, ctx.rows)
