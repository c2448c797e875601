"""Sampled softmax: find the liked item among the candidates; in-batch it is InfoNCE."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from recssl.objectives.candidates import candidate_scores, require_in_batch
from sslcore.numerics import in_full_precision, unit_rows


@in_full_precision
def sampled_softmax_loss(
    users: Tensor,
    items: Tensor,
    *,
    negatives: Tensor | None = None,
    log_q: Tensor | None = None,
    excluded: Tensor | None = None,
    temperature: float = 0.1,
    cosine: bool = True,
) -> Tensor:
    """Cross-entropy of finding each user's liked item among it and the candidates.

    Args:
        users: `[batch, dim]`.
        items: The liked item of each row, `[batch, dim]`.
        negatives: See `candidate_scores`.
        log_q: See `candidate_scores`; subtracted after the division by `temperature`.
        excluded: See `candidate_scores`.
        temperature: Divides the scores, > 0.
        cosine: Bring all embeddings to length 1 first.

    Returns:
        A scalar, the mean over the rows.

    Raises:
        ShapeError: If the shapes do not fit, or there is no candidate.

    Source:
        van den Oord et al., arXiv:1807.03748, equation 4; for recommenders, with cosine
        similarity, Wu et al., "On the effectiveness of sampled softmax loss for item
        recommendation", TOIS 2024, arXiv:2201.02327, equation 5.
    """
    if cosine:
        users, items = unit_rows(users), unit_rows(items)
        negatives = None if negatives is None else unit_rows(negatives)
    users = users / temperature
    if negatives is None:
        require_in_batch(users, items, log_q=log_q, excluded=excluded)
        loss: Tensor = _InBatch.apply(users, items, log_q, excluded)  # type: ignore[no-untyped-call]
        return loss
    liked, others = candidate_scores(
        users, items, negatives=negatives, log_q=log_q, excluded=excluded
    )
    logits = torch.cat([liked[:, None], others], dim=1)
    return F.cross_entropy(logits, torch.zeros(len(users), dtype=torch.long, device=users.device))


class _InBatch(torch.autograd.Function):
    """The loss and its gradient on one `[batch, batch]` matrix, changed in place.

    Half the time of the same written with differentiable steps, which copy the matrix each time.
    """

    @staticmethod
    def forward(
        ctx: Any, users: Tensor, items: Tensor, log_q: Tensor | None, excluded: Tensor | None
    ) -> Tensor:
        scores = users @ items.T if log_q is None else torch.addmm(-log_q, users, items.T)
        own = scores.diagonal().clone()
        if excluded is not None:
            scores.masked_fill_(excluded, -torch.inf)
            scores.diagonal().copy_(own)
        peak = scores.amax(dim=1, keepdim=True)
        shares = scores.sub_(peak).exp_()
        total = shares.sum(dim=1, keepdim=True)
        ctx.save_for_backward(users, items, shares.div_(total))
        return ((peak + total.log())[:, 0] - own).mean()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        users, items, shares = ctx.saved_tensors
        factor = grads[0] / len(users)
        of_users = (shares @ items).sub_(items).mul_(factor)
        of_items = (shares.T @ users).sub_(users).mul_(factor)
        return of_users, of_items, None, None
