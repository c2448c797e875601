"""Sampled softmax: find the liked item among the candidates; in-batch it is InfoNCE."""

from torch import Tensor
from torch.nn import functional as F

from recssl.objectives.candidates import compare_with_candidates
from sslcore.numerics import in_full_precision, unit_rows


@in_full_precision
def sampled_softmax_loss(
    users: Tensor,
    items: Tensor,
    *,
    negatives: Tensor | None = None,
    with_batch: bool = False,
    log_q: Tensor | None = None,
    excluded: Tensor | None = None,
    temperature: float = 0.1,
    cosine: bool = True,
) -> Tensor:
    """Cross-entropy of finding each user's liked item among it and the candidates.

    Args:
        users: `[batch, dim]`.
        items: The liked item of each row, `[batch, dim]`.
        negatives: See `compare_with_candidates`.
        with_batch: See there.
        log_q: See there; subtracted after the division by `temperature`.
        excluded: See there.
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
    liked, others = compare_with_candidates(
        users / temperature,
        items,
        negatives=negatives,
        with_batch=with_batch,
        log_q=log_q,
        excluded=excluded,
    )
    return -F.logsigmoid(liked - others).mean()
