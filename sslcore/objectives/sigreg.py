"""SIGReg: how far projections are from a standard normal distribution, seen along lines."""

import torch
from torch import Tensor

from sslcore.errors import ShapeError
from sslcore.numerics import in_full_precision

_REACH = 5.0  # of the integral, either way
_POINTS = 9  # on one side of it, with the middle: 17 on both


@in_full_precision
def sigreg_loss(z: Tensor, directions: Tensor) -> Tensor:
    """Return the Epps-Pulley statistic of `z` along each direction, averaged over directions.

    For each direction the squared distance of two characteristic functions, that of the values and
    that of the standard normal distribution, weighted by the latter, is integrated from -5 to 5
    and multiplied by the number of rows. It is even in its variable, so that one half is enough.

    Args:
        z: Projections, `[batch, dim]`, any float dtype, not normalised.
        directions: Columns of length 1, `[dim, directions]`.

    Returns:
        A scalar, 0 or more, in float32 or wider; about 1.06 if the rows are drawn from the normal
        distribution, in proportion to the batch if they are not.

    Raises:
        ShapeError: The shapes do not fit, or there is no row or no direction.

    Source:
        Balestriero, LeCun, "LeJEPA", 2025, arXiv:2511.08544, section 4.2: 17 points of the
        trapezoidal rule. The authors' later code integrates from -3 to 3.
    """
    if z.ndim != 2 or directions.ndim != 2 or z.shape[1] != len(directions) or not z.shape[0]:
        raise ShapeError(
            f"expected [batch, dim] and [dim, directions], got {tuple(z.shape)},"
            f" {tuple(directions.shape)}"
        )
    if not directions.shape[1]:
        raise ShapeError("expected one direction or more, got none")
    t = torch.linspace(0, _REACH, _POINTS, dtype=z.dtype, device=z.device)
    normal = torch.exp(-t.square() / 2)
    weights = normal * (2 * _REACH / (_POINTS - 1))
    weights[[0, -1]] /= 2
    angles = (z @ directions.to(z.dtype))[..., None] * t
    distance = (angles.cos().mean(dim=0) - normal).square() + angles.sin().mean(dim=0).square()
    return len(z) * (distance @ weights).mean()
