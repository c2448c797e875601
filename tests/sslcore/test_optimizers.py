import math

import pytest
import torch
from torch import Tensor, nn

from sslcore.training.optimizers import LARS, build_optimizer, peak_rate
from sslcore.training.settings import OptimConfig


def lars_by_hand(
    weights: list[float], gradients: list[list[float]], rate: float, adapt: bool
) -> list[float]:
    momentum, decay, trust = 0.9, 0.1, 0.001
    velocity = [0.0] * len(weights)
    for gradient in gradients:
        size = math.sqrt(sum(w * w for w in weights))
        slope = math.sqrt(sum(g * g for g in gradient))
        local = trust * size / (slope + decay * size) if adapt else 1.0
        for i, (w, g) in enumerate(zip(weights, gradient, strict=True)):
            velocity[i] = momentum * velocity[i] + rate * local * (g + decay * w)
        weights = [w - v for w, v in zip(weights, velocity, strict=True)]
    return weights


@pytest.mark.parametrize("adapt", [True, False])
def test_lars_matches_the_algorithm_written_out(adapt: bool) -> None:
    start, gradients = [3.0, -4.0, 1.0], [[0.5, 0.0, -0.5], [0.1, 0.2, 0.3], [-1.0, 0.0, 2.0]]
    weights = nn.Parameter(torch.tensor(start, dtype=torch.float64))
    optimizer = LARS([weights], lr=0.7, momentum=0.9, weight_decay=0.1, adapt=adapt)
    for gradient in gradients:
        weights.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
    expected = lars_by_hand(start, gradients, 0.7, adapt)
    assert weights.tolist() == pytest.approx(expected, rel=1e-12)


def test_lars_takes_the_plain_step_from_zero_weights_or_a_zero_gradient() -> None:
    zero, still = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.ones(2))
    zero.grad, still.grad = torch.ones(2), torch.zeros(2)
    LARS([zero, still], lr=0.5).step()
    assert zero.tolist() == [-0.5, -0.5]
    assert still.tolist() == [1.0, 1.0]


def test_lars_steps_do_not_depend_on_the_scale_of_the_gradient() -> None:
    ends: list[Tensor] = []
    for scale in (1.0, 1000.0):
        weights = nn.Parameter(torch.tensor([1.0, 2.0]))
        weights.grad = scale * torch.tensor([0.3, -0.2])
        LARS([weights], lr=1.0).step()
        ends.append(weights.detach())
    assert torch.allclose(ends[0], ends[1])


def test_lars_skips_parameters_without_gradient_and_evaluates_a_closure() -> None:
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = LARS([used, unused], lr=1.0)

    def closure() -> float:
        optimizer.zero_grad()
        loss = used.square().sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 2.0
    assert unused.tolist() == [1.0, 1.0]
    assert used.tolist() != [1.0, 1.0]


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
def test_biases_and_norms_are_neither_decayed_nor_adapted(name: str) -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
    config = OptimConfig(name=name, weight_decay=0.3)  # type: ignore[arg-type]
    optimizer = build_optimizer(module, config, batch_size=256, default_rate=0.1)
    matrices, vectors = optimizer.param_groups
    assert {p.ndim for p in matrices["params"]} == {2, 4}
    assert {p.ndim for p in vectors["params"]} == {1}
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.3, 0.0)
    if name == "lars":
        assert (matrices["adapt"], vectors["adapt"]) == (True, False)


def test_frozen_parameters_are_left_out() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False))
    optimizer = build_optimizer(module, OptimConfig(), batch_size=256, default_rate=0.1)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2


@pytest.mark.parametrize(("name", "factor"), [("sgd", 0.25), ("lars", 0.25), ("adamw", 0.5)])
def test_the_rate_scales_with_the_batch_linearly_or_with_its_root(name: str, factor: float) -> None:
    config = OptimConfig(name=name)  # type: ignore[arg-type]
    assert peak_rate(config, batch_size=64, default_rate=0.2) == pytest.approx(0.2 * factor)
    assert peak_rate(config, batch_size=256, default_rate=0.2) == pytest.approx(0.2)


def test_a_configured_rate_goes_before_the_default() -> None:
    config = OptimConfig(name="sgd", learning_rate=0.8)
    assert peak_rate(config, batch_size=256, default_rate=0.2) == 0.8


def test_weight_decay_goes_along_a_cosine_to_where_the_settings_say() -> None:
    # Caron et al., "DINO", arXiv:2104.14294, section 3.2: from 0.04 to 0.4
    config = OptimConfig(weight_decay=0.04, last_weight_decay=0.4)
    factors = [0.04 * config.decay_factor(progress) for progress in (0.0, 0.5, 1.0)]
    assert factors == pytest.approx([0.04, 0.22, 0.4])
    assert OptimConfig(weight_decay=0.04).decay_factor(0.7) == 1.0
    with pytest.raises(ValueError, match=r"last_weight_decay 0\.4 needs a weight_decay above 0"):
        OptimConfig(weight_decay=0, last_weight_decay=0.4)


def test_the_second_beta_is_that_of_the_settings() -> None:
    optimizer = build_optimizer(
        nn.Linear(2, 2), OptimConfig(second_beta=0.95), batch_size=256, default_rate=1e-3
    )
    assert [group["betas"] for group in optimizer.param_groups] == [(0.9, 0.95)] * 2
