"""The head of DINO: an MLP to a narrow layer, then prototypes."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from sslcore.errors import ShapeError
from sslcore.modules.prototypes import Prototypes


class DistillationHead(nn.Module):
    """From features to the scores of prototypes.

    Source:
        Caron et al., "DINO", ICCV 2021, arXiv:2104.14294, section 3.1; weights start as in a vision
        transformer, without biases.
    """

    def __init__(
        self, dims: Sequence[int], num_prototypes: int, *, hidden_norm: bool = False
    ) -> None:
        """Stack linear layers with GELU between them.

        Args:
            dims: Sizes from the features to the narrow layer, at least two.
            num_prototypes: Size of the output.
            hidden_norm: Batch norm before each GELU. The paper does without; on little data the
                projections of all samples then become one before they have learnt anything.

        Raises:
            ShapeError: `dims` has fewer than two sizes, or one below 1.
        """
        super().__init__()
        if len(dims) < 2 or min(dims) < 1:
            raise ShapeError(f"expected at least two positive layer sizes, got {list(dims)}")
        layers: list[nn.Module] = []
        for width_in, width_out in pairwise(dims[:-1]):
            layers.append(_linear(width_in, width_out))
            if hidden_norm:
                layers.append(nn.BatchNorm1d(width_out))
            layers.append(nn.GELU())
        self.mlp = nn.Sequential(*layers, _linear(*dims[-2:]))
        self.prototypes = Prototypes(num_prototypes, dims[-1])

    def forward(self, features: Tensor, *, frozen: bool = False) -> Tensor:
        """Return scores, `[rows, num_prototypes]`; see `Prototypes.forward`."""
        scores: Tensor = self.prototypes(self.mlp(features), frozen=frozen)
        return scores


def _linear(width_in: int, width_out: int) -> nn.Linear:
    layer = nn.Linear(width_in, width_out)
    nn.init.trunc_normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer
