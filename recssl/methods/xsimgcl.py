"""XSimGCL: one noisy pass serves the ranking and the contrast of two depths."""

import torch

from recssl.encoders.lightgcn import LightGCN
from recssl.methods.joint import RecBatch, Recommendation
from recssl.methods.ranking import Ranking
from sslcore.errors import ConfigError, ShapeError
from sslcore.methods.method import StepOutput
from sslcore.modules.queue import FeatureQueue
from sslcore.objectives.info_nce import InfoNCE
from sslcore.views import per_segment


class CrossLayerRecommendation(Recommendation):
    """`ranking + weight * InfoNCE(final embeddings, those after one of the layers)`.

    Source:
        Yu et al., "XSimGCL", TKDE 2023, arXiv:2209.02544, equations 7 and 8.
    """

    def __init__(
        self,
        encoder: LightGCN,
        ranking: Ranking,
        *,
        weight: float,
        layer: int,
        temperature: float,
        queue: FeatureQueue | None = None,
    ) -> None:
        """Join.

        Args:
            encoder: Deep enough for `layer`.
            ranking: Loss on the noisy embeddings.
            weight: Of the contrast.
            layer: Whose embeddings are contrasted with the final ones, from 1.
            temperature: Of the contrast.
            queue: See `Recommendation`.

        Raises:
            ConfigError: The encoder has fewer layers than `layer`.
        """
        super().__init__(encoder, ranking, queue)
        if not 1 <= layer <= encoder.layers:
            raise ConfigError(f"contrast.layer {layer}: the encoder has {encoder.layers} layers")
        self.deep = encoder
        self.weight = weight
        self.layer = layer
        self.compare = InfoNCE(temperature=temperature)

    def forward(self, batch: RecBatch) -> StepOutput:
        """See `Method.forward`; of the views only the first is used.

        Raises:
            ShapeError: If the batch has no view.
        """
        if batch.contrast is None:
            raise ShapeError("expected a view of the nodes of the batch, got none")
        view = batch.contrast.views[0]
        nodes = batch.nodes(self.encoder.num_users)
        joined = type(view)(torch.cat([nodes, view.nodes]), view.adjacency, view.noise, view.seed)
        final, between = self.deep.forward_with_layer(joined, self.layer)
        ranking, logs = self.rank(batch, final[: len(nodes)])
        z_a, z_b = final[len(nodes) :], between[len(nodes) :]
        contrast, _ = per_segment(
            self.compare,
            z_a,
            z_b,
            batch.contrast.segments,
        )
        logs = {"ranking": ranking.detach(), "contrast": contrast.detach(), **logs}
        return StepOutput(ranking + self.weight * contrast, logs)
