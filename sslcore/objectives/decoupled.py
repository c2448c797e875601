"""Decoupled contrastive loss: the partner is no competitor of itself."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sslcore.numerics import in_full_precision, require_pair, unit_rows


@in_full_precision
def decoupled_loss(z_a: Tensor, z_b: Tensor, *, temperature: float = 0.1) -> Tensor:
    """Push all other samples away and pull partners together, one not weakened by the other.

    NT-Xent without the partner among what it is compared with.

    Args:
        z_a: Projections of the first views, `[batch, dim]`, normalised here.
        z_b: Projections of the second views, same shape; row `i` shares its sample with `z_a`.
        temperature: Divides the cosine similarities, > 0.

    Returns:
        A scalar, the mean over all `2 * batch` views: log of the sum of the exponentials over the
        `2 * batch - 2` views of other samples, less the partner's similarity. It can be negative;
        `log(2 * batch - 2)` at collapse.

    Raises:
        ShapeError: If the shapes differ, are not 2-D, or have fewer than two rows, for which
            there is no negative.

    Source:
        Yeh et al., "Decoupled contrastive learning", ECCV 2022, arXiv:2110.06848, equation 6, with
        the negatives of both views and without the weights of section 3.3.
    """
    require_pair(z_a, z_b)
    views = unit_rows(torch.cat([z_a, z_b]))
    logits = views @ views.T / temperature
    own = torch.eye(len(z_a), dtype=torch.bool, device=z_a.device).repeat(2, 2)
    others = logits.masked_fill(own, -torch.inf).logsumexp(dim=1)
    partners = (views * views.roll(len(z_a), dims=0)).sum(dim=1) / temperature
    return (others - partners).mean()


class Decoupled(nn.Module):
    """`decoupled_loss` with a fixed temperature. Holds no state."""

    def __init__(self, *, temperature: float = 0.1) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, z_a: Tensor, z_b: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the scalar loss, and the mean cosine similarity of partners for the log."""
        loss = decoupled_loss(z_a, z_b, temperature=self.temperature)
        return loss, {"positive_similarity": F.cosine_similarity(z_a, z_b).mean()}
