"""What every objective on two aligned views must stand."""

from collections.abc import Callable

import torch
from torch import Tensor

from tests.reference.waves import degenerate, pair

Objective = Callable[[Tensor, Tensor], Tensor]


def assert_gradient_is_right(objective: Objective) -> None:
    z_a, z_b = (z.requires_grad_() for z in pair((5, 3), seed=0))
    assert torch.autograd.gradcheck(objective, (z_a, z_b))


def assert_autocast_changes_nothing(objective: Objective) -> None:
    z_a, z_b = (z.float() for z in pair((64, 32), seed=0))
    expected = objective(z_a, z_b)
    with torch.autocast("cpu", torch.bfloat16):
        actual = objective(z_a, z_b)
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)
    half = objective(z_a.bfloat16(), z_b.bfloat16())
    torch.testing.assert_close(half, objective(z_a.bfloat16().float(), z_b.bfloat16().float()))


def assert_finite_at_the_edge(objective: Objective) -> None:
    for name, views in degenerate().items():
        z_a, z_b = (z.clone().requires_grad_() for z in views)
        loss = objective(z_a, z_b)
        loss.backward()  # type: ignore[no-untyped-call]
        assert loss.isfinite(), name
        for z in (z_a, z_b):
            assert z.grad is None or z.grad.isfinite().all(), name


def assert_same_for_any_order(
    objective: Objective, shape: tuple[int, int], seed: int, *, views: bool = True
) -> None:
    """Of samples, of dimensions and, unless told otherwise, of the two views."""
    z_a, z_b = pair(shape, seed)
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(shape[0], generator=generator)
    columns = torch.randperm(shape[1], generator=generator)
    expected = objective(z_a, z_b)
    torch.testing.assert_close(objective(z_a[rows], z_b[rows]), expected)
    torch.testing.assert_close(objective(z_a[:, columns], z_b[:, columns]), expected)
    if views:
        torch.testing.assert_close(objective(z_b, z_a), expected)
