"""NT-Xent: find the other view of a sample among all views of the batch."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sslcore.numerics import in_full_precision, require_pair, unit_rows


@in_full_precision
def nt_xent_loss(z_a: Tensor, z_b: Tensor, *, temperature: float = 0.5) -> Tensor:
    """Cross-entropy of finding each view's partner among the other `2 * batch - 1` views.

    Args:
        z_a: Projections of the first views, `[batch, dim]`, normalised here.
        z_b: Projections of the second views, same shape; row `i` shares its sample with `z_a`.
        temperature: Divides the cosine similarities, > 0.

    Returns:
        A scalar, the mean over all `2 * batch` views. `log(2 * batch - 1)` at collapse.

    Raises:
        ShapeError: If the shapes differ, are not 2-D, or have fewer than two rows, for which
            there is no negative.

    Source:
        Chen et al., "SimCLR", ICML 2020, arXiv:2002.05709, equation 1 and algorithm 1. A view is
        never compared with itself; both views of the other samples are negatives.
    """
    require_pair(z_a, z_b)
    views = unit_rows(torch.cat([z_a, z_b]))
    logits = (views @ views.T / temperature).fill_diagonal_(-torch.inf)
    partner = torch.arange(len(views), device=views.device).roll(len(z_a))
    return F.cross_entropy(logits, partner)


class NTXent(nn.Module):
    """`nt_xent_loss` with a fixed temperature. Holds no state."""

    def __init__(self, *, temperature: float = 0.5) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, z_a: Tensor, z_b: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the scalar loss, and the mean cosine similarity of partners for the log."""
        loss = nt_xent_loss(z_a, z_b, temperature=self.temperature)
        return loss, {"positive_similarity": F.cosine_similarity(z_a, z_b).mean()}
