"""BUIR and SelfCF: a user and its liked item predict each other, without negatives."""

import torch
from torch import Tensor, nn

from recssl.encoders.encoder import NodeEncoder
from recssl.graph import GraphView
from recssl.methods.ranking import Ranked, Ranking
from sslcore.modules.ema import EmaTeacher
from sslcore.objectives.regression import negative_cosine, normalised_distance


class Bootstrap(Ranking):
    """A linear predictor between users and items, which scoring needs too.

    The score of a pair is `q(user) . item + user . q(item)`, so the embeddings that are stored
    are the two vectors of each node, one after the other, `[2 * dim]` wide.
    """

    cosine = False

    def __init__(self, dim: int) -> None:
        """Draw the predictor `q` from torch's global generator."""
        super().__init__()
        self.predictor = nn.Linear(dim, dim)

    def scored(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """See `Ranking.scored`."""
        return (
            torch.cat([self.predictor(users), users], dim=1),
            torch.cat([items, self.predictor(items)], dim=1),
        )


class BUIR(Bootstrap):
    """Predict the item's embedding by a slowly moving copy of the encoder, and the user's.

    Source:
        Lee et al., "Bootstrapping user and item representations for one-class collaborative
        filtering", SIGIR 2021, arXiv:2105.06323, section 4.2; the score section 4.3. With a
        LightGCN it is BUIR-NB without its random choice of neighbours.
    """

    def __init__(self, encoder: NodeEncoder, *, momentum: float) -> None:
        """Start the copy.

        Args:
            encoder: Of users and items.
            momentum: Of the copy's weights, 0 to 1.
        """
        super().__init__(encoder.dim)
        self.teacher = EmaTeacher(encoder)
        self.num_users = encoder.num_users
        self.momentum = momentum

    def forward(self, batch: Ranked) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Ranking.forward`."""
        nodes = torch.cat([batch.user_ids, batch.item_ids + self.num_users])
        users, items = self.teacher(GraphView(nodes)).split(len(batch.user_ids))
        of_items = normalised_distance(self.predictor(batch.users), items)
        of_users = normalised_distance(self.predictor(batch.items), users)
        loss = of_items + of_users
        return loss, {"positive_similarity": 1 - loss.detach() / 4}

    def after_step(self, encoder: NodeEncoder) -> None:
        """Move the copy."""
        self.teacher.update(encoder, momentum=self.momentum)


class SelfCF(Bootstrap):
    """Predict the other side's embedding with some columns dropped, which no gradient reaches.

    Source:
        Zhou et al., "SelfCF", ACM TORS 2023, arXiv:2107.03019, section 3, with its embedding
        dropout.
    """

    def __init__(self, encoder: NodeEncoder, *, dropout: float) -> None:
        """Prepare.

        Args:
            encoder: Of users and items.
            dropout: Chance of a target's entry to be dropped, `[0, 1)`.
        """
        super().__init__(encoder.dim)
        self.dropout = dropout

    def forward(self, batch: Ranked) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Ranking.forward`."""
        generator = torch.Generator(batch.users.device).manual_seed(batch.seed)
        users, items = (
            self._target(side.detach(), generator) for side in (batch.users, batch.items)
        )
        of_items = negative_cosine(self.predictor(batch.users), items)
        of_users = negative_cosine(self.predictor(batch.items), users)
        loss = (of_items + of_users) / 2
        return loss, {"positive_similarity": -loss.detach()}

    def _target(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        chance = torch.full_like(rows, 1 - self.dropout)
        return rows * torch.bernoulli(chance, generator=generator)
