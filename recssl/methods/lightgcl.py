"""LightGCL: one pass along the graph and one along its largest singular values."""

import torch

from recssl.encoders.lightgcn import LightGCN
from recssl.graph import LowRank
from recssl.methods.joint import RecBatch, Recommendation
from recssl.methods.ranking import Ranking
from sslcore.errors import ShapeError
from sslcore.methods.method import StepOutput, two_views
from sslcore.modules.queue import FeatureQueue
from sslcore.objectives.info_nce import InfoNCE
from sslcore.views import per_segment


class LowRankRecommendation(Recommendation):
    """`ranking + weight * InfoNCE(embeddings along the graph, those along the low-rank one)`.

    Source:
        Cai et al., "LightGCL", ICLR 2023, arXiv:2302.08191, sections 3.2 and 3.3. The mean over
        the layers is contrasted once, not each layer by itself, and with the nodes of the batch,
        not with all; no edges are dropped from the graph.
    """

    def __init__(
        self,
        encoder: LightGCN,
        ranking: Ranking,
        *,
        weight: float,
        temperature: float,
        queue: FeatureQueue | None = None,
    ) -> None:
        """Join.

        Args:
            encoder: Propagates along both graphs.
            ranking: Loss on the clean graph.
            weight: Of the contrast.
            temperature: Of the contrast.
            queue: See `Recommendation`.
        """
        super().__init__(encoder, ranking, queue)
        self.deep = encoder
        self.weight = weight
        self.compare = InfoNCE(temperature=temperature)

    def forward(self, batch: RecBatch) -> StepOutput:
        """See `Method.forward`; the second view brings the low-rank graph.

        Raises:
            ShapeError: If it does not.
        """
        view = None if batch.contrast is None else two_views(batch.contrast)[1]
        if batch.contrast is None or view is None or not isinstance(view.adjacency, LowRank):
            raise ShapeError("expected a low-rank second view of the nodes of the batch, got none")
        nodes = batch.nodes(self.encoder.num_users)
        local, spread = self.deep.forward_with_low_rank(
            torch.cat([nodes, view.nodes]), view.adjacency
        )
        ranking, logs = self.rank(batch, local[: len(nodes)])
        contrast, _ = per_segment(
            self.compare,
            local[len(nodes) :],
            spread[len(nodes) :],
            batch.contrast.segments,
        )
        logs = {"ranking": ranking.detach(), "contrast": contrast.detach(), **logs}
        return StepOutput(ranking + self.weight * contrast, logs)
