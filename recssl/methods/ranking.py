"""Ranking losses with their settings, each on the same inputs."""

from abc import ABC, abstractmethod
from typing import NamedTuple, Self

import torch
from pytorch_metric_learning.distances import LpDistance
from torch import Tensor, nn
from torch.nn import functional as F

from recssl.encoders.encoder import NodeEncoder
from recssl.objectives.bilateral_softmax import bilateral_softmax_loss
from recssl.objectives.bpr import bpr_loss
from recssl.objectives.direct_au import direct_au_terms
from recssl.objectives.sampled_softmax import sampled_softmax_loss
from sslcore.errors import ShapeError
from sslcore.methods.triplet import Mining, triplet_miner, triplet_objective

_OUT_OF_REACH = 4.0  # more than two directions can be apart


class Ranked(NamedTuple):
    """One batch of embeddings.

    Attributes:
        users: `[batch, dim]`.
        items: The liked item of each row, `[batch, dim]`.
        user_ids: Numbers of the users, `[batch]`.
        item_ids: Numbers of the items, `[batch]`.
        negatives: Drawn items, `[batch, count, dim]`, or `[count, dim]` for all rows; None for
            those of the other rows.
        with_batch: See `compare_with_candidates`.
        log_q: See there.
        excluded: See there.
        seed: Of what a loss draws at random.
    """

    users: Tensor
    items: Tensor
    user_ids: Tensor
    item_ids: Tensor
    negatives: Tensor | None = None
    with_batch: bool = False
    log_q: Tensor | None = None
    excluded: Tensor | None = None
    seed: int = 0

    def beside(self, past: Tensor) -> Self:
        """Return the batch with further candidates of all rows, `[size, dim]`, after the others.

        Raises:
            ShapeError: If each row has negatives of its own.
        """
        if self.negatives is None:
            return self._replace(negatives=past, with_batch=True)
        if self.negatives.ndim != 2:
            raise ShapeError(
                f"expected negatives for all rows beside those of the queue,"
                f" got {list(self.negatives.shape)}; set sampling.queue to 0"
            )
        return self._replace(negatives=torch.cat([self.negatives, past]))


class Ranking(nn.Module, ABC):
    """A ranking loss. Most hold settings and no state.

    Attributes:
        cosine: Whether it compares directions only, so that stored embeddings have length 1.
    """

    cosine: bool = True

    @abstractmethod
    def forward(self, batch: Ranked) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the scalar loss, and terms for the log."""

    def after_step(self, encoder: NodeEncoder) -> None:
        """Move what gradients do not train, such as a teacher of `encoder`."""

    def scored(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embeddings whose products are scores, from those of the encoder."""
        return users, items


class BPR(Ranking):
    """See `bpr_loss`."""

    cosine = False

    def forward(self, batch: Ranked) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Ranking.forward`.

        Raises:
            ShapeError: There are no drawn negatives.
        """
        if batch.negatives is None:
            raise ShapeError("BPR needs drawn negatives; set sampling.negatives to uniform")
        return bpr_loss(batch.users, batch.items, batch.negatives), {}


class SampledSoftmax(Ranking):
    """See `sampled_softmax_loss`."""

    def __init__(self, *, temperature: float, cosine: bool = True) -> None:
        super().__init__()
        self.temperature = temperature
        self.cosine = cosine

    def forward(self, batch: Ranked) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Ranking.forward`."""
        loss = sampled_softmax_loss(
            batch.users,
            batch.items,
            negatives=batch.negatives,
            with_batch=batch.with_batch,
            log_q=batch.log_q,
            excluded=batch.excluded,
            temperature=self.temperature,
            cosine=self.cosine,
        )
        return loss, {}


class BilateralSoftmax(Ranking):
    """See `bilateral_softmax_loss`."""

    def __init__(self, *, positive_temperature: float, negative_temperature: float) -> None:
        super().__init__()
        self.positive_temperature = positive_temperature
        self.negative_temperature = negative_temperature

    def forward(self, batch: Ranked) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Ranking.forward`."""
        loss = bilateral_softmax_loss(
            batch.users,
            batch.items,
            user_ids=batch.user_ids,
            negatives=batch.negatives,
            with_batch=batch.with_batch,
            log_q=batch.log_q,
            excluded=batch.excluded,
            positive_temperature=self.positive_temperature,
            negative_temperature=self.negative_temperature,
        )
        return loss, {}


class DirectAU(Ranking):
    """`alignment + uniformity_weight * uniformity`; see `direct_au_terms`."""

    def __init__(self, *, uniformity_weight: float) -> None:
        super().__init__()
        self.uniformity_weight = uniformity_weight

    def forward(self, batch: Ranked) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Ranking.forward`."""
        terms = direct_au_terms(
            batch.users, batch.items, user_ids=batch.user_ids, item_ids=batch.item_ids
        )
        loss = terms.alignment + self.uniformity_weight * terms.uniformity
        return loss, {name: term.detach() for name, term in terms._asdict().items()}


class _Reach(LpDistance):  # type: ignore[misc] # the package has no types
    """Distances for a miner: to items that are no negatives of a user, farther than to any other.

    Attributes:
        excluded: Marks them, `[users, items]`; None where there are none.
    """

    excluded: Tensor | None = None

    def compute_mat(self, query_emb: Tensor, ref_emb: Tensor) -> Tensor:
        """Return the distances, `[users, items]`."""
        found: Tensor = super().compute_mat(query_emb, ref_emb)
        return found if self.excluded is None else found + _OUT_OF_REACH * self.excluded


class TripletRanking(Ranking):
    """Triplet margin loss: each user nearer to its item than to a mined item of another row.

    Rows of one item have one label, so an item is never a negative of itself; nor is what
    `Ranked.excluded` marks. Users are compared with items only. See `triplet_objective`.
    """

    def __init__(self, *, margin: float, mining: Mining) -> None:
        super().__init__()
        self.loss = triplet_objective(margin=margin, mining=mining).loss
        self._reach = _Reach(normalize_embeddings=True)
        self.miner = triplet_miner(mining, self._reach)

    def forward(self, batch: Ranked) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Ranking.forward`."""
        # a copy: the same object twice would mean that row i and column i are one sample
        items, labels = batch.items, batch.item_ids.clone()
        if batch.negatives is not None:
            drawn = batch.negatives.flatten(0, 1)
            items = torch.cat([items, drawn])
            labels = torch.cat([labels, labels.new_full((len(drawn),), -1)])
        left_out = None
        if batch.excluded is not None:
            is_other = batch.item_ids[:, None] != batch.item_ids
            left_out = F.pad(batch.excluded & is_other, (0, len(items) - len(batch.items)))
        self._reach.excluded = left_out
        chosen = self.miner(batch.users, batch.item_ids, items, labels)
        if left_out is not None:  # of a user who likes all others, one was taken nevertheless
            users, columns = chosen[2:]
            is_negative = ~left_out[users, columns]
            chosen = tuple(rows[is_negative] for rows in chosen)
        loss: Tensor = self.loss(batch.users, batch.item_ids, chosen, items, labels)
        return loss, {}
