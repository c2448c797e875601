"""Supervised contrast: all views of a class are each other's partners."""

import torch
from torch import Tensor

from sslcore.errors import ShapeError
from sslcore.numerics import in_full_precision, require_pair, unit_rows


@in_full_precision
def sup_con_loss(z_a: Tensor, z_b: Tensor, *, labels: Tensor, temperature: float = 0.1) -> Tensor:
    """Cross-entropy of finding the views of the same class among all other views.

    Args:
        z_a: Projections of the first views, `[batch, dim]`, normalised here.
        z_b: Projections of the second views, same shape; row `i` shares its sample with `z_a`.
        labels: Class of each sample, `[batch]`, integers; -1 for unknown, whose only partner is
            its own other view. If all are unknown, this is `nt_xent_loss`.
        temperature: Divides the cosine similarities, > 0.

    Returns:
        A scalar, the mean over all `2 * batch` views. `log(2 * batch - 1)` at collapse.

    Raises:
        ShapeError: If the shapes do not fit, or there are fewer than two rows.

    Source:
        Khosla et al., "Supervised contrastive learning", NeurIPS 2020, arXiv:2004.11362, equation
        2 (the sum over partners outside of the logarithm), as a mean over views and without the
        factor of temperature over base temperature in the authors' code.
    """
    require_pair(z_a, z_b)
    if labels.shape != z_a.shape[:1]:
        raise ShapeError(f"expected labels [{len(z_a)}], got {tuple(labels.shape)}")
    views = unit_rows(torch.cat([z_a, z_b]))
    logits = views @ views.T / temperature
    same = (labels[:, None] == labels[None, :]) & (labels[:, None] >= 0)
    same |= torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    itself = torch.eye(len(views), dtype=torch.bool, device=labels.device)
    partners = same.repeat(2, 2) & ~itself
    others = logits.masked_fill(itself, -torch.inf).logsumexp(dim=1, keepdim=True)
    surprise = (others - logits).masked_fill(~partners, 0.0)
    return (surprise.sum(dim=1) / partners.sum(dim=1)).mean()
