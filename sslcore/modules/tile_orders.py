"""Orders of the tiles of an image that differ as much as possible."""

from functools import cache

import torch
from torch import Tensor

from sslcore.errors import ShapeError


@cache
def choose_orders(count: int, *, tiles: int = 9) -> Tensor:
    """Choose orders of `tiles` numbers one by one, each as far as possible from those before.

    The first is the rising one. Then always the order whose Hamming distance to the chosen ones is
    largest on average; of equal ones that whose nearest chosen one is farthest, and of these the
    first. The result depends on nothing but the arguments. Do not change it: it is shared.

    Args:
        count: How many, 2 or more.
        tiles: At most 9, since all orders are looked at.

    Returns:
        `[count, tiles]`, int64.

    Raises:
        ShapeError: More than there are, or too many tiles.

    Source:
        Noroozi, Favaro, ECCV 2016, arXiv:1603.09246, algorithm 1, which starts at a random order
        and does not say what happens with equal ones.
    """
    if not 1 < tiles <= 9:
        raise ShapeError(f"expected 2 to 9 tiles, got {tiles}")
    orders = _all_orders(tiles)
    if not 1 < count <= len(orders):
        raise ShapeError(f"expected 2 to {len(orders)} orders of {tiles} tiles, got {count}")
    in_common = torch.zeros(len(orders), dtype=torch.int32)  # places, over all chosen orders
    nearest = torch.zeros(len(orders), dtype=torch.int32)  # places, with the nearest of them
    chosen = [0]
    while len(chosen) < count:
        same = (orders == orders[chosen[-1]]).sum(dim=1, dtype=torch.int32)
        in_common += same
        nearest = torch.maximum(nearest, same)
        in_common[chosen[-1]] = torch.iinfo(torch.int32).max // 16  # not again
        chosen.append(int((in_common * (tiles + 1) + nearest).argmin()))
    return orders[chosen].long()


def _all_orders(tiles: int) -> Tensor:
    """Return all orders of `0 .. tiles - 1`, the rising one first, `[tiles!, tiles]`, uint8."""
    orders = torch.zeros(1, 0, dtype=torch.uint8)
    for tile in range(tiles):
        new = torch.full((len(orders), 1), tile, dtype=torch.uint8)
        orders = torch.cat(
            [
                torch.cat([orders[:, :place], new, orders[:, place:]], dim=1)
                for place in range(tile, -1, -1)
            ]
        )
    return orders
