"""Each user's liked item against the items it is compared with, without keeping their scores."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from sslcore.errors import ShapeError
from sslcore.numerics import require_pair


class Compared(NamedTuple):
    """What a softmax needs to know of a batch.

    Attributes:
        liked: Score of each row's liked item, `[batch]`.
        others: Log of the sum of the exponentials of each row's candidates, `[batch]`; `-inf`
            for a row without any.
    """

    liked: Tensor
    others: Tensor


def compare_with_candidates(
    users: Tensor,
    items: Tensor,
    *,
    negatives: Tensor | None = None,
    with_batch: bool = False,
    log_q: Tensor | None = None,
    excluded: Tensor | None = None,
) -> Compared:
    """Score each user's liked item, and sum up the candidates that are to score lower.

    Candidates that all rows share cost one matrix of scores, which the gradient reuses.

    Args:
        users: `[batch, dim]`.
        items: The liked item of each row, `[batch, dim]`.
        negatives: Drawn items: `[batch, count, dim]`, own ones for each user, or `[count, dim]`
            for all. None compares with the liked items of the other rows.
        with_batch: Compare with the liked items of the other rows too, in the columns before
            those of `negatives`, which must be shared ones.
        log_q: Log of the probability with which an item is drawn, subtracted from its score: of
            the liked items, `[batch]`, and after them of shared negatives, `[batch + count]`.
        excluded: `[batch, columns]`, true where an item is no candidate of the row, such as
            another one that the user likes.

    Returns:
        Of the other rows' items the own one, in the diagonal, is always left out.

    Raises:
        ShapeError: If the shapes do not fit, or there is no candidate.

    Source:
        The correction: Yi et al., "Sampling-bias-corrected neural modeling for large corpus item
        recommendations", RecSys 2019, equation 5.
    """
    require_pair(users, items, min_rows=2 if negatives is None else 1)
    liked = (users * items).sum(dim=1)
    if negatives is not None and negatives.ndim != 2:
        if with_batch or log_q is not None or excluded is not None:
            raise ShapeError(
                "with_batch, log_q and excluded belong to candidates that all rows share,"
                f" not to negatives {list(negatives.shape)}"
            )
        require_negatives(users, negatives)
        return Compared(liked, (negatives @ users[:, :, None])[:, :, 0].logsumexp(dim=1))
    has_own = with_batch or negatives is None
    columns = _columns(items, negatives, with_batch=has_own)
    batch, count = len(users), len(columns)
    if columns.shape[1] != users.shape[1] or not (negatives is None or len(negatives)):
        raise ShapeError(
            f"expected negatives [count > 0, {users.shape[1]}], got {list(columns.shape)}"
        )
    if log_q is not None:
        _require_shape("log_q", log_q, (count if has_own else batch + count,))
        liked = liked - log_q[:batch]
        log_q = log_q[-count:]
    if excluded is not None:
        _require_shape("excluded", excluded, (batch, count))
    others: Tensor = _LogSumExp.apply(users, columns, log_q, excluded, has_own)  # type: ignore[no-untyped-call]
    return Compared(liked, others)


def count_candidates(
    users: Tensor,
    *,
    negatives: Tensor | None = None,
    with_batch: bool = False,
    excluded: Tensor | None = None,
) -> Tensor:
    """Return how many candidates each row has, `[batch]`; see `compare_with_candidates`."""
    batch, has_own = len(users), with_batch or negatives is None
    drawn = 0 if negatives is None else negatives.shape[-2]
    columns = drawn + (batch if has_own else 0)
    if excluded is None:
        return torch.full((batch,), columns - has_own, device=users.device)
    left = columns - excluded.count_nonzero(dim=1)
    return left - (~excluded.diagonal()).long() if has_own else left


def require_negatives(users: Tensor, negatives: Tensor) -> None:
    """Raise `ShapeError` unless `negatives` are `[batch, count > 0, dim]` for these users."""
    batch, dim = users.shape
    good = negatives.ndim == 3 and negatives.shape[::2] == (batch, dim) and negatives.shape[1]
    if not good:
        raise ShapeError(
            f"expected negatives [{batch}, count > 0, {dim}], got {tuple(negatives.shape)}"
        )


class _LogSumExp(torch.autograd.Function):
    """`logsumexp(users @ columns.T - log_q)` and its gradient on one matrix, changed in place.

    Half the time of the same written with differentiable steps, which copy the matrix each time.
    """

    @staticmethod
    def forward(
        ctx: Any,
        users: Tensor,
        columns: Tensor,
        log_q: Tensor | None,
        excluded: Tensor | None,
        has_own: bool,  # noqa: FBT001 - autograd takes no keywords
    ) -> Tensor:
        scores = users @ columns.T if log_q is None else torch.addmm(-log_q, users, columns.T)
        if excluded is not None:
            scores.masked_fill_(excluded, -torch.inf)
        if has_own:
            scores.diagonal().fill_(-torch.inf)
        peak = scores.amax(dim=1, keepdim=True)
        peak.masked_fill_(peak == -torch.inf, 0.0)  # a row without candidates
        shares = scores.sub_(peak).exp_()
        total = shares.sum(dim=1, keepdim=True)
        # the peak itself adds 1, so only a row without candidates has less
        ctx.save_for_backward(users, columns, shares.div_(total.clamp_min(1.0)))
        return (peak + total.log())[:, 0]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        users, columns, shares = ctx.saved_tensors
        slopes = grads[0][:, None]
        return (shares @ columns) * slopes, shares.T @ (users * slopes), None, None, None


def _columns(items: Tensor, negatives: Tensor | None, *, with_batch: bool) -> Tensor:
    if negatives is None:
        return items
    fits = negatives.shape[1:] == items.shape[1:]
    return torch.cat([items, negatives]) if with_batch and fits else negatives


def _require_shape(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise ShapeError(f"expected {name} {list(shape)}, got {list(tensor.shape)}")
