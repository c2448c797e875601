"""NT-Xent: find the other view of a sample among all views of the batch."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sslcore.numerics import in_full_precision, require_pair, unit_rows
from sslcore.objectives.in_blocks import mean_in_blocks


@in_full_precision
def nt_xent_loss(
    z_a: Tensor, z_b: Tensor, *, temperature: float = 0.5, block: int | None = None
) -> Tensor:
    """Cross-entropy of finding each view's partner among the other `2 * batch - 1` views.

    Args:
        z_a: Projections of the first views, `[batch, dim]`, normalised here.
        z_b: Projections of the second views, same shape; row `i` shares its sample with `z_a`.
        temperature: Divides the cosine similarities, > 0.
        block: Views compared with all others at a time, > 0; bounds the memory, and changes
            neither value nor gradient. None for all at once.

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
    count = len(views)

    def losses(rows: Tensor) -> Tensor:
        logits = views[rows] @ views.T / temperature
        logits = logits.scatter(1, rows[:, None], -torch.inf)
        return F.cross_entropy(logits, (rows + len(z_a)) % count, reduction="none")

    return mean_in_blocks(losses, count, block=block, device=views.device)


class NTXent(nn.Module):
    """`nt_xent_loss` with fixed options. Holds no state."""

    def __init__(self, *, temperature: float = 0.5, block: int | None = None) -> None:
        super().__init__()
        self.temperature = temperature
        self.block = block

    def forward(self, z_a: Tensor, z_b: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the scalar loss, and the mean cosine similarity of partners for the log."""
        loss = nt_xent_loss(z_a, z_b, temperature=self.temperature, block=self.block)
        return loss, {"positive_similarity": F.cosine_similarity(z_a, z_b).mean()}
