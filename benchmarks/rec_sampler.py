"""Training triples per second on one core, with exact checks that no negative is a positive.

Processor time is taken, so that other work on the machine does not count, and the best of several
rounds is kept. `plain` is what ten lines of numpy give: draw, look all draws up among the sorted
interactions, draw again. Every round's negatives are checked.

Run: OMP_NUM_THREADS=1 python benchmarks/rec_sampler.py
"""

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from lightgcn_split import read_split
from numpy.typing import NDArray
from record import keep

from recssl.graph import InteractionGraph
from recssl.perturb import drop_edges, svd_view
from recssl.sampling.in_batch import InBatch
from recssl.sampling.negatives import Negatives, Popularity, Uniform
from recssl.sampling.positives import EdgeUniform, Positives, UserUniform

_ROUNDS = 12
_SIZES = [(2048, 1), (8192, 1), (131_072, 1), (1_000_000, 1), (2048, 16), (2048, 64)]


class Plain:
    """Draw all, search all, draw the positives again."""

    def __init__(self, graph: InteractionGraph) -> None:
        """Sort all interactions by one number each."""
        self._items = graph.num_items
        self._keys = graph.edge_users.astype(np.int64) * graph.num_items + graph.edge_items

    def draw(
        self, users: NDArray[np.int64], count: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Return `count` negatives of each user, `[batch, count]`."""
        owners = np.repeat(users, count)
        drawn = rng.integers(self._items, size=len(owners))
        todo = np.arange(len(owners))
        while len(todo):
            keys = owners[todo] * self._items + drawn[todo]
            places = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
            todo = todo[self._keys[places] == keys]
            drawn[todo] = rng.integers(self._items, size=len(todo))
        return drawn.reshape(-1, count)


def seconds(work: Callable[[int], object]) -> float:
    """Return the least processor time of several calls, which get the number of the round."""
    times = []
    for number in range(_ROUNDS):
        start = time.process_time()
        work(number)
        times.append(time.process_time() - start)
    return min(times)


def triples(
    graph: InteractionGraph, positives: Positives, negatives: Negatives, size: int, count: int
) -> dict[str, float]:
    """Return million triples per second, of drawing negatives alone and with the pairs."""
    rng = np.random.default_rng(0)
    users = positives.batch(0, 0, size).users
    drawn = negatives.draw(users, count, rng)
    if graph.contains(users[:, None], drawn).any():
        raise AssertionError("a negative is a positive")
    alone = seconds(lambda _: negatives.draw(users, count, rng))
    both = seconds(lambda step: negatives.draw(positives.batch(0, step, size).users, count, rng))
    million = size * count / 1e6
    return {"negatives": round(million / alone, 1), "with_pairs": round(million / both, 1)}


def parts(graph: InteractionGraph) -> dict[str, float]:
    """Return the milliseconds of everything else that a step or a view needs."""
    edge, user, in_batch = EdgeUniform(graph), UserUniform(graph), InBatch(graph)
    rng = np.random.default_rng(0)
    works: dict[str, Callable[[int], object]] = {
        "build_uniform": lambda _: Uniform(graph),
        "adjacency": lambda _: graph.adjacency(),
        "drop_edges": lambda _: drop_edges(graph, 0.1, rng),
        "svd_view_rank_5": lambda _: svd_view(graph, 5, seed=0),
    }
    for size in (2048, 8192):
        pairs = edge.batch(0, 0, size)
        works[f"edge_uniform_{size}"] = lambda step, size=size: edge.batch(0, step, size)
        works[f"user_uniform_{size}"] = lambda step, size=size: user.batch(0, step, size)
        works[f"mask_{size}"] = lambda _, pairs=pairs: in_batch.mask(*pairs)
        works[f"accidental_{size}"] = lambda _, pairs=pairs: in_batch.accidental(*pairs)
    return {name: round(1000 * seconds(work), 2) for name, work in works.items()}


def main() -> None:
    """Measure on Gowalla."""
    graph = InteractionGraph(read_split("rec_gowalla").train)
    positives = EdgeUniform(graph)
    samplers: dict[str, Negatives] = {
        "uniform": Uniform(graph),
        "popularity_0.75": Popularity(graph, 0.75),
        "plain": Plain(graph),
    }
    rows: list[dict[str, Any]] = [
        {
            "sampler": name,
            "batch": size,
            "count": count,
            **triples(graph, positives, sampler, size, count),
        }
        for name, sampler in samplers.items()
        for size, count in _SIZES
    ]
    keep(
        "rec_sampler",
        {
            "data": "rec_gowalla",
            "interactions": graph.num_edges,
            "threads": 1,
            "clock": "processor time, best of rounds",
            "load_average": round(os.getloadavg()[0], 1),
            "million_triples_per_s": rows,
            "milliseconds": parts(graph),
        },
    )


if __name__ == "__main__":
    main()
