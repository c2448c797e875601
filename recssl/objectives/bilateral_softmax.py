"""Bilateral softmax (BSL): one temperature for the liked items, another for the candidates."""

import torch
from torch import Tensor

from recssl.objectives.candidates import compare_with_candidates, count_candidates
from sslcore.errors import ShapeError
from sslcore.numerics import in_full_precision, unit_rows


@in_full_precision
def bilateral_softmax_loss(  # noqa: PLR0913 - each named at the call
    users: Tensor,
    items: Tensor,
    *,
    user_ids: Tensor,
    negatives: Tensor | None = None,
    with_batch: bool = False,
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
        negatives: See `compare_with_candidates`.
        with_batch: See there.
        log_q: See there; only what belongs to the candidates is subtracted.
        excluded: See there.
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
    negatives = None if negatives is None else unit_rows(negatives)
    others = compare_with_candidates(
        users / negative_temperature,
        items,
        negatives=negatives,
        with_batch=with_batch,
        log_q=log_q,
        excluded=excluded,
    ).others
    counts = count_candidates(users, negatives=negatives, with_batch=with_batch, excluded=excluded)
    # a row without candidates, whose liked items are all there is, has a mean of 1
    filled = torch.where(counts > 0, others, 0.0) - counts.clamp_min(1).to(others).log()
    liked = (users * items).sum(dim=1) / positive_temperature
    weight = negative_temperature / positive_temperature
    return (weight * filled - _log_mean_exp_by_user(liked, user_ids)).mean()


def _log_mean_exp_by_user(scores: Tensor, user_ids: Tensor) -> Tensor:
    """Return for each row the log of the mean of the exponentials of its user's rows."""
    users, inverse, counts = torch.unique(user_ids, return_inverse=True, return_counts=True)
    lowest = scores.new_full((len(users),), -torch.inf)
    peaks = lowest.scatter_reduce(0, inverse, scores.detach(), "amax")
    sums = torch.zeros_like(peaks).index_add(0, inverse, (scores - peaks[inverse]).exp())
    means: Tensor = peaks + (sums / counts).log()
    return means[inverse]
