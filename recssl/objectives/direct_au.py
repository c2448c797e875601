"""DirectAU: users near their items, users apart, items apart; no negatives."""

from typing import NamedTuple

import torch
from torch import Tensor

from sslcore.diagnostics import alignment
from sslcore.numerics import in_full_precision, require_pair, unit_rows


class DirectAUTerms(NamedTuple):
    """The unweighted terms, each a scalar."""

    alignment: Tensor
    uniformity: Tensor


@in_full_precision
def direct_au_terms(
    users: Tensor, items: Tensor, *, user_ids: Tensor, item_ids: Tensor
) -> DirectAUTerms:
    """Measure how near users are to their items, and how evenly both cover the sphere.

    Args:
        users: `[batch, dim]`, brought to length 1 here.
        items: The liked item of each row, same shape.
        user_ids: Of the rows, `[batch]`; a user is not pushed from itself.
        item_ids: Likewise.

    Returns:
        The mean squared distance, and the mean of the uniformity of users and that of items.

    Raises:
        ShapeError: If the shapes differ, or there are fewer than two rows.

    Source:
        Wang et al., "Towards representation alignment and uniformity in collaborative filtering",
        KDD 2022, arXiv:2206.12811, equations 4 to 6. Its code counts rows of one user as pairs
        at distance 0; here each user and each item is taken once.
    """
    require_pair(users, items)
    return DirectAUTerms(
        alignment=alignment(users, items),
        uniformity=(_uniformity(users, user_ids) + _uniformity(items, item_ids)) / 2,
    )


def _uniformity(rows: Tensor, ids: Tensor) -> Tensor:
    """Return the log of the mean Gaussian potential of all pairs of different ids."""
    units = unit_rows(rows[_first_rows(ids)])
    if len(units) < 2:
        return units.sum() * 0.0
    return torch.pdist(units).square().mul(-2.0).exp().mean().log()


def _first_rows(ids: Tensor) -> Tensor:
    """Return the row at which each id stands first."""
    inverse = torch.unique(ids, return_inverse=True)[1]
    order = torch.arange(len(ids), device=ids.device)
    firsts = torch.full_like(order, len(ids)).scatter_reduce(0, inverse, order, "amin")
    return firsts[firsts < len(ids)]
