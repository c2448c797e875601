"""Contrast in blocks of rows: value and gradient of the whole, without its memory."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from sslcore.methods.infonce import InfoNCEConfig
from sslcore.methods.simclr import SimCLRConfig
from sslcore.objectives.info_nce import info_nce_loss
from sslcore.objectives.nt_xent import nt_xent_loss
from sslcore.views import ViewBatch
from tests.reference.waves import pair

QUEUE = pair((40, 6), seed=3)[0]
Loss = Callable[..., Tensor]
each_loss = pytest.mark.parametrize(
    "loss",
    [nt_xent_loss, info_nce_loss, partial(info_nce_loss, negatives=QUEUE)],
    ids=["nt_xent", "info_nce", "info_nce with a queue"],
)


def with_gradient(loss: Loss, block: int | None) -> tuple[Tensor, ...]:
    z_a, z_b = (z.requires_grad_() for z in pair((13, 6), seed=1))
    value = loss(z_a, z_b, temperature=0.2, block=block)
    return (value.detach(), *torch.autograd.grad(value, (z_a, z_b)))


@each_loss
@pytest.mark.parametrize("block", [1, 4, 13, 100])
def test_value_and_gradient_are_those_of_the_whole(loss: Loss, block: int) -> None:
    for part, whole in zip(with_gradient(loss, block), with_gradient(loss, None), strict=True):
        torch.testing.assert_close(part, whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("loss", [nt_xent_loss, info_nce_loss])
def test_autocast_does_not_lower_the_precision(loss: Loss) -> None:
    gradients = []
    for enabled in (False, True):
        z_a, z_b = (z.float().requires_grad_() for z in pair((64, 6), seed=0))
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            value = loss(z_a, z_b, block=16)
        assert value.dtype == torch.float32
        gradients.append(torch.autograd.grad(value, (z_a, z_b)))
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=0)


def largest_kept(loss: Loss, block: int | None) -> int:
    """Numbers in the largest tensor that the forward pass keeps for the gradient."""
    sizes = [0]

    def note(kept: Tensor) -> Tensor:
        sizes.append(kept.numel())
        return kept

    z_a, z_b = (z.requires_grad_() for z in pair((512, 4), seed=1))
    with torch.autograd.graph.saved_tensors_hooks(note, lambda kept: kept):
        loss(z_a, z_b, block=block)
    return max(sizes)


@pytest.mark.parametrize("loss", [nt_xent_loss, info_nce_loss])
def test_nothing_as_large_as_the_square_of_the_batch_is_kept(loss: Loss) -> None:
    assert largest_kept(loss, None) >= 512 * 512
    assert largest_kept(loss, 32) <= 2 * 512 * 4


@pytest.mark.parametrize("config", [SimCLRConfig, InfoNCEConfig])
def test_the_setting_reaches_the_loss(config: type[SimCLRConfig | InfoNCEConfig]) -> None:
    batch = ViewBatch(pair((16, 8), seed=0))
    losses = []
    for block in (None, 5):
        torch.manual_seed(0)
        method = config(block=block, head_dims=(8, 4)).build(torch.nn.Identity(), 8).double()
        assert method.get_submodule("objective").block == block
        losses.append(method(batch).loss)
    torch.testing.assert_close(losses[0], losses[1])
