"""From trained embeddings to those that are stored: one inner product is the score."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from recssl.matrices import count_users, normalised
from recssl.popularity_column import beside, log_popularity
from sslcore.numerics import unit_rows


class Readout:
    """Brings embeddings to length 1, if the loss compared directions, and propagates them.

    In-batch negatives are drawn by popularity, so the loss takes popularity out of the
    embeddings; the propagation over the graph brings it back in, or, exactly, a further column.
    """

    def __init__(
        self,
        train: csr_array,
        *,
        cosine: bool,
        layers: int,
        weight: float,
        popularity: float = 0.0,
    ) -> None:
        """Prepare.

        Args:
            train: Interactions, `[users, items]`.
            cosine: Whether to bring rows to length 1 first.
            layers: Propagations; their results are added to the embeddings.
            weight: Factor of each propagation.
            popularity: Weight of the items' log popularity in a last column; 0 for no column.
        """
        self.cosine = cosine
        self.layers = layers
        self.weight = weight
        self.popularity = popularity
        self._column = log_popularity(count_users(train), popularity)
        self._matrix = normalised(train) if layers else train
        self._flipped = csr_array(self._matrix.T) if layers else train

    @torch.no_grad()
    def __call__(self, users: Tensor, items: Tensor) -> tuple[NDArray[np.float32], ...]:
        """Return users and items, float32, on the CPU; a user's score of an item is their product.

        Args:
            users: `[num_users, dim]`.
            items: `[num_items, dim]`.

        Returns:
            `[num_users, dim]` and `[num_items, dim]`, with `popularity` a column more.
        """
        sides = [
            unit_rows(side.float()) if self.cosine else side.float() for side in (users, items)
        ]
        current_users, current_items = (side.cpu().numpy() for side in sides)
        total_users, total_items = current_users.copy(), current_items.copy()
        for _ in range(self.layers):
            current_users, current_items = (
                self.weight * (self._matrix @ current_items),
                self.weight * (self._flipped @ current_users),
            )
            total_users += current_users
            total_items += current_items
        if not self.popularity:
            return total_users, total_items
        ones = np.ones(len(total_users), np.float32)
        return beside(total_users, ones), beside(total_items, self._column)
