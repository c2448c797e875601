"""Heads: from encoder features to the space in which the objective compares."""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from sslcore.errors import ShapeError


def projection_mlp(
    dims: Sequence[int], *, hidden_norm: bool = True, final_norm: bool = False
) -> nn.Sequential:
    """Stack linear layers with ReLU between them.

    A linear layer in front of a batch norm has no bias, since the norm would take it out again.

    Args:
        dims: Sizes from input to output, at least two.
        hidden_norm: Batch norm before each ReLU: SimCLR, BYOL, SimSiam, Barlow Twins and VICReg
            have it, MoCo v2 does not.
        final_norm: Batch norm without scale and shift after the last layer, as SimSiam has it;
            SimCLR's has a scale.

    Raises:
        ShapeError: If `dims` has fewer than two sizes, or one below 1.
    """
    if len(dims) < 2 or min(dims) < 1:
        raise ShapeError(f"expected at least two positive layer sizes, got {list(dims)}")
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(dims[:-1]):
        layers.append(nn.Linear(width_in, width_out, bias=not hidden_norm))
        if hidden_norm:
            layers.append(nn.BatchNorm1d(width_out))
        layers.append(nn.ReLU())
    layers.append(nn.Linear(dims[-2], dims[-1], bias=not final_norm))
    if final_norm:
        layers.append(nn.BatchNorm1d(dims[-1], affine=False))
    return nn.Sequential(*layers)


def first_layer(head: nn.Module) -> nn.Sequential:
    """Return the first layer of a head that `projection_mlp` made, its ReLU included.

    It shares its weights with the head.

    Raises:
        ShapeError: The head has one layer only, or is of another kind.
    """
    layers = list(head) if isinstance(head, nn.Sequential) else []
    ends = [place for place, layer in enumerate(layers) if isinstance(layer, nn.ReLU)]
    if not ends or not isinstance(layers[0], nn.Linear):
        raise ShapeError(f"expected a head of at least two linear layers, got {head}")
    return nn.Sequential(*layers[: ends[0] + 1])


def prediction_mlp(dim: int, hidden_dim: int, *, final_norm: bool = False) -> nn.Sequential:
    """Map projections to predictions of the same size through one hidden layer with batch norm.

    Args:
        dim: Of the projections.
        hidden_dim: BYOL takes a wider layer (4096 for 256), SimSiam a narrower (512 for 2048).
        final_norm: See `projection_mlp`; MoCo v3 has it on transformers.
    """
    return projection_mlp([dim, hidden_dim, dim], final_norm=final_norm)
