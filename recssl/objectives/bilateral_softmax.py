"""Bilateral softmax (BSL): one temperature for the liked items, another for the candidates."""

import torch
from torch import Tensor

from recssl.objectives.candidates import candidate_scores
from sslcore.errors import ShapeError
from sslcore.numerics import in_full_precision, unit_rows


@in_full_precision
def bilateral_softmax_loss(
    users: Tensor,
    items: Tensor,
    *,
    user_ids: Tensor,
    negatives: Tensor | None = None,
    log_q: Tensor | None = None,
    excluded: Tensor | None = None,
    positive_temperature: float = 0.1,
    negative_temperature: float = 0.1,
) -> Tensor:
    """Push liked items above candidates; a high first temperature forgives wrong positives.

    Args:
        users: `[batch, dim]`, brought to length 1 here, like the items.
        items: The liked item of each row, `[batch, dim]`.
        user_ids: Of the rows, `[batch]`; rows of one user form one mean over its liked items.
        negatives: See `candidate_scores`.
        log_q: See `candidate_scores`; of the candidates only.
        excluded: See `candidate_scores`.
        positive_temperature: Of the liked items, > 0.
        negative_temperature: Of the candidates, > 0.

    Returns:
        `-log mean exp(liked / tau_1) + tau_2 / tau_1 * log mean exp(candidate / tau_2)`, the mean
        over the rows.

    Raises:
        ShapeError: If the shapes do not fit, or there is no candidate.

    Source:
        Wu et al., "BSL", ICDE 2024, arXiv:2312.12882, equation 17, over tau_1, so that equal
        temperatures give the softmax loss without the liked item in its denominator.
    """
    if user_ids.shape != users.shape[:1]:
        raise ShapeError(f"expected user_ids [{len(users)}], got {list(user_ids.shape)}")
    users, items = unit_rows(users), unit_rows(items)
    others = candidate_scores(
        users / negative_temperature,
        items,
        negatives=None if negatives is None else unit_rows(negatives),
        log_q=log_q,
        excluded=excluded,
    )[1]
    liked = (users * items).sum(dim=1) / positive_temperature
    of_user = torch.where(user_ids[:, None] == user_ids, liked, -torch.inf)
    weight = negative_temperature / positive_temperature
    return (weight * _log_mean_exp(others) - _log_mean_exp(of_user)).mean()


def _log_mean_exp(scores: Tensor) -> Tensor:
    """Return the log of the mean of the exponentials of each row's finite entries.

    A row without any, whose liked items are all there is, gives 0.
    """
    counts = scores.isfinite().sum(dim=1)
    empty = counts == 0
    totals = scores.masked_fill(empty[:, None], 0.0).logsumexp(dim=1)
    return totals - torch.where(empty, scores.shape[1], counts).to(totals).log()
