"""Sinkhorn: assign samples to prototypes so that all prototypes are used alike."""

import torch
from torch import Tensor

from sslcore.distributed import gather_rows
from sslcore.errors import ShapeError
from sslcore.numerics import in_full_precision


@torch.no_grad()
@in_full_precision
def sinkhorn(scores: Tensor, *, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    """Return the share of each prototype in each sample, near to `scores` and evenly spread.

    With several processes, each with its own rows, the spread is that over the rows of all of
    them; they may have different numbers of rows. All must call this together.

    Args:
        scores: Similarity of sample and prototype, `[rows, prototypes]`.
        epsilon: The lower, the nearer is each row to one prototype, > 0.
        iterations: The more, the nearer are all prototypes to equal use.

    Returns:
        `[rows, prototypes]`, without a gradient, in float32 or wider. Every row sums to 1.

    Raises:
        ShapeError: `scores` is not 2-D, or there is no prototype.

    Source:
        Cuturi, "Sinkhorn distances", NeurIPS 2013, arXiv:1306.0895; as in Caron et al., "SwAV",
        NeurIPS 2020, arXiv:2006.09882, section 3.1, whose last step too is that over the rows.
        Here on logarithms, so that a small `epsilon` neither overflows nor empties a prototype.
    """
    if scores.ndim != 2 or not scores.shape[1]:
        raise ShapeError(f"expected scores [rows, prototypes > 0], got {tuple(scores.shape)}")
    shares = scores / epsilon
    for _ in range(iterations):
        shares = shares - _log_use(shares)
        shares = shares.log_softmax(dim=1)
    return shares.softmax(dim=1)


def _log_use(shares: Tensor) -> Tensor:
    """Return the logarithm of how much each prototype is used by the rows of all processes."""
    mine = shares.logsumexp(dim=0, keepdim=True)
    return gather_rows(mine).logsumexp(dim=0, keepdim=True)
