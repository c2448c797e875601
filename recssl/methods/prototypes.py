"""Prototypes of users and of items: the centres of their clusters, found anew at times."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from recssl.encoders.encoder import EmbeddingTable
from recssl.faiss_library import load_faiss
from recssl.objectives.prototype_nce import prototype_nce_loss

_LEAST = 4  # nodes for each prototype
_ITERATIONS = 25
_SEED = 0


class Prototypes(nn.Module):
    """Cluster centres of one side, and the cluster of each of its nodes.

    All of it is in the state dict, so a resumed run goes on with the same clusters.
    """

    centres: Tensor
    nearest: Tensor

    def __init__(self, nodes: int, dim: int, *, count: int) -> None:
        """Prepare `count` centres, at most one for each four of the `nodes`; all are zero."""
        super().__init__()
        count = max(1, min(count, nodes // _LEAST))
        self.register_buffer("centres", torch.zeros(count, dim))
        self.register_buffer("nearest", torch.zeros(nodes, dtype=torch.long))

    def loss(self, rows: Tensor, nodes: Tensor, *, temperature: float) -> Tensor:
        """Return `prototype_nce_loss` of `rows`, `[batch, dim]`, those of the given `nodes`."""
        return prototype_nce_loss(
            rows, self.centres, nearest=self.nearest[nodes], temperature=temperature
        )

    @torch.no_grad()
    def find(self, rows: Tensor) -> None:
        """Cluster all nodes, `[nodes, dim]`, by k-means; the same rows give the same clusters.

        Raises:
            ConfigError: FAISS is not installed.
        """
        faiss = load_faiss("contrast ncl", way_out="another contrast")
        points = np.ascontiguousarray(rows.cpu().numpy(), np.float32)
        means = faiss.Kmeans(
            points.shape[1],
            len(self.centres),
            niter=_ITERATIONS,
            seed=_SEED,
            min_points_per_centroid=1,  # else it prints
        )
        means.train(points)
        nearest = means.index.search(points, 1)[1][:, 0]
        self.centres.copy_(torch.from_numpy(means.centroids))
        self.nearest.copy_(torch.from_numpy(nearest))


class PrototypeContrast(nn.Module):
    """Prototypes of both sides, and when they are found.

    Attributes:
        users: Of the users.
        items: Of the items.
        found: How often they were found, a scalar; before the first time there is no loss.
    """

    found: Tensor

    def __init__(
        self,
        encoder: EmbeddingTable,
        *,
        count: int,
        temperature: float,
        warmup: float,
        every: float,
    ) -> None:
        """Prepare.

        Args:
            encoder: Whose table is clustered.
            count: Prototypes of each side, at most.
            temperature: Of the loss.
            warmup: Part of the run before they are found for the first time, `[0, 1)`.
            every: Part of the run after which they are found anew, > 0.
        """
        super().__init__()
        self.users = Prototypes(encoder.num_users, encoder.dim, count=count)
        self.items = Prototypes(encoder.num_items, encoder.dim, count=count)
        self.temperature = temperature
        self.warmup = warmup
        self.every = every
        self.register_buffer("found", torch.zeros((), dtype=torch.long))

    def losses(
        self, users: Tensor, items: Tensor, user_ids: Tensor, item_ids: Tensor
    ) -> tuple[Tensor, Tensor] | None:
        """Return the loss of the users and that of the items; None before the first prototypes.

        Args:
            users: Rows of the table, `[users, dim]`.
            items: Rows of the table, `[items, dim]`.
            user_ids: Whose they are, `[users]`.
            item_ids: Whose they are, `[items]`, from 0.
        """
        if not self.found:
            return None
        return (
            self.users.loss(users, user_ids, temperature=self.temperature),
            self.items.loss(items, item_ids, temperature=self.temperature),
        )

    def after_step(self, encoder: EmbeddingTable, progress: float) -> None:
        """Find the prototypes if it is time; `progress` is the completed part of the run."""
        due = 1 + math.floor((progress - self.warmup) / self.every + 1e-9)
        if due <= int(self.found):
            return
        users, items = torch.split(encoder.table.weight, [encoder.num_users, encoder.num_items])
        self.users.find(users)
        self.items.find(items)
        self.found.fill_(due)
