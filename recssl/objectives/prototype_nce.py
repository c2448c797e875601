"""ProtoNCE: find the prototype of each node's cluster among all prototypes."""

from torch import Tensor
from torch.nn import functional as F

from sslcore.errors import ShapeError
from sslcore.numerics import in_full_precision, unit_rows


@in_full_precision
def prototype_nce_loss(
    rows: Tensor, prototypes: Tensor, *, nearest: Tensor, temperature: float = 0.1
) -> Tensor:
    """Cross-entropy of finding the own prototype of each row.

    Args:
        rows: `[batch, dim]`, normalised here, like the prototypes.
        prototypes: `[count, dim]`; with one alone the loss is 0.
        nearest: Number of the prototype of each row, `[batch]`, integers.
        temperature: Divides the cosine similarities, > 0.

    Returns:
        A scalar, the mean over the rows.

    Raises:
        ShapeError: If the shapes do not fit together, or there is no row or no prototype.

    Source:
        Lin et al., "Improving graph collaborative filtering with neighborhood-enriched contrastive
        learning" (NCL), WWW 2022, arXiv:2202.06200, section 3.2, with the mean over the rows for
        their sum.
    """
    fits = rows.ndim == prototypes.ndim == 2 and rows.shape[1:] == prototypes.shape[1:]
    if not fits or nearest.shape != rows.shape[:1] or not len(rows) or not len(prototypes):
        raise ShapeError(
            "expected rows [batch > 0, dim], prototypes [count > 0, dim] and nearest [batch], got"
            f" {tuple(rows.shape)}, {tuple(prototypes.shape)} and {tuple(nearest.shape)}"
        )
    return F.cross_entropy(unit_rows(rows) @ unit_rows(prototypes).T / temperature, nearest)
