"""BPR: each liked item above items the user did not choose."""

from torch import Tensor
from torch.nn import functional as F

from recssl.objectives.candidates import require_negatives
from sslcore.numerics import in_full_precision, require_pair


@in_full_precision
def bpr_loss(users: Tensor, items: Tensor, negatives: Tensor) -> Tensor:
    """Return the mean of `-log sigmoid(liked score - other score)`.

    Args:
        users: `[batch, dim]`.
        items: The liked item of each row, `[batch, dim]`.
        negatives: Items that the user of the row did not choose, `[batch, count, dim]`.

    Raises:
        ShapeError: If the shapes do not fit, or there is no row or no negative.

    Source:
        Rendle et al., "BPR", UAI 2009, arXiv:1205.2618, section 4; without its regularisation,
        which is the optimiser's decay. With several negatives the mean over them.
    """
    require_pair(users, items, min_rows=1)
    require_negatives(users, negatives)
    liked = (users * items).sum(dim=1, keepdim=True)
    others = (negatives @ users[:, :, None])[:, :, 0]
    return F.softplus(others - liked).mean()
