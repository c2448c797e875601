"""Two views of the users and items of a batch, always the same ones for a step."""

import numpy as np
import torch

from recssl.graph import GraphView, InteractionGraph, LowRank
from recssl.perturb import drop_edges, drop_nodes, random_walk, svd_view
from recssl.sampling.positives import Pairs
from recssl.settings.train import TrainConfig
from sslcore.errors import ConfigError
from sslcore.views import ViewBatch

_VIEWS = 2  # keeps the random stream apart from others of a step


class ViewMaker:
    """Makes the views of each step; what stays the same for a run is made once."""

    def __init__(self, graph: InteractionGraph, config: TrainConfig) -> None:
        """Prepare.

        Args:
            graph: What is learnt from.
            config: Of the run.

        Raises:
            ConfigError: The graph has no low-rank copy of the rank asked for.
        """
        self._graph = graph
        self._config = config
        self._low_rank: LowRank | None = None
        if config.contrast is not None and config.perturbation == "svd":
            self._low_rank = _low_rank(graph, config)

    def of(self, pairs: Pairs, step: int) -> ViewBatch[GraphView]:
        """Return two views of the nodes of `pairs`, each node once, users first.

        Of the graph as it is there is one view.

        Raises:
            ConfigError: All pairs are of one user, or of one item.
        """
        users, items = (np.unique(side) for side in pairs)
        for name, side in (("user", users), ("item", items)):
            if len(side) < 2:
                raise ConfigError(
                    f"run.batch_size {len(pairs.users)}: all pairs of step {step} are of one"
                    f" {name}, and a contrast compares two or more; raise it, or leave the"
                    " self-supervised part out (--method infonce)"
                )
        nodes = torch.from_numpy(np.concatenate([users, items + self._graph.num_users]))
        segments = (len(users), len(items))
        if self._low_rank is not None:
            return ViewBatch((GraphView(nodes), GraphView(nodes, self._low_rank)), segments)
        if self._config.perturbation == "none":
            return ViewBatch((GraphView(nodes),), segments)
        seeds = np.random.default_rng((self._config.run.seed, step, _VIEWS))
        views = tuple(self._view(nodes, int(seed)) for seed in seeds.integers(2**62, size=2))
        return ViewBatch(views, segments)

    def _view(self, nodes: torch.Tensor, seed: int) -> GraphView:
        views, rng = self._config.views, np.random.default_rng(seed)
        match self._config.perturbation:
            case "noise":
                return GraphView(nodes, None, views.noise, seed)
            case "edge_drop":
                return GraphView(nodes, drop_edges(self._graph, views.rate, rng))
            case "node_drop":
                return GraphView(nodes, drop_nodes(self._graph, views.rate, rng))
            case _:
                layers: int = getattr(self._config.encoder, "layers", 1)
                return GraphView(nodes, random_walk(self._graph, views.rate, layers, rng))


def _low_rank(graph: InteractionGraph, config: TrainConfig) -> LowRank:
    rank, largest = config.views.rank, min(graph.num_users, graph.num_items)
    if rank > largest:
        raise ConfigError(
            f"views.rank {rank}: a graph of {graph.num_users} users and {graph.num_items} items"
            f" has no more than {largest} singular values; lower it"
        )
    return svd_view(graph, rank, seed=config.run.seed)
