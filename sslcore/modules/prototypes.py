"""Prototypes: directions to which samples are assigned."""

import torch
from torch import Tensor, nn

from sslcore.errors import ShapeError
from sslcore.numerics import in_full_precision, unit_rows


class Prototypes(nn.Module):
    """`count` trained directions, `[count, dim]`; only their directions matter, not lengths.

    It is the last layer of DINO too: a layer with weight normalisation whose scale is fixed at 1.
    """

    def __init__(self, count: int, dim: int) -> None:
        super().__init__()
        if count < 2 or dim < 1:
            raise ShapeError(f"expected at least two prototypes, got {count} x {dim}")
        self.vectors = nn.Parameter(unit_rows(torch.randn(count, dim)))

    def forward(self, z: Tensor, *, frozen: bool = False) -> Tensor:
        """Return the cosine similarities of rows and prototypes, `[rows, count]`.

        Args:
            z: `[rows, dim]`, normalised here.
            frozen: Give the prototypes a gradient of 0. They keep one, since several processes
                wait for the gradient of every parameter; and as only their directions matter, a
                weight decay does not move them.

        Raises:
            ShapeError: `z` is of another width.
        """
        if z.ndim != 2 or z.shape[1] != self.vectors.shape[1]:
            raise ShapeError(
                f"expected rows [batch, {self.vectors.shape[1]}], got {tuple(z.shape)}"
            )
        scores: Tensor = _cosines(z, self.vectors, share=0.0 if frozen else 1.0)
        return scores


@in_full_precision
def _cosines(z: Tensor, vectors: Tensor, *, share: float) -> Tensor:
    """Give `vectors` this share of their gradient."""
    directions = unit_rows(vectors)
    still = directions.detach()
    return unit_rows(z) @ (still + share * (directions - still)).T
