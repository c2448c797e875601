import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sslcore.diagnostics import Health
from sslcore.errors import DivergedError
from sslcore.methods.registry import CONFIGS
from sslcore.modules.branch import Branch
from sslcore.training.health import (
    Classes,
    HealthMonitor,
    Measurement,
    as_health,
    evaluating,
    neighbour_accuracy,
)
from sslcore.training.history import History, read_history


def branch() -> Branch:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Branch(nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8)), nn.Linear(8, 3))


def samples(count: int = 20) -> Tensor:
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(1))


def monitor(measured: Branch, classes: Classes | None = None) -> HealthMonitor:
    x = samples()
    return HealthMonitor(measured, lambda: x.split(7), lambda: [(x, x + 0.1)], classes=classes)


def test_measuring_leaves_modes_and_statistics_as_they_were() -> None:
    measured = branch()
    measured.head.eval()
    before = {name: value.clone() for name, value in measured.state_dict().items()}
    monitor(measured).measure()
    assert measured.training
    assert measured.encoder.training
    assert not measured.head.training
    for name, value in measured.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_modes_come_back_after_an_error_too() -> None:
    measured = branch()
    with pytest.raises(ValueError, match="no"), evaluating(measured):
        raise ValueError("no")
    assert all(part.training for part in measured.modules())


def test_the_same_branch_is_measured_the_same_twice_and_the_record_reads_back() -> None:
    measured = branch()
    first = monitor(measured).measure()
    assert first == monitor(measured).measure()
    record = first.as_record()
    assert "knn" not in record
    assert as_health({"step": 3, **record}) == first.health


def test_numbers_that_are_not_finite_come_back_from_the_log_as_nan(tmp_path: Path) -> None:
    health = Health(math.nan, 3.0, 0.1, -1.0, projection_spread=math.nan)
    log = History(tmp_path / "health.jsonl")
    log.append({"step": 3, **Measurement(health, None).as_record()})
    (record,) = read_history(log.path)
    back = as_health(record)
    assert math.isnan(back.spread)
    assert back.projection_spread is not None
    assert math.isnan(back.projection_spread)
    assert (back.effective_rank, back.projection_rank) == (3.0, None)


@pytest.mark.parametrize("part", ["encoder", "head"])
def test_embeddings_that_are_not_finite_are_divergence(part: str) -> None:
    measured = branch()
    with torch.no_grad():
        next(getattr(measured, part).parameters()).fill_(torch.inf)
    with pytest.raises(DivergedError, match=r"not finite; lower optim\.learning_rate"):
        monitor(measured).measure()


def test_neighbours_tell_classes_that_lie_apart() -> None:
    z = torch.cat([samples(10) + 9, samples(10) - 9])
    labels = torch.tensor([4] * 10 + [7] * 10)
    assert neighbour_accuracy(z, Classes(labels, torch.arange(20))) == 1.0


def test_the_measure_is_balanced_over_the_classes() -> None:
    z = torch.ones(20, 4) + 0.01 * samples()
    labels = torch.tensor([0] * 18 + [1] * 2)
    assert neighbour_accuracy(z, Classes(labels, torch.arange(20))) == 0.5


def test_neighbours_of_the_same_group_have_no_vote() -> None:
    pairs = samples(6).repeat_interleave(2, dim=0)  # the nearest neighbour is the own twin
    labels = torch.tensor([0, 0, 1, 1] * 3)
    groups = torch.arange(6).repeat_interleave(2)
    assert neighbour_accuracy(pairs, Classes(labels, torch.arange(12))) == 1.0
    accuracy = neighbour_accuracy(pairs, Classes(labels, groups))
    assert accuracy is not None
    assert accuracy < 0.9


@pytest.mark.parametrize(
    ("labels", "groups"), [([0] * 20, range(20)), ([0, 1] * 10, [0] * 20), ([-1] * 20, range(20))]
)
def test_labels_that_say_nothing_give_no_measure(labels: list[int], groups: list[int]) -> None:
    classes = Classes(torch.tensor(labels), torch.tensor(list(groups)))
    assert neighbour_accuracy(samples(), classes) is None


def test_unknown_labels_are_left_out() -> None:
    z = torch.cat([samples(10) + 9, samples(10) - 9])
    labels = torch.tensor([0] * 10 + [1] * 5 + [-1] * 5)
    assert neighbour_accuracy(z, Classes(labels, torch.arange(20))) == 1.0


def test_heads_whose_results_nobody_compares_are_not_measured() -> None:
    """A head that tells turns apart answers "none" for all samples as they are."""
    measured, x = branch(), samples()
    pairs = [(x, x + 0.1)]
    found = HealthMonitor(measured, lambda: x.split(7), lambda: pairs, projects=False).measure()
    assert found.health.projection_spread is None
    assert found.health.projection_rank is None
    compared = monitor(measured).measure().health
    assert compared.projection_spread is not None
    assert found.health.spread == compared.spread


def test_methods_whose_head_is_no_projection_say_so() -> None:
    told = {each.model_fields["name"].default for each in CONFIGS if not each.projects}
    assert told == {"mae", "simmim", "rotation", "jigsaw"}
