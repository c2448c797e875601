"""KoLeo: keep every sample away from its nearest neighbour."""

import torch
from torch import Tensor

from sslcore.errors import ShapeError
from sslcore.numerics import in_full_precision, unit_rows


@in_full_precision
def koleo_loss(z: Tensor, *, eps: float = 1e-4) -> Tensor:
    """Return minus the mean logarithm of the distance of each row to its nearest other row.

    An estimate of minus the entropy, up to a constant: the lower, the more evenly the rows cover
    the sphere.

    Args:
        z: Features, `[batch, dim]`, normalised here.
        eps: Distance at which the loss levels off. Equal rows get no gradient, instead of one
            beyond all bounds.

    Returns:
        A scalar between `-log(2)` and `-log(eps)`.

    Raises:
        ShapeError: `z` is not 2-D, or has fewer than two rows.

    Source:
        Sablayrolles et al., "Spreading vectors for similarity search", ICLR 2019,
        arXiv:1806.03198, section 3, on rows at length 1 as in DINOv2, arXiv:2304.07193, section
        4. Added is `eps` squared to the squared distance; the code of DINOv2 adds 1e-8 to the
        distance.
    """
    if z.ndim != 2 or len(z) < 2:
        raise ShapeError(f"expected features [batch > 1, dim], got {tuple(z.shape)}")
    units = unit_rows(z)
    nearest = (units @ units.T).detach().fill_diagonal_(-torch.inf).argmax(dim=1)
    squared = (units - units[nearest]).square().sum(dim=1)
    return -0.5 * torch.log(squared + eps**2).mean()
