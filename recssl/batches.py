"""From a step's number to its batch: pairs, negatives, masks and views, always the same ones."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import assert_never

import numpy as np
import torch
from numpy.typing import NDArray

from recssl.encoders.encoder import NodeEncoder
from recssl.graph import GraphView, InteractionGraph
from recssl.methods.joint import RecBatch
from recssl.sampling.columns import SharedColumns
from recssl.sampling.negatives import Hard, Negatives, Popularity, Shared, Uniform
from recssl.sampling.positives import EdgeUniform, Pairs, Positives, UserUniform
from recssl.settings.sampling import SamplingConfig
from recssl.settings.train import TrainConfig
from recssl.view_maker import ViewMaker
from sslcore.modules.queue import FeatureQueue

_NEGATIVES, _LOSS = 1, 3  # keep the random streams of a step apart; 2 is that of the views


@dataclass(frozen=True, slots=True)
class Drawn:
    """What the samplers give for one step.

    Attributes:
        step: Its number, from 0.
        pairs: Users and liked items.
        negatives: `[batch, count]`, or `[count]` for all rows; None for in-batch negatives.
    """

    step: int
    pairs: Pairs
    negatives: NDArray[np.int64] | None


class BatchMaker:
    """Draws and completes batches; holds nothing that a resumed run would miss."""

    def __init__(
        self,
        graph: InteractionGraph,
        encoder: NodeEncoder,
        config: TrainConfig,
        queue: FeatureQueue | None = None,
    ) -> None:
        """Prepare.

        Args:
            graph: What is learnt from.
            encoder: Scores hard negatives.
            config: Of the run.
            queue: Whose items are candidates too, as they are when a batch is completed.

        Raises:
            LogError: The graph has no interaction, or a user without a possible negative.
            ConfigError: The graph has no low-rank copy of the rank asked for.
        """
        self._graph = graph
        self._config = config
        self._queue = queue
        self._positives: Positives = (
            EdgeUniform(graph) if config.sampling.positives == "edge" else UserUniform(graph)
        )
        self._negatives = _build_negatives(graph, encoder, config.sampling)
        self._views = ViewMaker(graph, config)
        self._columns = _build_columns(graph, self._positives, self._negatives, config.sampling)

    def draw(self, first_step: int) -> Iterator[Drawn]:
        """Draw pairs and negatives of each step from `first_step` on, without end."""
        run, step = self._config.run, first_step
        while True:
            pairs = self._positives.batch(run.seed, step, run.batch_size)
            rng = np.random.default_rng((run.seed, step, _NEGATIVES))
            yield Drawn(step, pairs, self._draw_negatives(pairs.users, rng))
            step += 1

    def complete(self, drawn: Drawn, *, device: torch.device) -> RecBatch:
        """Add masks and views, and move everything to `device`."""
        users, items = drawn.pairs
        negatives, sampling = drawn.negatives, self._config.sampling
        log_q = excluded = None
        if self._columns is not None:
            past = None if self._queue is None else self._queue.ids.cpu().numpy()
            excluded = self._columns.excluded(users, items, negatives, past)
            if sampling.log_q:
                log_q = sampling.log_q * self._columns.log_q(items, negatives, past)
        batch = RecBatch(
            torch.from_numpy(users),
            torch.from_numpy(items),
            negatives=None if negatives is None else torch.from_numpy(negatives),
            with_batch=sampling.negatives == "mixed",
            log_q=None if log_q is None else torch.from_numpy(log_q),
            excluded=None if excluded is None else torch.from_numpy(excluded),
            contrast=None
            if self._config.contrast is None
            else self._views.of(drawn.pairs, drawn.step),
            seed=int(
                np.random.default_rng((self._config.run.seed, drawn.step, _LOSS)).integers(2**62)
            ),
        )
        return batch.to(device)

    def _draw_negatives(
        self, users: NDArray[np.int64], rng: np.random.Generator
    ) -> NDArray[np.int64] | None:
        if self._negatives is None:
            return None
        number = self._config.sampling.number
        if isinstance(self._negatives, Shared):
            return self._negatives.draw(number, rng)
        return self._negatives.draw(users, number, rng)


def _build_negatives(
    graph: InteractionGraph, encoder: NodeEncoder, config: SamplingConfig
) -> Negatives | Shared | None:
    match config.negatives:
        case "in_batch":
            return None
        case "uniform":
            return Uniform(graph)
        case "popularity":
            return Popularity(graph, config.exponent)
        case "shared" | "mixed":
            return Shared(graph, config.exponent)
        case "hard":
            return Hard(Uniform(graph), _scores_of(encoder), config.candidates)
        case _:
            assert_never(config.negatives)


def _build_columns(
    graph: InteractionGraph,
    positives: Positives,
    negatives: Negatives | Shared | None,
    config: SamplingConfig,
) -> SharedColumns | None:
    if not (config.uses_batch or config.is_shared):
        return None
    return SharedColumns(
        graph,
        liked=positives.item_probabilities(),
        drawn=negatives.probabilities if isinstance(negatives, Shared) else None,
        with_batch=config.uses_batch,
        accidental=config.mask == "positives",
    )


def _scores_of(
    encoder: NodeEncoder,
) -> Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]]:
    """Let the encoder, as it is when asked, score `[batch, count]` items of `[batch]` users."""

    @torch.no_grad()
    def scores(users: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.float32]:
        device = next(encoder.parameters()).device
        nodes = np.concatenate([users, items.ravel() + encoder.num_users])
        rows = encoder(GraphView(torch.from_numpy(nodes).to(device)))
        of_items = rows[len(users) :].reshape(*items.shape, -1)
        found: NDArray[np.float32] = (of_items @ rows[: len(users), :, None])[:, :, 0].cpu().numpy()
        return found

    return scores
