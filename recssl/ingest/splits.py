"""Which pair belongs to train, valid or test.

A pair belongs to one part as a whole, by the first time its user met its item: what a user has
seen is never recommended again, so a later meeting tests nothing. And no event that is later than
the end of its part has a say in a weight.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recssl.errors import LogError
from recssl.ingest.pairs import Events
from recssl.ingest.values import microseconds
from recssl.settings.ingest import SplitConfig
from sslcore.errors import ConfigError

TRAIN, VALID, TEST, SUPPORT = 0, 1, 2, 3
_NOWHERE = 4
Parts = NDArray[np.uint8]


def split_events(
    events: Events, config: SplitConfig, given: tuple[bool, bool]
) -> tuple[list[Events], dict[str, Any]]:
    """Return the events of train, valid, test and support, not merged, and how they were chosen.

    Args:
        events: Sorted.
        config: How to split.
        given: Whether there are logs that are the valid, the test part. What is not given is cut
            from train, at random by user.

    Raises:
        LogError: A part would be empty.
        ConfigError: The split needs times and the log has none.
    """
    if any(given):
        parts, facts = _split_given(events, config, given)
    else:
        name = config.name
        if name == "auto":
            name = "random" if events.time is None else "time"
        facts = {"name": name}
        starts = events.starts()
        lengths = np.diff(np.append(starts, len(events)))
        pairs = events.take(starts)
        match name:
            case "time":
                chosen, cuts = _by_time(pairs, config)
                facts |= {"valid_from": cuts[0], "test_from": cuts[1]}
                parts = _in_time(events, np.repeat(chosen, lengths), cuts)
            case "leave_last_out":
                chosen = _leave_last_out(pairs)
                parts = _before_user_cut(events, np.repeat(chosen, lengths), pairs, chosen)
            case "new_users":
                chosen = _new_users(pairs, config)
                parts = _before_user_cut(events, np.repeat(chosen, lengths), pairs, chosen)
                facts |= {"valid": config.valid, "test": config.test, "seed": config.seed}
                facts["support"] = config.support
            case _:
                chosen = random_by_user(pairs.user, config.valid, config.test, config.seed)
                parts = np.repeat(chosen, lengths)
                facts |= {"valid": config.valid, "test": config.test, "seed": config.seed}
    split = [events.take(parts == part) for part in (TRAIN, VALID, TEST, SUPPORT)]
    _require_all(split, facts)
    return split, facts


def random_by_user(users: NDArray[np.int32], valid: float, test: float, seed: int) -> Parts:
    """Draw the share of each user's pairs, rounded; at least one stays in train.

    Args:
        users: User of each pair, sorted, `[pairs]`.
        valid: Share, 0 to 1.
        test: Share; test is drawn before valid.
        seed: Of the draw.
    """
    counts = np.bincount(users)
    num_test = np.minimum(np.floor(counts * test + 0.5).astype(np.int64), np.maximum(counts - 1, 0))
    left = np.maximum(counts - num_test - 1, 0)
    num_valid = np.minimum(np.floor(counts * valid + 0.5).astype(np.int64), left)
    # sorting by user + [0, 1) shuffles within each user
    order = np.argsort(users + np.random.default_rng(seed).random(len(users)))
    begins = np.cumsum(counts) - counts
    rank = np.empty(len(users), np.int64)
    rank[order] = np.arange(len(users)) - begins[users]
    parts = np.zeros(len(users), np.uint8)
    parts[rank < (num_test + num_valid)[users]] = VALID
    parts[rank < num_test[users]] = TEST
    return parts


def _split_given(
    events: Events, config: SplitConfig, given: tuple[bool, bool]
) -> tuple[Parts, dict[str, Any]]:
    has_valid, has_test = given
    facts: dict[str, Any] = {"name": "given"}
    facts["valid"] = "given" if has_valid else f"{config.valid:g} of train, random by user"
    facts["test"] = "given" if has_test else f"{config.test:g} of train, random by user"
    facts["seed"] = config.seed
    own = np.flatnonzero(events.given == TRAIN)
    train = events.take(own)
    starts = train.starts()
    lengths = np.diff(np.append(starts, len(train)))
    shares = (0.0 if has_valid else config.valid, 0.0 if has_test else config.test)
    parts = events.given.copy()
    parts[own] = np.repeat(random_by_user(train.user[starts], *shares, config.seed), lengths)
    return parts, facts


def _by_time(pairs: Events, config: SplitConfig) -> tuple[Parts, tuple[int, int]]:
    time = _require_times(pairs, "time")
    if config.valid_from is not None and config.test_from is not None:
        cuts = (microseconds(config.valid_from), microseconds(config.test_from))
    else:
        places = [
            min(len(time) - 1, int(len(time) * (1 - share)))
            for share in (config.valid + config.test, config.test)
        ]
        low, high = np.partition(time, places)[places].tolist()
        cuts = (low, high)
    parts = (time >= cuts[0]).astype(np.uint8) + (time >= cuts[1])
    return parts.astype(np.uint8), cuts


def _in_time(events: Events, parts: Parts, cuts: tuple[int, int]) -> Parts:
    """Mark events after the end of their part with a number that no part has."""
    time = _require_times(events, "time")
    ends = np.array([*cuts, np.iinfo(np.int64).max])
    return np.where((time < ends[parts]) | (parts == TEST), parts, _NOWHERE).astype(np.uint8)


def _leave_last_out(pairs: Events) -> Parts:
    """Give each user of three pairs and more one for valid and one for test."""
    time = _require_times(pairs, "leave_last_out").copy()
    counts = np.bincount(pairs.user)
    begins = (np.cumsum(counts) - counts)[counts > 0]
    enough = counts[pairs.user] >= 3
    parts = np.zeros(len(pairs), np.uint8)
    for part in (TEST, VALID):
        latest = np.maximum.reduceat(time, begins)
        is_latest = time == np.repeat(latest, counts[counts > 0])
        places = np.where(is_latest, np.arange(len(time)), -1)
        last = np.maximum.reduceat(places, begins)  # of equal times, the highest item
        parts[last] = part
        time[last] = np.iinfo(np.int64).min
    parts[~enough] = TRAIN
    return parts


def _before_user_cut(events: Events, parts: Parts, pairs: Events, chosen: Parts) -> Parts:
    """Leave out repeated events from when the user's held-out pairs begin."""
    time, first = events.time, pairs.time
    if time is None or first is None:
        return parts
    num_users = int(events.user.max()) + 1
    ends = np.full((num_users, SUPPORT + 1), np.iinfo(np.int64).max)
    for part, before in ((VALID, TRAIN), (TEST, VALID), (VALID, SUPPORT), (TEST, SUPPORT)):
        held = chosen == part
        np.minimum.at(ends[:, before], pairs.user[held], first[held])
    starts = events.starts()
    is_first = np.zeros(len(events), bool)
    is_first[starts] = True
    keep = is_first | (time < ends[events.user, parts])
    return np.where(keep, parts, _NOWHERE).astype(np.uint8)


def _new_users(pairs: Events, config: SplitConfig) -> Parts:
    """Hold out users of two pairs and more: the earlier pairs are support, the others to be found.

    The shares are those of all users.
    """
    counts = np.bincount(pairs.user)
    num_users = np.count_nonzero(counts)
    random = np.random.default_rng(config.seed)
    order = random.permutation(np.flatnonzero(counts >= 2))
    num_test = max(1, round(num_users * config.test))
    num_valid = max(1, round(num_users * config.valid))
    part_of = np.zeros(len(counts), np.uint8)
    part_of[order[:num_test]] = TEST
    part_of[order[num_test : num_test + num_valid]] = VALID
    parts = part_of[pairs.user]
    drawn = random.random(len(pairs))
    when = drawn if pairs.time is None else pairs.time
    rank = np.empty(len(pairs), np.int64)
    begins = np.cumsum(counts) - counts
    rank[np.lexsort((when, pairs.user))] = np.arange(len(pairs)) - begins[pairs.user]
    known = np.clip(np.floor(counts * config.support + 0.5).astype(np.int64), 1, counts - 1)
    parts[(parts != TRAIN) & (rank < known[pairs.user])] = SUPPORT
    return parts


def _require_times(events: Events, name: str) -> NDArray[np.int64]:
    if events.time is None:
        raise ConfigError(
            f"split by {name} needs times, and the log has none; name the column with --time, or "
            "choose split.name=random"
        )
    return events.time


def _require_all(split: list[Events], facts: dict[str, Any]) -> None:
    counts = [len(events) for events in split]
    for name, count in zip(("train", "valid", "test"), counts, strict=False):
        if count == 0:
            what = "nothing to train on" if name == "train" else f"no {name} part"
            raise LogError(
                f"the split {facts['name']} leaves {what}: train {counts[0]}, valid {counts[1]}, "
                f"test {counts[2]} interactions; change split.valid, split.test or split.name"
            )
