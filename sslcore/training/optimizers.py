"""From an optimiser's configuration to the optimiser, with parameters in two groups."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from sslcore.training.settings import OptimConfig

REFERENCE_BATCH = 256


def build_optimizer(
    method: nn.Module, config: OptimConfig, *, batch_size: int, default_rate: float
) -> Optimizer:
    """Build the optimiser of all parameters of `method` that are trained.

    Weight decay and the adaptation of LARS leave out one-dimensional parameters, that is biases
    and the scales of normalisations.

    Args:
        method: On the device where it is trained.
        config: Which optimiser, and its numbers.
        batch_size: Samples per step over all processes; see `peak_rate`.
        default_rate: Peak learning rate per 256 samples if `config` names none.
    """
    rate = peak_rate(config, batch_size=batch_size, default_rate=default_rate)
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    matrices = {
        "params": [parameter for parameter in trained if parameter.ndim > 1],
        "weight_decay": config.weight_decay,
    }
    vectors: dict[str, Any] = {
        "params": [parameter for parameter in trained if parameter.ndim <= 1],
        "weight_decay": 0.0,
    }
    groups = [matrices, vectors]
    match config.name:
        case "adamw":
            return AdamW(groups, lr=rate, betas=(0.9, config.second_beta))
        case "sgd":
            return SGD(groups, lr=rate, momentum=config.momentum)
        case "lars":
            vectors["adapt"] = False
            return LARS(groups, lr=rate, momentum=config.momentum)


def peak_rate(config: OptimConfig, *, batch_size: int, default_rate: float) -> float:
    """Scale the learning rate from 256 samples to `batch_size`.

    In proportion for SGD and LARS (Goyal et al., arXiv:1706.02677), with the square root for
    AdamW, whose step length does not grow with the gradient (Malladi et al., arXiv:2205.10287).
    """
    ratio = batch_size / REFERENCE_BATCH
    factor = math.sqrt(ratio) if config.name == "adamw" else ratio
    return (config.learning_rate or default_rate) * factor


class LARS(Optimizer):
    """SGD with momentum whose step, per parameter tensor, is in proportion to its norm.

    Source:
        You, Gitman, Ginsburg, "Large batch training of convolutional networks", arXiv:1708.03888,
        algorithm 1: the learning rate is inside the momentum buffer. A tensor whose weights or
        gradient are zero takes the plain step, as its ratio is undefined.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        *,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 0.001,
        adapt: bool = True,
    ) -> None:
        """Set the values of groups that bring none of their own.

        Args:
            params: Parameters, or groups of them.
            lr: Learning rate of the schedule; `trust` and the norms scale it further.
            momentum: Share of the last step that is kept.
            weight_decay: Added to the gradient before the norms are compared.
            trust: Norm of a step of one tensor, as a share of the tensor's norm, at `lr` 1.
            adapt: False for a group that takes plain steps.
        """
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust": trust,
            "adapt": adapt,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Change the weights by one step."""
        value = None
        if closure is not None:
            with torch.enable_grad():
                value = closure()
        for group in self.param_groups:
            for weights in group["params"]:
                if weights.grad is not None:
                    self._update(weights, weights.grad, group)
        return value

    def _update(self, weights: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        rate = gradient.new_tensor(group["lr"])
        if group["adapt"]:
            size, slope = torch.linalg.vector_norm(weights), torch.linalg.vector_norm(gradient)
            ratio = group["trust"] * size / (slope + group["weight_decay"] * size)
            rate = rate * torch.where((size > 0) & (slope > 0), ratio, 1.0)
        change = (gradient + group["weight_decay"] * weights) * rate
        state = self.state[weights]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(weights)
        state["momentum"].mul_(group["momentum"]).add_(change)
        weights.sub_(state["momentum"])
