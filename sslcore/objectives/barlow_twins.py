"""Barlow Twins: make the cross-correlation of two views the identity."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from sslcore.numerics import in_full_precision, require_pair


class BarlowTwinsTerms(NamedTuple):
    """The two unweighted terms, each a scalar."""

    invariance: Tensor
    redundancy: Tensor


@in_full_precision
def barlow_twins_terms(z_a: Tensor, z_b: Tensor, *, eps: float = 1e-5) -> BarlowTwinsTerms:
    """Measure how far the cross-correlation of two batches of projections is from the identity.

    Each dimension is standardised over the batch with the biased variance, so the terms do not
    change when a dimension is shifted or scaled.

    Args:
        z_a: Projections of the first views, `[batch, dim]`.
        z_b: Projections of the second views, same shape; row `i` shares its sample with `z_a`.
        eps: Added to the variance, so that a constant dimension counts as uncorrelated.

    Returns:
        The squared gap of the diagonal to one, and the squared off-diagonal correlations. Both are
        sums: neither is divided by `dim`.

    Raises:
        ShapeError: If the shapes differ, are not 2-D, or have fewer than two rows.

    Source:
        Zbontar et al., "Barlow Twins", ICML 2021, arXiv:2103.03230, equation 1. Biased variance
        and `eps` are those of the batch norm in the authors' published code; some versions take
        the unbiased one. Without the code's overall factor (0.024).
    """
    require_pair(z_a, z_b)
    correlation = _standardise(z_a, eps).T @ _standardise(z_b, eps) / z_a.shape[0]
    diagonal = correlation.diagonal()
    return BarlowTwinsTerms(
        invariance=(diagonal - 1).square().sum(),
        redundancy=(correlation - torch.diag(diagonal)).square().sum(),
    )


def _standardise(z: Tensor, eps: float) -> Tensor:
    return (z - z.mean(dim=0)) * torch.rsqrt(z.var(dim=0, correction=0) + eps)


class BarlowTwins(nn.Module):
    """`invariance + redundancy_weight * redundancy` of `barlow_twins_terms`. Holds no state."""

    def __init__(self, *, redundancy_weight: float = 5.1e-3) -> None:
        super().__init__()
        self.redundancy_weight = redundancy_weight

    def forward(self, z_a: Tensor, z_b: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the scalar loss, and the unweighted terms for the log."""
        terms = barlow_twins_terms(z_a, z_b)
        return terms.invariance + self.redundancy_weight * terms.redundancy, terms._asdict()
