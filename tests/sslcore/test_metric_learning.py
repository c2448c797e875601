"""Every loss and miner of pytorch-metric-learning that can be asked for, one contract."""

import copy
from typing import Any

import pytest
import torch
from pytorch_metric_learning import losses, miners
from torch import nn

from sslcore.errors import ConfigError
from sslcore.methods.method import ViewMethod
from sslcore.methods.metric_learning import MetricLearningConfig, known_names
from sslcore.random import derive_keys
from sslcore.views import ViewBatch

# of HistogramLoss, which indexes by a list
pytestmark = pytest.mark.filterwarnings("ignore:Using a non-tuple sequence for:UserWarning")

WITH_ARGUMENTS: dict[str, dict[str, float]] = {"RankedListLoss": {"margin": 1.0, "Tn": 0.0}}
# weights of classes, which views lack
REFUSED = {
    *("ArcFaceLoss", "CosFaceLoss", "LargeMarginSoftmaxLoss", "ManifoldLoss"),
    *("NormalizedSoftmaxLoss", "P2SGradLoss", "ProxyAnchorLoss", "ProxyNCALoss"),
    *("SoftTripleLoss", "SphereFaceLoss", "SubCenterArcFaceLoss"),
}
ACCEPTED = [
    *({"loss": name} for name in known_names(losses) if name not in REFUSED),
    *({"loss": "TripletMarginLoss", "miner": name} for name in known_names(miners)),
]
each_choice = pytest.mark.parametrize("choice", ACCEPTED, ids=lambda each: "".join(each.values()))


def build(choice: dict[str, Any]) -> ViewMethod:
    torch.manual_seed(0)
    arguments = WITH_ARGUMENTS.get(choice["loss"], {})
    config = MetricLearningConfig(head_dims=(16, 8), loss_args=arguments, **choice)
    return config.build(nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU()), 16)


def batch(step: int) -> ViewBatch[torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(16, 8, generator=generator)
    noise = 0.3 * torch.randn(2, 16, 8, generator=generator)
    return ViewBatch((x + noise[0], x + noise[1]), keys=derive_keys(torch.arange(16), step))


def train(method: ViewMethod, first: int, stop: int) -> list[float]:
    optimizer, found = torch.optim.SGD(method.parameters(), lr=0.05), []
    for step in range(first, stop):
        loss = method(batch(step)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step((step + 1) / 10)
        found.append(loss.item())
    return found


@each_choice
def test_the_same_batch_gives_the_same_loss_whatever_came_between(choice: dict[str, Any]) -> None:
    method = build(choice)
    first = method(batch(0)).loss.item()
    method(batch(1))
    assert method(batch(0)).loss.item() == first


@each_choice
def test_the_state_dict_is_enough_to_resume(choice: dict[str, Any]) -> None:
    method, other = build(choice), build(choice)
    train(method, 0, 3)
    other.load_state_dict(copy.deepcopy(method.state_dict()))
    assert train(method, 3, 6) == train(other, 3, 6)


@each_choice
def test_it_trains_every_parameter_by_finite_gradients(choice: dict[str, Any]) -> None:
    method = build(choice)
    method(batch(0)).loss.backward()
    gradients = [parameter.grad for parameter in method.parameters()]
    assert all(grad is not None and grad.isfinite().all() for grad in gradients)
    assert any(grad is not None and grad.any() for grad in gradients)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_losses_with_weights_of_classes_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"method\.loss {name}: .*classes"):
        build({"loss": name})
