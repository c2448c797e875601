"""A ranking loss, joined with a self-supervised method on views of users and items."""

from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from recssl.encoders.encoder import NodeEncoder
from recssl.graph import GraphView
from recssl.methods.ranking import Ranked, Ranking
from sslcore.errors import ShapeError
from sslcore.methods.method import Method, StepOutput, ViewMethod, two_views
from sslcore.modules.queue import FeatureQueue
from sslcore.views import ViewBatch


@dataclass(frozen=True, slots=True)
class RecBatch:
    """What one step trains on.

    Attributes:
        users: `[batch]`.
        items: The liked item of each row, `[batch]`.
        negatives: Drawn items, `[batch, count]`, or `[count]` for all rows; None to compare with
            the items of other rows.
        with_batch: Compare with the items of other rows beside `negatives` for all rows.
        log_q: See `compare_with_candidates`.
        excluded: See there.
        contrast: Views of the users and items of the batch, each once, users first; None
            without a self-supervised part.
        seed: Of what the ranking loss draws at random.
    """

    users: Tensor
    items: Tensor
    negatives: Tensor | None = None
    with_batch: bool = False
    log_q: Tensor | None = None
    excluded: Tensor | None = None
    contrast: ViewBatch[GraphView] | None = None
    seed: int = 0

    def to(self, device: torch.device) -> Self:
        """Return a copy on `device`."""
        names = ("users", "items", "negatives", "log_q", "excluded")
        tensors = {name: getattr(self, name) for name in names}
        moved: dict[str, Any] = {
            name: None if tensor is None else tensor.to(device) for name, tensor in tensors.items()
        }
        if self.contrast is not None:
            views = tuple(view.to(device) for view in self.contrast.views)
            moved["contrast"] = ViewBatch(views, self.contrast.segments)
        return replace(self, **moved)

    def nodes(self, num_users: int) -> Tensor:
        """Return the nodes of users, items and negatives, one after the other."""
        parts = [self.users, self.items + num_users]
        if self.negatives is not None:
            parts.append(self.negatives.flatten() + num_users)
        return torch.cat(parts)

    def ranked(self, rows: Tensor) -> Ranked:
        """Take apart the embeddings of `nodes`, `[nodes, dim]`."""
        batch = len(self.users)
        negatives = None
        if self.negatives is not None:
            negatives = rows[2 * batch :].reshape(*self.negatives.shape, rows.shape[1])
        return Ranked(
            rows[:batch],
            rows[batch : 2 * batch],
            self.users,
            self.items,
            negatives,
            self.with_batch,
            self.log_q,
            self.excluded,
            self.seed,
        )


class Recommendation(Method[RecBatch]):
    """A ranking loss on the embeddings of the clean graph.

    Attributes:
        ranking: The loss.
        queue: Liked items of past steps with the embeddings they had then, candidates of all rows
            in the columns after the others.

    Source:
        The queue: Wang et al., "Cross-batch memory", CVPR 2020, arXiv:1912.06798, section 3.2.
    """

    def __init__(
        self, encoder: NodeEncoder, ranking: Ranking, queue: FeatureQueue | None = None
    ) -> None:
        super().__init__()
        self.nodes_encoder = encoder
        self.ranking = ranking
        self.queue = queue
        self._pending: list[tuple[Tensor, Tensor]] = []

    @property
    def encoder(self) -> NodeEncoder:
        """What is trained."""
        return self.nodes_encoder

    def forward(self, batch: RecBatch) -> StepOutput:
        """See `Method.forward`."""
        rows = self.encoder(GraphView(batch.nodes(self.encoder.num_users)))
        loss, logs = self.rank(batch, rows)
        return StepOutput(loss, logs)

    def rank(self, batch: RecBatch, rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the ranking loss of the embeddings of `batch.nodes`, and terms for the log."""
        ranked = batch.ranked(rows)
        if self.queue is not None:
            if self.training:
                self._pending = [(batch.items, ranked.items.detach())]
            ranked = ranked.beside(self.queue.keys)
        result: tuple[Tensor, dict[str, Tensor]] = self.ranking(ranked)
        return result

    def after_step(self, progress: float) -> None:
        """Queue the items of this step, and move what the ranking loss holds."""
        for ids, keys in self._pending:
            if self.queue is not None:
                self.queue.push(keys, ids)
        self._pending = []
        self.ranking.after_step(self.encoder)

    @torch.no_grad()
    def embed_all(self) -> tuple[Tensor, Tensor]:
        """Return all users and all items, as the ranking loss scores them."""
        scored: tuple[Tensor, Tensor] = self.ranking.scored(*self.encoder.embed_all())
        return scored


class JointRecommendation(Recommendation):
    """`ranking + weight * contrast`, on one encoder.

    Source:
        The sum: Wu et al., "Self-supervised graph learning" (SGL), SIGIR 2021, arXiv:2010.10783,
        equation 13. Users and items are separate segments of the views, never compared with each
        other, and weigh the same.
    """

    def __init__(
        self,
        encoder: NodeEncoder,
        ranking: Ranking,
        contrast: ViewMethod,
        *,
        weight: float,
        queue: FeatureQueue | None = None,
    ) -> None:
        """Join.

        Args:
            encoder: The one inside of `contrast`.
            ranking: Loss on the clean graph.
            contrast: Compares two views of the nodes.
            weight: Of its loss.
            queue: See `Recommendation`.
        """
        super().__init__(encoder, ranking, queue)
        self.contrast = contrast
        self.weight = weight

    def forward(self, batch: RecBatch) -> StepOutput:
        """See `Method.forward`.

        Raises:
            ShapeError: If the batch has no views.
        """
        ranking = super().forward(batch)
        if batch.contrast is None:
            raise ShapeError("expected two views of the nodes of the batch, got none")
        extra = self.contrast(batch.contrast)
        logs = {
            "ranking": ranking.loss.detach(),
            "contrast": extra.loss.detach(),
            **ranking.logs,
            **extra.logs,
        }
        return StepOutput(ranking.loss + self.weight * extra.loss, logs)

    def after_step(self, progress: float) -> None:
        """Pass on to the self-supervised part too."""
        super().after_step(progress)
        self.contrast.after_step(progress)


class PerSide(ViewMethod):
    """Two methods of one kind on one encoder: one for users, one for items.

    For methods with a queue, whose entries must not come from the other side, and for heads with
    batch norms, whose statistics must not mix the two. Each has a head and, where there is one, a
    teacher of its own; the encoders of both teachers start and move alike, so they stay equal, and
    one pass of either serves both sides (`GraphView.passes`).
    """

    def __init__(self, of_users: ViewMethod, of_items: ViewMethod) -> None:
        super().__init__()
        self.of_users = of_users
        self.of_items = of_items
        self.student = of_users.student

    def forward(self, batch: ViewBatch[GraphView]) -> StepOutput:
        """Compare within each of two segments; see `Method.forward`.

        Raises:
            ShapeError: If there are not two segments.
        """
        if len(batch.segments) != 2:
            raise ShapeError(f"expected users and items, got {len(batch.segments)} segments")
        views, count = [replace(view, passes={}) for view in two_views(batch)], batch.segments[0]
        users = self.of_users(_part(views, slice(count)))
        items = self.of_items(_part(views, slice(count, None)))
        logs = {name: (users.logs[name] + items.logs[name]) / 2 for name in users.logs}
        return StepOutput((users.loss + items.loss) / 2, logs)

    def after_step(self, progress: float) -> None:
        """Move both."""
        self.of_users.after_step(progress)
        self.of_items.after_step(progress)


def _part(views: list[GraphView], rows: slice) -> ViewBatch[GraphView]:
    """Return the views of some of the nodes, which are their ids too."""
    parts = tuple(replace(view, nodes=view.nodes[rows]) for view in views)
    return ViewBatch(parts, ids=parts[0].nodes)
