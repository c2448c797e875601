"""An upper bound on the gradient norm, also where embedding tables have row-sparse gradients."""

from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn


def clip_gradients(model: nn.Module, stepper: Any, *, fabric: Fabric, max_norm: float) -> Tensor:
    """Scale all gradients of `model` so that their joint norm is at most `max_norm`.

    Row-sparse gradients, such as those of `nn.Embedding(sparse=True)`, become coalesced: each row
    stands in them once, and counts once.

    Args:
        model: As set up by `fabric`.
        stepper: Its optimiser, as set up by `fabric`.
        fabric: Of the run.
        max_norm: Upper bound.

    Returns:
        The norm before clipping, a scalar.
    """
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    if not any(gradient.is_sparse for gradient in gradients):
        norm = fabric.clip_gradients(model, stepper, max_norm=max_norm, error_if_nonfinite=False)
        if norm is None:
            raise TypeError("this Fabric strategy returns no gradient norm")
        return torch.as_tensor(norm)
    fabric.strategy.precision.unscale_gradients(stepper)
    numbers = [_numbers(parameter) for parameter in model.parameters()]
    norms = [torch.linalg.vector_norm(values) for values in numbers if values is not None]
    total: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    factor = (max_norm / (total + 1e-6)).clamp(max=1.0)  # 1e-6 as in torch's own function
    for values in numbers:
        if values is not None:
            values.mul_(factor)
    return total


def _numbers(parameter: Tensor) -> Tensor | None:
    """Return the entries of a parameter's gradient, in memory that is shared with it."""
    if parameter.grad is None or not parameter.grad.is_sparse:
        return parameter.grad
    coalesced = parameter.grad.coalesce()
    parameter.grad = coalesced
    values: Tensor = coalesced.values()
    return values
