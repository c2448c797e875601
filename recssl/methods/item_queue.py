"""The item embeddings of past steps, as candidates of a ranking loss."""

import torch
from torch import Tensor, nn

from sslcore.modules.queue import FeatureQueue


class ItemQueue(nn.Module):
    """The last `size` liked items with the embeddings they had then.

    All of it is in the state dict, so a resumed run goes on with the same candidates.

    Source:
        Wang et al., "Cross-batch memory", CVPR 2020, arXiv:1912.06798, section 3.2.
    """

    ids: Tensor

    def __init__(self, size: int, dim: int) -> None:
        """Make an empty queue; `size` is at least that of a batch."""
        super().__init__()
        self.features = FeatureQueue(size, dim)
        self.register_buffer("ids", torch.full((size,), -1))

    @property
    def keys(self) -> Tensor:
        """The embeddings, `[size, dim]`; of a place that is still empty they mean nothing."""
        return self.features.keys

    @torch.no_grad()
    def push(self, ids: Tensor, keys: Tensor) -> None:
        """Replace the oldest by `ids`, `[batch]`, with their embeddings, `[batch, dim]`.

        Raises:
            ShapeError: See `FeatureQueue.push`.
        """
        self.ids[self.features.push(keys)] = ids
