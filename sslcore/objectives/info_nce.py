"""InfoNCE: find each query's own key among others."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sslcore.errors import ShapeError
from sslcore.numerics import in_full_precision, require_pair, unit_rows
from sslcore.objectives.in_blocks import mean_in_blocks


@in_full_precision
def info_nce_loss(
    queries: Tensor,
    keys: Tensor,
    *,
    negatives: Tensor | None = None,
    excluded: Tensor | None = None,
    temperature: float = 0.2,
    block: int | None = None,
) -> Tensor:
    """Cross-entropy of finding each query's own key.

    One direction only: for a symmetric loss average it with queries and keys exchanged.

    Args:
        queries: `[batch, dim]`, normalised here, like the keys and negatives.
        keys: `[batch, dim]`; row `i` is the positive of query `i`.
        negatives: `[count, dim]`, the same for every query, such as a queue of past keys. Without
            it the other keys of the batch are the negatives.
        excluded: Which `negatives` a query is not compared with, `[batch, count]`, bool.
        temperature: Divides the cosine similarities, > 0.
        block: Queries compared at a time, > 0; bounds the memory, and changes neither value nor
            gradient. None for all at once.

    Returns:
        A scalar, the mean over queries.

    Raises:
        ShapeError: If `queries` and `keys` differ in shape, or `negatives` in width; if there is
            no negative; or if `excluded` does not fit them.

    Source:
        van den Oord et al., arXiv:1807.03748, equation 4; with a queue He et al., "MoCo", CVPR
        2020, arXiv:1911.05722, equation 1. No factor 2 * temperature (MoCo v3 has it).
    """
    require_pair(queries, keys, min_rows=2 if negatives is None else 1)
    queries, keys = unit_rows(queries), unit_rows(keys)
    others = None
    if negatives is not None:
        _require_negatives(negatives, excluded, queries)
        others = unit_rows(negatives)

    def losses(rows: Tensor) -> Tensor:
        if others is None:
            logits, own = queries[rows] @ keys.T, rows
        else:
            positive = (queries[rows] * keys[rows]).sum(dim=1, keepdim=True)
            apart = queries[rows] @ others.T
            if excluded is not None:
                apart = apart.masked_fill(excluded[rows], -torch.inf)
            logits = torch.cat([positive, apart], dim=1)
            own = torch.zeros_like(rows)
        return F.cross_entropy(logits / temperature, own, reduction="none")

    return mean_in_blocks(losses, len(queries), block=block, device=queries.device)


class InfoNCE(nn.Module):
    """`info_nce_loss` of two views. Holds no state."""

    def __init__(
        self, *, temperature: float = 0.2, symmetric: bool = False, block: int | None = None
    ) -> None:
        """Set the options.

        Args:
            temperature: See `info_nce_loss`.
            symmetric: The mean of both directions, instead of the first view as queries alone.
            block: See `info_nce_loss`.
        """
        super().__init__()
        self.temperature = temperature
        self.symmetric = symmetric
        self.block = block

    def forward(self, z_a: Tensor, z_b: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the scalar loss, and the mean cosine similarity of partners for the log."""
        options: dict[str, Any] = {"temperature": self.temperature, "block": self.block}
        loss = info_nce_loss(z_a, z_b, **options)
        if self.symmetric:
            loss = (loss + info_nce_loss(z_b, z_a, **options)) / 2
        return loss, {"positive_similarity": F.cosine_similarity(z_a, z_b).mean()}


def _require_negatives(negatives: Tensor, excluded: Tensor | None, queries: Tensor) -> None:
    rows, dim = queries.shape
    if negatives.ndim != 2 or negatives.shape[1] != dim or not len(negatives):
        raise ShapeError(f"expected negatives [count > 0, {dim}], got {tuple(negatives.shape)}")
    if excluded is not None and excluded.shape != (rows, len(negatives)):
        raise ShapeError(
            f"expected a mask [{rows}, {len(negatives)}] of negatives, got {tuple(excluded.shape)}"
        )
