"""The scores of each user's liked item and of the items it is compared with."""

import torch
from torch import Tensor

from sslcore.errors import ShapeError
from sslcore.numerics import require_pair


def candidate_scores(
    users: Tensor,
    items: Tensor,
    *,
    negatives: Tensor | None = None,
    log_q: Tensor | None = None,
    excluded: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Score each user's liked item, and the candidates that are to score lower.

    Args:
        users: `[batch, dim]`.
        items: The liked item of each row, `[batch, dim]`.
        negatives: Drawn items: `[batch, count, dim]`, own ones for each user, or `[count, dim]`
            for all. None compares with the liked items of the other rows.
        log_q: Without `negatives` only: log of the probability with which each liked item is in
            a batch, `[batch]`, subtracted from the scores of candidates and liked items.
        excluded: Without `negatives` only: `[batch, batch]`, true where column `j` is no
            candidate of row `i`, such as another item that the user likes.

    Returns:
        `[batch]`, and `[batch, count]` with `-inf` for what is no candidate. Of the other rows'
        items the own one, in the diagonal, is always left out.

    Raises:
        ShapeError: If the shapes do not fit, or there is no candidate.

    Source:
        The correction: Yi et al., "Sampling-bias-corrected neural modeling for large corpus item
        recommendations", RecSys 2019, equation 5.
    """
    if negatives is None:
        require_in_batch(users, items, log_q=log_q, excluded=excluded)
    else:
        require_pair(users, items, min_rows=1)
    liked = (users * items).sum(dim=1)
    if negatives is not None:
        if log_q is not None or excluded is not None:
            raise ShapeError("log_q and excluded belong to the items of the batch, not to drawn")
        if negatives.ndim == 2 and negatives.shape[1] == users.shape[1] and len(negatives):
            return liked, users @ negatives.T
        require_negatives(users, negatives)
        return liked, (negatives @ users[:, :, None])[:, :, 0]
    others = users @ items.T
    if log_q is not None:
        liked, others = liked - log_q, others - log_q
    own = torch.eye(len(users), dtype=torch.bool, device=users.device)
    if excluded is not None:
        own = own | excluded
    return liked, others.masked_fill(own, -torch.inf)


def require_in_batch(
    users: Tensor, items: Tensor, *, log_q: Tensor | None, excluded: Tensor | None
) -> None:
    """Raise `ShapeError` unless these can be the in-batch inputs of `candidate_scores`."""
    require_pair(users, items)
    if log_q is not None:
        _require_shape("log_q", log_q, (len(users),))
    if excluded is not None:
        _require_shape("excluded", excluded, (len(users), len(users)))


def require_negatives(users: Tensor, negatives: Tensor) -> None:
    """Raise `ShapeError` unless `negatives` are `[batch, count > 0, dim]` for these users."""
    batch, dim = users.shape
    good = negatives.ndim == 3 and negatives.shape[::2] == (batch, dim) and negatives.shape[1]
    if not good:
        raise ShapeError(
            f"expected negatives [{batch}, count > 0, {dim}], got {tuple(negatives.shape)}"
        )


def _require_shape(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise ShapeError(f"expected {name} {list(shape)}, got {list(tensor.shape)}")
