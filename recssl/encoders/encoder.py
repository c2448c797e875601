"""What training, export and methods know about an encoder of users and items."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recssl.graph import GraphView


class NodeEncoder(nn.Module, ABC):
    """From nodes of the interaction graph to embeddings.

    Attributes:
        num_users: Nodes `0 .. num_users - 1`.
        num_items: The nodes after them.
        dim: Columns of an embedding.
    """

    def __init__(self, num_users: int, num_items: int, dim: int) -> None:
        super().__init__()
        self.num_users = num_users
        self.num_items = num_items
        self.dim = dim

    @abstractmethod
    def forward(self, view: GraphView) -> Tensor:
        """Return the embeddings of `view.nodes`, `[batch, dim]`."""

    @torch.no_grad()
    def embed_all(self) -> tuple[Tensor, Tensor]:
        """Return all users, `[num_users, dim]`, and all items, `[num_items, dim]`."""
        device = next(self.parameters()).device
        nodes = torch.arange(self.num_users + self.num_items, device=device)
        rows: Tensor = self(GraphView(nodes, None))
        return rows[: self.num_users], rows[self.num_users :]


def embedding_rows(rows: int, dim: int, *, sparse: bool) -> nn.Embedding:
    """Draw rows of length about 1 from torch's global generator.

    Args:
        rows: Their number.
        dim: Columns.
        sparse: Whether gradients hold only the rows of the batch.
    """
    table = nn.Embedding(rows, dim, sparse=sparse)
    nn.init.normal_(table.weight, std=dim**-0.5)
    return table


class EmbeddingTable(NodeEncoder):
    """An encoder with one row of weights per node.

    Attributes:
        table: The rows, users first.
    """

    def __init__(self, num_users: int, num_items: int, dim: int, *, sparse: bool) -> None:
        """Draw the rows from torch's global generator, of length about 1.

        Args:
            num_users: Rows.
            num_items: Further rows.
            dim: Columns.
            sparse: Whether gradients hold only the rows of the batch.
        """
        super().__init__(num_users, num_items, dim)
        self.table = embedding_rows(num_users + num_items, dim, sparse=sparse)

    @torch.no_grad()
    def start_from(self, users: Tensor, items: Tensor) -> None:
        """Set the rows, each side scaled so that its rows have length 1 on average."""
        sides = [side / side.norm(dim=1).mean().clamp_min(1e-12) for side in (users, items)]
        self.table.weight.copy_(torch.cat(sides))


def add_noise(rows: Tensor, *, amount: float, generator: torch.Generator) -> Tensor:
    """Move each row by `amount` in a random direction of its own orthant.

    Args:
        rows: `[batch, dim]`.
        amount: Length of the move; 0 leaves the rows as they are.
        generator: On the device of the rows.

    Source:
        Yu et al., "Are graph augmentations necessary?" (SimGCL), SIGIR 2022, arXiv:2112.08679,
        equations 6 and 7: uniform numbers at length `amount`, with the signs of the row.
    """
    if amount == 0:
        return rows
    noise = torch.rand(rows.shape, generator=generator, device=rows.device, dtype=rows.dtype)
    return rows + rows.detach().sign() * F.normalize(noise, dim=1) * amount
