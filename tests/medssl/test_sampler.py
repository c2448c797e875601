import pytest

from medssl.loading.sampler import StepSampler
from sslcore.errors import ConfigError


def sampler(count: int = 12, batch: int = 4, last_step: int = 3, **options: int) -> StepSampler:
    return StepSampler(count, batch, seed=7, last_step=last_step, **options)


def test_each_epoch_shows_every_image_once_in_an_order_of_its_own() -> None:
    steps = list(sampler(last_step=6))
    epochs = [
        [row for step in steps if step.epoch == epoch for row in step.rows] for epoch in (0, 1)
    ]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(12))
    assert epochs[0] != epochs[1] != list(range(12))


def test_the_last_short_batch_of_an_epoch_is_dropped() -> None:
    plan = sampler(count=11, last_step=5)
    assert plan.steps_per_epoch == 2
    assert [step.epoch for step in plan] == [0, 0, 1, 1, 2]
    assert len(plan) == 5


def test_a_resumed_run_goes_on_with_the_same_batches() -> None:
    assert list(sampler(last_step=9, first_step=4)) == list(sampler(last_step=9))[4:]


def test_another_seed_gives_another_order() -> None:
    assert list(StepSampler(12, 4, seed=8, last_step=3)) != list(sampler())


def test_the_order_is_the_same_on_every_machine() -> None:
    expected = [[4, 7, 10, 11], [1, 5, 0, 6], [2, 9, 8, 3], [7, 4, 1, 11]]
    assert [step.rows for step in sampler(last_step=4)] == expected


def test_processes_share_one_global_batch() -> None:
    parts = [list(sampler(rank=rank, world=2)) for rank in (0, 1)]
    for whole, left, right in zip(sampler(), *parts, strict=True):
        assert left.rows + right.rows == whole.rows


def test_a_batch_larger_than_the_data_is_refused() -> None:
    with pytest.raises(ConfigError, match="a batch of 16 needs as many images, got 12"):
        sampler(batch=16)


def test_a_batch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch_size 5 does not divide by 2"):
        sampler(batch=5, world=2)
