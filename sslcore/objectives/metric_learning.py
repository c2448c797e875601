"""Losses for labelled embeddings, as objectives on aligned views."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sslcore.errors import ShapeError
from sslcore.numerics import in_full_precision, require_pair


@in_full_precision
def aligned_views_loss(
    z_a: Tensor,
    z_b: Tensor,
    *,
    loss: nn.Module,
    miner: nn.Module | None = None,
    negatives: Tensor | None = None,
) -> Tensor:
    """Apply a loss and miner in the manner of pytorch-metric-learning to two views of a batch.

    The label of a view is the number of its row: both views of a sample are each other's only
    positive, all other rows are negatives.

    Args:
        z_a: Projections of the first views, `[batch, dim]`.
        z_b: Projections of the second views, same shape; row `i` shares its sample with `z_a`.
        loss: Called with `embeddings, labels, indices_tuple`, and with `ref_emb, ref_labels` if
            there are further negatives.
        miner: Called with the same, less `indices_tuple`, which it chooses. Without it the loss
            takes all pairs or triplets.
        negatives: `[count, dim]`, rows that belong to no sample of the batch. With them each view
            is compared with the other views and the negatives, the mean over both directions;
            without them also with its own view of the other samples.

    Returns:
        A scalar.

    Raises:
        ShapeError: If the shapes do not fit, or there are fewer than two rows.

    Source:
        The calling convention is that of pytorch-metric-learning, arXiv:2008.09164.
    """
    require_pair(z_a, z_b)
    rows = torch.arange(len(z_a), device=z_a.device)
    if negatives is None:
        views, labels = torch.cat([z_a, z_b]), torch.cat([rows, rows])
        return _apply(loss, miner, views, labels)
    if negatives.ndim != 2 or negatives.shape[1] != z_a.shape[1]:
        raise ShapeError(
            f"expected negatives [count, {z_a.shape[1]}], got {tuple(negatives.shape)}"
        )
    labels = torch.cat([rows, rows.new_full((len(negatives),), -1)])
    a_to_b = _apply(loss, miner, z_a, rows, torch.cat([z_b, negatives]), labels)
    b_to_a = _apply(loss, miner, z_b, rows, torch.cat([z_a, negatives]), labels)
    return (a_to_b + b_to_a) / 2


def _apply(
    loss: nn.Module, miner: nn.Module | None, views: Tensor, labels: Tensor, *references: Tensor
) -> Tensor:
    chosen: Any = None if miner is None else miner(views, labels, *references)
    value: Tensor = loss(views, labels, chosen, *references)
    return value


class AlignedViews(nn.Module):
    """`aligned_views_loss` with a fixed loss and miner. Holds no state of its own."""

    def __init__(self, loss: nn.Module, miner: nn.Module | None = None) -> None:
        super().__init__()
        self.loss = loss
        self.miner = miner

    def forward(
        self, z_a: Tensor, z_b: Tensor, negatives: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the scalar loss, and the mean cosine similarity of partners for the log."""
        loss = aligned_views_loss(z_a, z_b, loss=self.loss, miner=self.miner, negatives=negatives)
        return loss, {"positive_similarity": F.cosine_similarity(z_a, z_b).mean()}
