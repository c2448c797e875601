import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslcore.schedules import cosine_ramp, linear_ramp, warmup_cosine

shares = st.floats(0, 1)


@given(shares, shares, shares)
def test_a_ramp_starts_ends_and_stays_between(progress: float, start: float, end: float) -> None:
    assert cosine_ramp(0, start=start, end=end) == pytest.approx(start)
    assert cosine_ramp(1, start=start, end=end) == pytest.approx(end)
    low, high = sorted((start, end))
    assert low - 1e-9 <= cosine_ramp(progress, start=start, end=end) <= high + 1e-9


def test_a_ramp_is_half_way_in_the_middle() -> None:
    assert cosine_ramp(0.5, start=0.9, end=0.1) == pytest.approx(0.5)


@given(st.floats(0, 0.9), st.floats(0, 0.9))
def test_warm_up_rises_to_one_then_falls_to_the_floor(warmup: float, floor: float) -> None:
    values = [warmup_cosine(i / 50, warmup=warmup, floor=floor) for i in range(51)]
    top = values.index(max(values))
    assert values[: top + 1] == sorted(values[: top + 1])
    assert values[top:] == sorted(values[top:], reverse=True)
    assert warmup_cosine(warmup, warmup=warmup, floor=floor) == pytest.approx(1)
    assert values[-1] == pytest.approx(floor)


def test_warm_up_is_linear() -> None:
    assert warmup_cosine(0.05, warmup=0.2) == pytest.approx(0.25)


def test_without_warm_up_the_first_value_is_one() -> None:
    assert warmup_cosine(0, warmup=0) == pytest.approx(1)


@pytest.mark.parametrize(
    ("progress", "until", "value"),
    [(0, 0.5, 1), (0.25, 0.5, 2), (0.5, 0.5, 3), (1, 0.5, 3), (0, 0, 3)],
)
def test_linear_ramp_stays_at_its_end(progress: float, until: float, value: float) -> None:
    assert linear_ramp(progress, start=1, end=3, until=until) == pytest.approx(value)
