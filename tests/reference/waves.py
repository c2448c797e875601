"""Inputs for the tests of all objectives."""

import torch
from torch import Tensor


def wave(rows: int, dim: int, phase: float) -> Tensor:
    """Closed-form input, so that golden numbers do not depend on a random generator."""
    i = torch.arange(rows, dtype=torch.float64)[:, None]
    j = torch.arange(dim, dtype=torch.float64)[None, :]
    return torch.sin(1.7 * i + 0.9 * j + 0.05 * i * j + phase)


def pair(shape: tuple[int, int], seed: int) -> tuple[Tensor, Tensor]:
    """Two related batches of projections, float64."""
    generator = torch.Generator().manual_seed(seed)
    z_a = torch.randn(shape, generator=generator, dtype=torch.float64)
    return z_a, z_a + 0.3 * torch.randn(shape, generator=generator, dtype=torch.float64)


def degenerate() -> dict[str, tuple[Tensor, Tensor]]:
    """Float32 inputs at the edge, that must give finite losses and gradients."""
    z_a, z_b = (z.float() for z in pair((6, 4), seed=0))
    huge = z_a.clone()
    huge[1, 2] = 1e6
    dead = z_a.clone()
    dead[3] = 0
    return {
        "zeros": (torch.zeros(6, 4), torch.zeros(6, 4)),
        "equal rows": (z_a[:1].repeat(6, 1), z_a[:1].repeat(6, 1)),
        "one huge value": (huge, z_b),
        "one zero row": (dead, z_b),
        "equal views": (z_a, z_a),
    }
