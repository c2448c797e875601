"""Random numbers per sample: the same alone and in a batch, and random enough."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sslcore.random import SampleRandom, derive_keys, seeded


def every_draw(random: SampleRandom) -> list[Tensor]:
    return [
        random.uniform(),
        random.uniform(-2, 3, shape=(2, 3)),
        random.normal(1, 2, shape=(4,)),
        random.integers(7),
        random.chance(0.3),
        random.normal(),
    ]


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=6), st.integers(0, 5))
def test_a_sample_draws_the_same_alone_and_in_a_batch(indices: list[int], chosen: int) -> None:
    position = chosen % len(indices)
    keys = derive_keys(torch.tensor(indices), 3, 1)
    batch = every_draw(SampleRandom(keys))
    alone = every_draw(SampleRandom(keys[position : position + 1]))
    for together, single in zip(batch, alone, strict=True):
        assert torch.equal(together[position : position + 1], single)


def test_first_draws_are_recorded() -> None:
    # So that no change of torch or of this file moves the augmentations of a run unnoticed.
    keys = derive_keys(torch.tensor([0, 1, 2]), 42, 0, 1)
    assert keys.tolist() == [8767447543945868865, 5406263731102708819, 8134131703804418552]
    assert SampleRandom(keys).uniform().tolist() == [
        0.8847357630729675,
        0.7080643773078918,
        0.3767040967941284,
    ]


def test_the_hash_is_splitmix64() -> None:
    # First output of the authors' generator for the seed 0.
    first = derive_keys(torch.tensor([0])).item()
    assert first % 2**64 == 0xE220A8397B1DCDAF


def test_keys_differ_by_each_part_and_by_their_order() -> None:
    indices = torch.arange(1000)
    parts = [(0, 0), (0, 1), (1, 0), (1, 1), (0,), (0, 0, 0)]
    keys = torch.cat([derive_keys(indices, *each) for each in parts])
    assert len(keys.unique()) == len(keys)


def test_keys_take_any_integers() -> None:
    expected = derive_keys(torch.tensor([0, 5]), 1)
    assert torch.equal(derive_keys(torch.tensor([0, 5], dtype=torch.int32), 1), expected)
    assert derive_keys(torch.tensor([2**62]), -1, 2**62).dtype == torch.int64


def test_later_draws_differ_from_earlier_ones() -> None:
    random = SampleRandom(derive_keys(torch.arange(100), 0))
    first, second = random.uniform(), random.uniform()
    assert not (first == second).any()


def test_one_draw_of_many_numbers_equals_many_draws_of_one() -> None:
    keys = derive_keys(torch.arange(5), 0)
    one_by_one = SampleRandom(keys)
    expected = torch.stack([one_by_one.uniform() for _ in range(6)], dim=1)
    assert torch.equal(SampleRandom(keys).uniform(shape=(2, 3)).flatten(1), expected)


@pytest.mark.parametrize("along", ["samples", "draws"])
def test_uniform_numbers_fill_the_unit_interval_evenly(along: str) -> None:
    count = 200_000
    if along == "samples":
        unit = SampleRandom(derive_keys(torch.arange(count), 7)).uniform()
    else:
        unit = SampleRandom(derive_keys(torch.tensor([7]))).uniform(shape=(count,))[0]
    assert unit.min() >= 0
    assert unit.max() < 1
    observed = torch.histc(unit, bins=100, min=0, max=1)
    chi_square = ((observed - count / 100).square() / (count / 100)).sum().item()
    assert 50 < chi_square < 160  # 99 degrees of freedom; outside with probability 1e-4
    neighbours = torch.corrcoef(torch.stack([unit[1:], unit[:-1]]))[0, 1]
    assert neighbours.abs() < 4 / count**0.5


def test_normal_numbers_have_the_moments_asked_for() -> None:
    values = SampleRandom(derive_keys(torch.arange(1000), 0)).normal(3, 2, shape=(200,)).double()
    assert values.isfinite().all()
    standard = (values - 3) / 2
    for power, moment in [(1, 0), (2, 1), (3, 0), (4, 3)]:
        assert standard.pow(power).mean().item() == pytest.approx(moment, abs=0.05)


@given(st.integers(1, 2**24), st.integers(0, 2**31))
def test_integers_stay_in_range(count: int, seed: int) -> None:
    values = SampleRandom(derive_keys(torch.arange(100), seed)).integers(count)
    assert values.dtype == torch.int64
    assert 0 <= values.min() <= values.max() < count


@pytest.mark.parametrize("count", [1, 3, 5, 9, 1000, 2**24 - 1, 2**24])
def test_the_largest_unit_number_still_gives_an_integer_below_the_count(count: int) -> None:
    largest = torch.tensor([1 - 2.0**-24])
    assert (largest * count).long().item() < count


def test_integers_are_equally_frequent() -> None:
    values = SampleRandom(derive_keys(torch.arange(60_000), 0)).integers(6)
    assert values.bincount().float().std() < 300


@pytest.mark.parametrize(("probability", "expected"), [(0.0, 0.0), (1.0, 1.0), (0.3, 0.3)])
def test_chance_is_true_with_its_probability(probability: float, expected: float) -> None:
    drawn = SampleRandom(derive_keys(torch.arange(50_000), 0)).chance(probability)
    assert drawn.dtype == torch.bool
    assert drawn.float().mean().item() == pytest.approx(expected, abs=0.01)


@given(st.floats(-100, 100), st.floats(0, 100))
def test_uniform_stays_between_its_bounds(low: float, width: float) -> None:
    values = SampleRandom(derive_keys(torch.arange(100), 0)).uniform(low, low + width)
    assert values.min() >= torch.tensor(low)
    assert values.max() <= torch.tensor(low + width)


def test_knows_its_length_and_device() -> None:
    random = SampleRandom(derive_keys(torch.arange(3)))
    assert len(random) == 3
    assert random.device == torch.device("cpu")


def test_a_seed_holds_inside_and_leaves_the_random_state_outside_as_it_was() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with seeded(1):
        first = torch.rand(10)
    with seeded(1):
        assert torch.equal(torch.rand(10), first)
    assert torch.equal(torch.rand(3), expected)
