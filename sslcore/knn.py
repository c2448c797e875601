"""Nearest-neighbour classification of embeddings: how well they order samples, untrained."""

import torch
from torch import Tensor

from sslcore.errors import ShapeError
from sslcore.numerics import unit_rows


@torch.no_grad()
def knn_scores(
    train: Tensor,
    labels: Tensor,
    query: Tensor,
    *,
    num_classes: int,
    k: int = 20,
    temperature: float = 0.07,
    groups: tuple[Tensor, Tensor] | None = None,
    block: int = 512,
) -> Tensor:
    """Score each class by the votes of the `k` training rows of highest cosine similarity.

    Args:
        train: `[count, dim]`, normalised here, like `query`.
        labels: Class of each training row, `[count]`, 0 to `num_classes - 1`.
        query: `[batch, dim]`.
        num_classes: Columns of the result.
        k: Neighbours, at most; all if there are fewer.
        temperature: A neighbour's vote weighs `exp(similarity / temperature)`.
        groups: Of the training and of the query rows, `[count]` and `[batch]`, integers. A
            training row of the query's own group, such as the same patient, has no vote.
        block: Query rows at a time; needs `block * count` numbers.

    Returns:
        Shares of the votes, `[batch, num_classes]`; rows sum to 1.

    Raises:
        ShapeError: If the shapes do not fit, a label is out of range, or a query has no training
            row outside its group.

    Source:
        Wu et al., "Instance discrimination", CVPR 2018, arXiv:1805.01978, section 3.4, where k is
        200 and the temperature 0.07.
    """
    _require_labelled(train, labels, query, num_classes)
    train, query = unit_rows(train.float()), unit_rows(query.float())
    votes = torch.nn.functional.one_hot(labels.long(), num_classes).to(train)
    scores = []
    for start in range(0, len(query), block):
        similarity = query[start : start + block] @ train.T
        if groups is not None:
            own = groups[1][start : start + block, None] == groups[0][None, :]
            similarity = similarity.masked_fill(own.to(train.device), -torch.inf)
        nearest, rows = similarity.topk(min(k, len(train)), dim=1)
        if (nearest[:, 0] == -torch.inf).any():
            raise ShapeError("a query has no neighbour outside its own group; give more groups")
        weights = torch.softmax(nearest / temperature, dim=1)
        scores.append((weights[:, :, None] * votes[rows]).sum(dim=1))
    return torch.cat(scores)


def leave_one_out_scores(
    embeddings: Tensor,
    labels: Tensor,
    groups: Tensor | None = None,
    *,
    num_classes: int,
    k: int = 20,
    temperature: float = 0.07,
) -> Tensor:
    """Score every row by the others, never by rows of its own group.

    Args:
        embeddings: `[count, dim]`.
        labels: `[count]`.
        groups: `[count]`, integers, for example one per patient. By default each row is its own,
            so only itself is left out; then images of one patient vote for each other.
        num_classes: See `knn_scores`, also for the rest, the result and the errors.
        k: See there.
        temperature: See there.
    """
    if groups is None:
        groups = torch.arange(len(embeddings), device=embeddings.device)
    return knn_scores(
        embeddings,
        labels,
        embeddings,
        num_classes=num_classes,
        k=k,
        temperature=temperature,
        groups=(groups, groups),
    )


def _require_labelled(train: Tensor, labels: Tensor, query: Tensor, num_classes: int) -> None:
    if train.ndim != 2 or query.ndim != 2 or train.shape[1] != query.shape[1] or not len(query):
        raise ShapeError(
            "expected two [count > 0, dim] tensors of one width,"
            f" got {tuple(train.shape)} and {tuple(query.shape)}"
        )
    if labels.shape != train.shape[:1] or not len(labels):
        raise ShapeError(
            f"expected one label per training row, got {tuple(labels.shape)}"
            f" for {tuple(train.shape)}"
        )
    if not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise ShapeError(
            f"expected labels from 0 to {num_classes - 1},"
            f" got {int(labels.min())} to {int(labels.max())}"
        )
