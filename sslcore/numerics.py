"""Numerical guards shared by the objectives."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from sslcore.errors import ShapeError

ObjectiveT = TypeVar("ObjectiveT", bound=Callable[..., Any])


def in_full_precision(objective: ObjectiveT) -> ObjectiveT:
    """Run an objective outside autocast, all its tensors in float32 or wider.

    In bfloat16 a covariance is about 1 % off, and a sum over a batch worse. Integers and masks
    among the named arguments stay what they are.
    """

    @wraps(objective)
    def guarded(*tensors: Tensor, **options: Any) -> Any:
        with torch.autocast(tensors[0].device.type, enabled=False):
            wide = {name: _widen_option(value) for name, value in options.items()}
            return objective(*map(_widen, tensors), **wide)

    return cast("ObjectiveT", guarded)


def _widen_option(value: Any) -> Any:
    return _widen(value) if isinstance(value, Tensor) and value.is_floating_point() else value


def _widen(value: Tensor) -> Tensor:
    return value.to(torch.promote_types(value.dtype, torch.float32))


def unit_rows(z: Tensor, *, tiny: float = 1e-12) -> Tensor:
    """Return the rows of `z`, `[..., dim]`, at length 1.

    A row is divided by its largest entry first, so that neither a huge nor a small one leaves the
    range of its dtype. A row whose entries are all below `tiny` has no direction: it is returned
    as it is, with a gradient of ordinary size (`F.normalize` gives it one of 1e12).
    """
    peak = z.detach().abs().amax(dim=-1, keepdim=True)
    scaled = z / torch.where(peak < tiny, 1.0, peak)
    length: Tensor = torch.linalg.vector_norm(scaled, dim=-1, keepdim=True)
    return scaled / length.clamp_min(1.0)  # a scaled row is at least 1 long, unless it is tiny


def require_pair(z_a: Tensor, z_b: Tensor, *, min_rows: int = 2) -> None:
    """Raise `ShapeError` unless both are `[batch, dim]`, of one shape, with enough rows."""
    if z_a.ndim != 2 or z_a.shape != z_b.shape:
        raise ShapeError(
            f"expected two [batch, dim] tensors of one shape,"
            f" got {tuple(z_a.shape)} and {tuple(z_b.shape)}"
        )
    if z_a.shape[0] < min_rows:
        raise ShapeError(f"expected at least {min_rows} rows, got {z_a.shape[0]}")
