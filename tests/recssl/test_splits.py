from collections import defaultdict

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recssl.errors import LogError
from recssl.ingest.pairs import Events, core, merge, sorted_events
from recssl.ingest.splits import random_by_user, split_events
from recssl.settings.ingest import SplitConfig, SplitName

DAY = 86_400_000_000
Row = tuple[int, int, int]  # user, item, time
rows_of = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 40)), min_size=1, max_size=80
)


def events_of(rows: list[Row], weights: list[float] | None = None) -> Events:
    columns = list(zip(*rows, strict=True))
    table = {
        "user": pl.Series(columns[0], dtype=pl.Int32),
        "item": pl.Series(columns[1], dtype=pl.Int32),
        "weight": pl.Series(weights or [1.0] * len(rows), dtype=pl.Float32),
        "given": pl.repeat(0, len(rows), dtype=pl.UInt8, eager=True),
        "time": pl.Series(columns[2], dtype=pl.Int64),
    }
    return sorted_events(pl.DataFrame(table))


def rows_in(events: Events) -> list[Row]:
    assert events.time is not None
    columns = (events.user.tolist(), events.item.tolist(), events.time.tolist())
    return list(zip(*columns, strict=True))


def split(rows: list[Row], name: SplitName, **options: object) -> list[list[Row]]:
    config = SplitConfig(name=name, **options)  # type: ignore[arg-type]
    parts, _ = split_events(events_of(rows), config, (False, False))
    return [rows_in(part) for part in parts if len(part) or part is not parts[3]]


@settings(deadline=None)  # the machine may be busy
@given(rows_of)
def test_events_are_sorted_by_pair_and_time(rows: list[Row]) -> None:
    assert rows_in(events_of(rows)) == sorted(rows)


@settings(deadline=None)  # the machine may be busy
@given(rows_of, st.integers(1, 4), st.integers(1, 4))
def test_core_matches_one_by_one_removal(rows: list[Row], per_user: int, per_item: int) -> None:
    left = set(rows)
    while True:
        users, items = defaultdict(set), defaultdict(set)
        for user, item, _ in left:
            users[user].add(item)
            items[item].add(user)
        weak = {
            row for row in left if len(users[row[0]]) < per_user or len(items[row[1]]) < per_item
        }
        if not weak:
            break
        left -= {min(weak)}
    kept = core(events_of(rows), per_user, per_item)
    assert set(rows_in(kept)) == left


@settings(deadline=None)  # the machine may be busy
@given(rows_of, st.sampled_from(["last", "count", "sum", "decay"]))
def test_merge_matches_plain_loops(rows: list[Row], how: str) -> None:
    rows = [(user, item, day * DAY + number) for number, (user, item, day) in enumerate(rows)]
    weights = [float(1 + number % 5) for number in range(len(rows))]
    end = max(row[2] for row in rows)
    expected: dict[tuple[int, int], float] = {}
    for (user, item, time), weight in sorted(
        zip(rows, weights, strict=True), key=lambda row: row[0][2]
    ):
        before = expected.get((user, item), 0.0)
        new = {
            "last": weight,
            "count": before + 1,
            "sum": before + weight,
            "decay": before + weight * 0.5 ** ((end - time) / DAY / 7),
        }
        expected[user, item] = new[how]
    merged = merge(events_of(rows, weights), how, 7.0)  # type: ignore[arg-type]
    keys = zip(merged.user.tolist(), merged.item.tolist(), strict=True)
    values = dict(zip(keys, merged.weight.tolist(), strict=True))
    assert values == pytest.approx(expected, rel=1e-5)


def test_time_split_cuts_at_shares_and_keeps_order() -> None:
    rows = [(number % 10, number // 10, number) for number in range(100)]
    train, valid, test = split(rows, "time", valid=0.1, test=0.2)
    assert [row[2] for row in sorted(test, key=lambda row: row[2])] == list(range(80, 100))
    assert {row[2] for row in valid} == set(range(70, 80))
    assert len(train) == 70


def test_time_split_at_given_moments() -> None:
    rows = [(0, item, item * DAY) for item in range(10)]
    moments = {"valid_from": "1970-01-06", "test_from": "1970-01-09T00:00:00+00:00"}
    parts = split(rows, "time", **moments)
    assert [[row[1] for row in part] for part in parts] == [[0, 1, 2, 3, 4], [5, 6, 7], [8, 9]]


def test_repeats_after_the_cut_neither_test_nor_weigh() -> None:
    rows = [(0, item, item) for item in range(10)]
    train, valid, test = split([*rows, (0, 0, 8), (0, 9, 11)], "time")
    assert train == [(0, item, item) for item in range(8)]
    assert valid == [(0, 8, 8)]
    assert test == [(0, 9, 9), (0, 9, 11)]


def test_leave_last_out_takes_the_last_and_the_one_before() -> None:
    rows = [(user, item, (7 * item + user) % 10) for user in (0, 2) for item in range(9)]
    few = [(1, 0, 0), (1, 1, 1)]
    train, valid, test = split([*rows, *few], "leave_last_out")
    for user in (0, 2):
        order = sorted((row for row in rows if row[0] == user), key=lambda row: row[2])
        assert [row for row in test if row[0] == user] == [order[-1]]
        assert [row for row in valid if row[0] == user] == [order[-2]]
    assert [row for row in train if row[0] == 1] == few
    assert len(test) == len(valid) == 2


def test_leave_last_out_drops_repeats_that_come_after_what_is_held_out() -> None:
    rows = [(0, 0, 0), (0, 1, 1), (0, 2, 2), (0, 3, 3), (0, 0, 9)]
    train, valid, test = split(rows, "leave_last_out")
    assert (train, valid, test) == ([(0, 0, 0), (0, 1, 1)], [(0, 2, 2)], [(0, 3, 3)])


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.integers(0, 30), min_size=1, max_size=20), st.integers(0, 5))
def test_random_takes_the_rounded_share_of_each_user(counts: list[int], seed: int) -> None:
    users = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    parts = random_by_user(users, 0.1, 0.2, seed)
    for user, count in enumerate(counts):
        mine = parts[users == user].tolist()
        num_test = min(int(count * 0.2 + 0.5), max(count - 1, 0))
        assert mine.count(2) == num_test
        assert mine.count(1) == min(int(count * 0.1 + 0.5), max(count - num_test - 1, 0))


def test_random_depends_on_the_seed_alone() -> None:
    users = np.repeat(np.arange(50, dtype=np.int32), 20)
    first, same, other = (random_by_user(users, 0.1, 0.1, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()


def test_new_users_are_in_one_part_only_and_the_earlier_part_of_their_history_is_known() -> None:
    rows = [(user, item, (7 * item + user) % 10) for user in range(20) for item in range(10)]
    alone = [(20, 0, 0)]
    train, valid, test, support = split([*rows, *alone], "new_users", valid=0.1, test=0.2)
    users = [{row[0] for row in part} for part in (train, valid, test)]
    assert [len(part) for part in users] == [15, 2, 4]
    assert set.union(*users) == set(range(21))
    assert 20 in users[0]  # who has one pair only cannot be known and asked for
    assert {row[0] for row in support} == users[1] | users[2]
    for user in users[1] | users[2]:
        earlier = [row[2] for row in support if row[0] == user]
        later = [row[2] for row in valid + test if row[0] == user]
        assert len(earlier) == 8
        assert max(earlier) < min(later)


def test_repeats_of_what_is_known_of_a_new_user_end_where_the_rest_begins() -> None:
    rows = [(user, item, item) for user in range(3) for item in range(4)]
    repeats = [(user, 0, moment) for user in range(3) for moment in (1, 9)]
    train, _, _, support = split([*rows, *repeats], "new_users", valid=0.3, test=0.3, support=0.5)
    assert len(train) == 6
    assert sorted(row[1:] for row in support) == [(0, 0)] * 2 + [(0, 1)] * 2 + [(1, 1)] * 2


def test_without_times_what_is_known_of_new_users_is_drawn() -> None:
    events = events_of([(user, item, 0) for user in range(9) for item in range(10)])
    events.time = None
    parts = [
        split_events(events, SplitConfig(name="new_users", seed=seed), (False, False))[0]
        for seed in (0, 0)
    ]
    assert [len(part) for part in parts[0]] == [70, 2, 2, 16]
    assert parts[0][3].item.tolist() == parts[1][3].item.tolist()
    assert set(parts[0][3].item.tolist()) != set(range(8))


@settings(deadline=None)  # the machine may be busy
@given(rows_of, st.sampled_from(["time", "leave_last_out", "random", "new_users"]))
def test_no_pair_is_in_two_parts(rows: list[Row], name: SplitName) -> None:
    try:
        parts = split(rows, name)
    except LogError:
        return  # too few rows for three parts
    pairs = [{row[:2] for row in part} for part in parts]
    assert sum(map(len, pairs)) == len({row[:2] for row in rows})


def test_an_empty_train_part_is_refused() -> None:
    with pytest.raises(LogError, match="nothing to train on"):
        split([(user, item, 5) for user in range(3) for item in range(3)], "time")


def test_moments_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValueError, match="is not before"):
        SplitConfig(valid_from="2020-01-02", test_from="2020-01-01T00:00:00Z")  # type: ignore[arg-type]
