"""Large batches on small memory: the encoder takes a few rows at a time, the loss sees all."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from sslcore.errors import ShapeError


def encode_in_parts(encoder: nn.Module, view: Any, *, rows: int) -> Tensor:
    """Encode `view` some rows at a time, and in the backward pass again, part by part.

    Only the features of all rows and the activations of one part are in memory together. Value
    and gradient are those of the whole batch where the encoder treats every row by itself. A
    batch norm does not: it normalises by the part it sees, and its running statistics move once
    for each part, as if each were a batch. Costs one more forward pass.

    Args:
        encoder: From a view to `[batch, dim]`.
        view: `[batch, ...]`.
        rows: In a part, at most; parts are as equal as they can be.

    Returns:
        `[batch, dim]`.

    Raises:
        ShapeError: A view that has no rows to take, or fewer than one row in a part.

    Source:
        Gao et al., "Scaling deep contrastive learning batch size under memory limited setup",
        2021, arXiv:2101.06983, section 3. Instead of a cache of the gradients of the features,
        autograd asks each part for its gradient in turn, which comes to the same.
    """
    if not isinstance(view, Tensor) or not view.ndim:
        raise ShapeError(
            f"a micro-batch is rows of a tensor, and a view is a {type(view).__name__}; leave"
            " run.micro_batch out"
        )
    if rows < 1:
        raise ShapeError(f"expected a micro-batch of at least one row, got {rows}")
    parts = torch.tensor_split(view, max(1, -(-len(view) // rows)))
    if len(parts) == 1 or not torch.is_grad_enabled():
        return torch.cat([encoder(part) for part in parts])
    return torch.cat([_encode_twice(encoder, part) for part in parts])


def _encode_twice(encoder: nn.Module, part: Tensor) -> Tensor:
    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _still_statistics(encoder)

    features: Tensor = checkpoint(encoder, part, use_reentrant=False, context_fn=contexts)
    return features


@contextmanager
def _still_statistics(module: nn.Module) -> Iterator[None]:
    """Keep the running statistics of batch norms where they are; they have seen these rows.

    A momentum of 0 leaves mean and variance alone without writing to them, which the backward
    pass would take for a change of what it saved. The counter moves on in a copy.
    """
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    kept = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm, _, count in kept:
        norm.momentum = 0.0
        norm.num_batches_tracked = None if count is None else count.clone()
    try:
        yield
    finally:
        for norm, momentum, count in kept:
            norm.momentum = momentum
            norm.num_batches_tracked = count
