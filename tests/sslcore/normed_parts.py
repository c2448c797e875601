"""Batch norms, and every method around some, for processes that each have a part of a batch."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sslcore.methods.method import ViewMethod
from sslcore.modules.shared_batch_norm import share_batch_norms
from sslcore.modules.tokens import Tokens
from tests.reference.waves import wave
from tests.sslcore.test_methods import small
from tests.sslcore.toy_tokens import ToyTokens

ROWS = 8
PARTS = {  # rows of each process
    2: {"even": [4, 4], "uneven": [6, 2], "empty": [8, 0]},
    4: {"even": [2, 2, 2, 2], "uneven": [3, 1, 2, 2], "empty": [0, 5, 0, 3]},
}


NARROW = ("decoder_dim", "num_orders", "tile_dim", "hidden_dim")


class Case(NamedTuple):
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float64
    mean: float = 0.0


NORMS = {
    "rows": Case(lambda: nn.BatchNorm1d(3), (3,)),
    "sequences without affine": Case(lambda: nn.BatchNorm1d(3, affine=False), (3, 5)),
    "images, plain mean": Case(lambda: nn.BatchNorm2d(3, momentum=None), (3, 4, 2)),
    "volumes, eps": Case(lambda: nn.BatchNorm3d(3, eps=0.1, momentum=0.3), (3, 2, 3, 2)),
    "no running": Case(lambda: nn.BatchNorm1d(3, track_running_stats=False), (3,)),
    "far from 0": Case(lambda: nn.BatchNorm1d(3), (3,), mean=1e6),
    "autocast": Case(lambda: nn.BatchNorm2d(3), (3, 4, 2), torch.bfloat16),
}


def run_norm(name: str, sizes: Sequence[int], rank: int = 0) -> dict[str, Tensor]:
    """Two steps of one process, which has `sizes[rank]` of the rows: all there is to compare."""
    case = NORMS[name]
    autocast = case.dtype == torch.bfloat16
    norm = case.make().to(torch.float32 if autocast else case.dtype)
    for phase, parameter in enumerate(norm.parameters()):
        parameter.data += 0.3 * wave(1, 3, phase)[0]
    share_batch_norms(norm)
    found: dict[str, Tensor] = {}
    width = torch.Size(case.shape).numel()
    for phase in (0.0, 0.4):
        rows, factors = (
            wave(sum(sizes), width, phase + shift).view(-1, *case.shape).split(list(sizes))[rank]
            for shift in (0.0, 1.0)
        )
        rows = (rows + case.mean).to(case.dtype).requires_grad_()
        norm.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            output = norm(rows)
            (output * factors).sum().backward()
        assert rows.grad is not None
        found = {"rows.output": output.detach(), "rows.grad": rows.grad}
    gradients = {f"{key}.grad": p.grad for key, p in norm.named_parameters() if p.grad is not None}
    evaluated = norm.eval()(wave(5, width, 0.2).view(-1, *case.shape).to(case.dtype))
    return {**found, **gradients, **norm.state_dict(), "evaluated": evaluated.detach()}


class NormedTokens(ToyTokens):
    """With a batch norm over the patches of all samples before the rest."""

    def __init__(self) -> None:
        super().__init__(patch_size=(4, 4))
        self.channels = 1
        self.entry = nn.BatchNorm2d(1)

    def tokens(
        self, view: Tensor, *, visible: Tensor | None = None, masked: Tensor | None = None
    ) -> Tokens:
        return super().tokens(self.entry(view), visible=visible, masked=masked)


def normed_method(name: str) -> ViewMethod:
    """A method as it is built, with small heads, on images `[batch, 1, 12, 12]`."""
    torch.manual_seed(0)
    fields = type(config := small(name)).model_fields
    config = config.model_copy(update={key: 16 for key in NARROW if key in fields})
    encoder: nn.Module = NormedTokens()
    if not config.needs_tokens:
        layers = (nn.Conv2d(1, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        encoder = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return config.build(encoder, 16).double()
