"""NCL: each node near to its neighbourhood in the graph, and to the prototype of its cluster."""

import torch
from torch import Tensor

from recssl.encoders.lightgcn import LightGCN
from recssl.graph import GraphView
from recssl.methods.joint import RecBatch, Recommendation
from recssl.methods.prototypes import PrototypeContrast
from recssl.methods.ranking import Ranking
from sslcore.errors import ConfigError, ShapeError
from sslcore.methods.method import StepOutput
from sslcore.modules.queue import FeatureQueue
from sslcore.objectives.info_nce import info_nce_loss


class NeighbourhoodRecommendation(Recommendation):
    """`ranking + weight * (structure + prototype_weight * prototypes)`.

    Structure is InfoNCE of the embeddings after an even number of propagations with the table,
    node by node: what a node's like-minded ones are like, against the node itself. Prototypes is
    ProtoNCE of the table with the centres of its clusters.

    Source:
        Lin et al., NCL, WWW 2022, arXiv:2202.06200, sections 3.2 and 3.3. A sum over the nodes of
        a batch there is a mean here, and `users + item_weight * items` is divided by
        `1 + item_weight`, so that the weights do not depend on the batch. The nodes of the batch
        are compared with each other, not with all.
    """

    def __init__(
        self,
        encoder: LightGCN,
        ranking: Ranking,
        prototypes: PrototypeContrast,
        *,
        weight: float,
        prototype_weight: float,
        item_weight: float,
        layer: int,
        queue: FeatureQueue | None = None,
    ) -> None:
        """Join.

        Args:
            encoder: Deep enough for `layer`.
            ranking: Loss on the clean graph.
            prototypes: Of the table of `encoder`; their temperature is that of the structure too.
            weight: Of structure and prototypes together.
            prototype_weight: Of the prototypes, that of the structure being 1.
            item_weight: Of items in both, that of users being 1.
            layer: Whose embeddings are contrasted with the table; even, so that a node meets
                nodes of its own kind.
            queue: See `Recommendation`.

        Raises:
            ConfigError: `layer` is odd, or the encoder has fewer layers.
        """
        super().__init__(encoder, ranking, queue)
        if layer < 1 or layer % 2 or layer > encoder.layers:
            raise ConfigError(
                f"contrast.layer {layer}: expected an even one, at most that of the encoder,"
                f" {encoder.layers}"
            )
        self.deep = encoder
        self.prototypes = prototypes
        self.weight = weight
        self.prototype_weight = prototype_weight
        self.item_weight = item_weight
        self.layer = layer

    def forward(self, batch: RecBatch) -> StepOutput:
        """See `Method.forward`; of the views the nodes of the first are taken.

        Raises:
            ShapeError: If the batch has no view, or it is not of users and items.
        """
        if batch.contrast is None or len(batch.contrast.segments) != 2:
            raise ShapeError("expected a view of the users and items of the batch, got none")
        nodes, asked = batch.nodes(self.encoder.num_users), batch.contrast.views[0].nodes
        final, around = self.deep.forward_with_layer(
            GraphView(torch.cat([nodes, asked])), self.layer
        )
        ranking, logs = self.rank(batch, final[: len(nodes)])
        contrast, terms = self._contrast(asked, around[len(nodes) :], batch.contrast.segments)
        logs = {"ranking": ranking.detach(), "contrast": contrast.detach(), **terms, **logs}
        return StepOutput(ranking + self.weight * contrast, logs)

    def after_step(self, progress: float) -> None:
        """Find the prototypes anew, if it is time."""
        super().after_step(progress)
        self.prototypes.after_step(self.deep, progress)

    def _contrast(
        self, nodes: Tensor, around: Tensor, segments: tuple[int, ...]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        own = self.deep.table.weight[nodes]
        (user_ids, item_nodes), (users, items), sides = (
            torch.split(rows, list(segments)) for rows in (nodes, own, around)
        )
        structure = self._joined(
            info_nce_loss(sides[0], users, temperature=self.prototypes.temperature),
            info_nce_loss(sides[1], items, temperature=self.prototypes.temperature),
        )
        terms = {"structure": structure.detach()}
        found = self.prototypes.losses(users, items, user_ids, item_nodes - self.encoder.num_users)
        if found is None:
            return structure, terms
        prototypes = self._joined(*found)
        terms["prototypes"] = prototypes.detach()
        return structure + self.prototype_weight * prototypes, terms

    def _joined(self, of_users: Tensor, of_items: Tensor) -> Tensor:
        return (of_users + self.item_weight * of_items) / (1 + self.item_weight)
