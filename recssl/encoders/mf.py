"""Matrix factorisation: an embedding per user and per item, and nothing else."""

import torch
from torch import Tensor

from recssl.encoders.encoder import EmbeddingTable, add_noise
from recssl.graph import GraphView


class MatrixFactorisation(EmbeddingTable):
    """A table whose gradients hold the rows of the batch only.

    It does not look at the graph: of a view it takes the nodes and the noise, not the adjacency.
    """

    def __init__(self, num_users: int, num_items: int, dim: int) -> None:
        super().__init__(num_users, num_items, dim, sparse=True)

    def forward(self, view: GraphView) -> Tensor:
        """See `NodeEncoder.forward`."""
        rows: Tensor = self.table(view.nodes)
        if view.noise == 0:
            return rows
        generator = torch.Generator(rows.device).manual_seed(view.seed)
        return add_noise(rows, amount=view.noise, generator=generator)
