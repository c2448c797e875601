"""Perturbed copies of the interaction graph, for methods that compare two views of a node.

Each call draws a new copy from `rng`; the degrees used to normalise are those of the copy. Noise
on the embeddings needs no copy: `GraphView.noise` asks the encoder for it.
"""

import numpy as np
import torch
from torch import Tensor

from recssl.graph import InteractionGraph, LowRank
from recssl.matrices import normalised
from recssl.svd import truncated_svd
from sslcore.errors import ConfigError


def drop_edges(graph: InteractionGraph, rate: float, rng: np.random.Generator) -> Tensor:
    """Drop each edge with probability `rate`, and return the adjacency `[N, N]` of the rest.

    Args:
        graph: The clean one.
        rate: In `[0, 1)`.
        rng: Makes the choice.

    Raises:
        ConfigError: If `rate` is out of range.

    Source:
        Wu et al., "Self-supervised graph learning for recommendation" (SGL), SIGIR 2021,
        arXiv:2010.10783, equation 8. Edges are dropped independently; the authors' code drops an
        exact share instead.
    """
    _require_rate(rate)
    return graph.adjacency(rng.random(graph.num_edges, dtype=np.float32) >= rate)


def drop_nodes(graph: InteractionGraph, rate: float, rng: np.random.Generator) -> Tensor:
    """Drop each user and item with probability `rate`, with all edges, as `drop_edges` does.

    A dropped node keeps its place, with an empty row.

    Raises:
        ConfigError: If `rate` is out of range.

    Source:
        SGL, arXiv:2010.10783, equation 7.
    """
    _require_rate(rate)
    users = rng.random(graph.num_users, dtype=np.float32) >= rate
    items = rng.random(graph.num_items, dtype=np.float32) >= rate
    return graph.adjacency(users[graph.edge_users] & items[graph.edge_items])


def random_walk(
    graph: InteractionGraph, rate: float, layers: int, rng: np.random.Generator
) -> tuple[Tensor, ...]:
    """Drop edges anew for each layer, and return the adjacency of each, `[N, N]`.

    A node then reaches its neighbours' neighbours by paths that differ from layer to layer, as
    if by random walks.

    Args:
        graph: The clean one.
        rate: In `[0, 1)`.
        layers: Propagations of the encoder, > 0.
        rng: Makes the choice.

    Raises:
        ConfigError: If `rate` is out of range.

    Source:
        SGL, arXiv:2010.10783, equation 9.
    """
    return tuple(drop_edges(graph, rate, rng) for _ in range(layers))


def svd_view(graph: InteractionGraph, rank: int, *, seed: int) -> LowRank:
    """Return the best adjacency of low rank, which keeps what many users have in common.

    It depends on the graph only, so one is enough for a whole run. In LightGCL each layer of the
    view propagates the clean graph's embeddings of the layer before.

    Args:
        graph: The clean one.
        rank: Singular values kept, at most the smaller of users and items; LightGCL uses 5.
        seed: Of the random start of the decomposition.

    Raises:
        ShapeError: If the matrix has no SVD of this rank.

    Source:
        Cai et al., "LightGCL", ICLR 2023, arXiv:2302.08191, equations 4 to 6. The factors take
        the root of the singular values each.
    """
    left, values, right = truncated_svd(normalised(graph.matrix), rank, seed=seed)
    root = np.sqrt(values)
    return LowRank(torch.from_numpy(left * root), torch.from_numpy(right * root))


def _require_rate(rate: float) -> None:
    if not 0 <= rate < 1:
        raise ConfigError(f"expected a share to drop in [0, 1), got {rate}")
