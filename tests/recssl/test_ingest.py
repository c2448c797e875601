import gzip
import os
from collections import Counter
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from recssl.dataset import PARTS, Dataset, open_dataset
from recssl.errors import LogError
from recssl.ingest import IngestSummary, ingest, job
from recssl.ingest.blocks import read_blocks
from recssl.settings.ingest import IngestConfig
from sslcore.config import resolve_config
from sslcore.console import Progress
from sslcore.errors import ConfigError, OutputError, SSLError

DAY = 86_400


def run(folder: Path, log: str | Path, name: str = "log.csv", **options: Any) -> IngestSummary:
    """Ingest a text, or a file that exists, into `folder/out`; splits at random by default."""
    path = folder / name if isinstance(log, str) else log
    if isinstance(log, str):
        path.write_text(log)
    options = {"split": {"name": "random"}} | options
    config = resolve_config(IngestConfig, options=options)
    progress = Progress("ingest", stream=StringIO())
    with progress:
        return ingest([path], config, folder / "out", progress)


def pairs_of(dataset: Dataset) -> Counter[tuple[object, object, float]]:
    """Return all interactions as ids and weight, parts put together."""
    table = dataset.interactions.collect()
    users, items = dataset.user_ids.to_list(), dataset.item_ids.to_list()
    rows = zip(table["user"], table["item"], table["weight"], strict=True)
    return Counter((users[user], items[item], weight) for user, item, weight in rows)


def csv(rows: list[tuple[object, ...]], header: str = "user,item,rating,ts") -> str:
    return "\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n"


ROWS: list[tuple[object, ...]] = [
    (100 + user, 7 * item, 1 + (user + item) % 5, 1_000_000_000 + 60 * (10 * item + user))
    for user in range(8)
    for item in range(user % 3, 10)
]
EXPECTED = Counter((user, item, float(rating)) for user, item, rating, _ in ROWS)  # type: ignore[arg-type]


def write(folder: Path, form: str) -> Path:
    table = pl.DataFrame(ROWS, schema=["user", "item", "rating", "ts"], orient="row")
    path = folder / f"log.{form}"
    text = csv(ROWS)
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    texts = {
        "csv": text,
        "tsv": text.replace(",", "\t"),
        "txt": text.replace(",", " ").replace("\n", "\r\n"),
        "inter": text.replace("user,item,rating,ts", header).replace(",", "\t"),
    }
    match form:
        case "csv.gz":
            path.write_bytes(gzip.compress(text.encode()))
        case "csv.zst":
            table.write_csv(path, compression="zstd")
        case "parquet":
            table.write_parquet(path)
        case "jsonl":
            table.write_ndjson(path)
        case _:
            path.write_text(texts[form])
    return path


FORMS = ["csv", "csv.gz", "csv.zst", "tsv", "txt", "inter", "parquet", "jsonl"]


@pytest.mark.parametrize("form", FORMS)
def test_every_format_gives_the_same_data_set(tmp_path: Path, form: str) -> None:
    made = run(tmp_path, write(tmp_path, form)).dataset
    assert pairs_of(made) == EXPECTED
    assert made.has_times
    plain = tmp_path / "plain"
    plain.mkdir()
    assert made.fingerprint == run(plain, csv(ROWS)).dataset.fingerprint


def test_adjacency_lines_become_pairs(tmp_path: Path) -> None:
    summary = run(
        tmp_path, "0 5 7 9\n1 5\n3\n2 9 5 \n", "log.txt", **{"split.valid": 0.3, "split.test": 0.3}
    )
    assert pairs_of(summary.dataset) == Counter(
        (user, item, 1.0) for user, item in [(0, 5), (0, 7), (0, 9), (1, 5), (2, 9), (2, 5)]
    )
    assert not summary.dataset.has_times


def test_folders_and_patterns_are_expanded(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    half = len(ROWS) // 2
    (logs / "b.csv").write_text(csv(ROWS[half:]))
    (logs / "a.csv").write_text(csv(ROWS[:half]))
    (logs / "notes.md").write_text("nothing")
    (logs / ".log.draft").mkdir()
    (logs / ".log.draft" / "left.csv").write_text(csv(ROWS))
    assert pairs_of(run(tmp_path, logs).dataset) == EXPECTED
    for pattern in ("*.csv", "?.csv"):
        (tmp_path / pattern[0]).mkdir(exist_ok=True)
        assert pairs_of(run(tmp_path / pattern[0], logs / pattern).dataset) == EXPECTED


def test_text_ids_are_kept_and_mapped_back(tmp_path: Path) -> None:
    rows = [(f"u-{user}", f"Ä{item}", 1, 5) for user in range(4) for item in range(6)]
    made = run(tmp_path, csv([*rows, ("007", "x", 1, 5)])).dataset
    assert made.user_ids.dtype == pl.String
    assert set(made.user_ids) == {"007", "u-0", "u-1", "u-2", "u-3"}
    assert made.item_ids[int(made.find_items(["Ä3"])[0])] == "Ä3"
    assert made.find_users(["007"]).tolist() == [0]


def test_integers_far_apart_are_numbered_like_those_that_are_near(tmp_path: Path) -> None:
    rows = [(user * 2**40 - 2**62, item - 3, 1, 5) for user in range(4) for item in range(9)]
    made = run(tmp_path, csv(rows)).dataset
    assert made.user_ids.to_list() == [user * 2**40 - 2**62 for user in range(4)]
    assert made.item_ids.to_list() == list(range(-3, 6))
    assert pairs_of(made) == Counter((user, item, 1.0) for user, item, _, _ in rows)


def test_columns_are_found_by_name_or_given(tmp_path: Path) -> None:
    text = csv([(*row, "z") for row in ROWS], "reviewerID,asin,overall,unixReviewTime,note")
    assert pairs_of(run(tmp_path, text).dataset) == EXPECTED
    other = tmp_path / "other"
    other.mkdir()
    given = {"user": "1", "item": "2", "weight": "3", "time": "4"}
    assert pairs_of(run(other, csv(ROWS).partition("\n")[2], **given).dataset) == EXPECTED


def test_k_core_runs_to_its_fixpoint(tmp_path: Path) -> None:
    # without user 9, item 2 has one user; without item 2, user 8 has one item
    block = [(user, item) for user in range(3) for item in (10, 11)]
    rows: list[tuple[object, ...]] = [*block, (8, 10), (8, 2), (9, 2)]
    options = {"min_per_user": 2, "min_per_item": 2, "split": {"name": "new_users"}}
    summary = run(tmp_path, csv(rows, "user,item"), **options)
    assert set(summary.dataset.user_ids) == {0, 1, 2}
    assert set(summary.dataset.item_ids) == {10, 11}
    assert summary.dropped["min_per_user, min_per_item"] == 3
    assert "left out: min_per_user" in summary.table()


def test_filters_take_what_they_say(tmp_path: Path) -> None:
    rows = [(user, item, item, item * DAY) for user in range(3) for item in range(1, 11)]
    summary = run(
        tmp_path, csv(rows), min_weight=3, since="1970-01-05", until="1970-01-10T00:00:00Z"
    )
    assert summary.dropped["min_weight"] == 6
    assert summary.dropped["since"] == 3
    assert summary.dropped["until"] == 6
    assert set(summary.dataset.item_ids) == {4, 5, 6, 7, 8}
    assert set(summary.dataset.interactions.collect()["weight"]) == {1.0}


@pytest.mark.parametrize(
    ("how", "expected"),
    [("last", 5.0), ("count", 3.0), ("sum", 10.0), ("decay", 5 + 2 / 2 + 3 / 4)],
)
def test_duplicates_are_merged(tmp_path: Path, how: str, expected: float) -> None:
    # out of order, and the last of all events is on day 60
    repeats = [(0, 0, 5, 60 * DAY), (0, 0, 3, 0), (0, 0, 2, 30 * DAY)]
    fill = [(user, item, 1, 60 * DAY) for user in range(1, 4) for item in range(10)]
    made = run(tmp_path, csv([*repeats, *fill]), duplicates=how).dataset
    row = made.interactions.filter(user=0).collect()
    assert row["weight"].to_list() == [pytest.approx(expected)]
    assert row["time"].to_list() == [60 * DAY * 1_000_000]


def test_given_test_keeps_its_pairs_and_valid_comes_from_train(tmp_path: Path) -> None:
    train = "".join(f"{user} {' '.join(map(str, range(20)))}\n" for user in range(5))
    (tmp_path / "test.txt").write_text("0 20 21\n1 3 99\n2\n")
    summary = run(tmp_path, train, "train.txt", test=(tmp_path / "test.txt",))
    made = summary.dataset
    counts = {part: made.facts["counts"][part]["interactions"] for part in PARTS}
    assert counts == {"train": 90, "valid": 10, "test": 4}
    assert 99 in set(made.item_ids)
    assert made.facts["split"]["name"] == "given"
    assert summary.num_in_both == 1
    assert "1 pairs of valid or test are also in train" in summary.table()


def test_features_are_joined_by_id(tmp_path: Path) -> None:
    (tmp_path / "log.user").write_text("user_id:token\tage:float\n101\t30\n999\t1\n100\t20\n")
    made = run(tmp_path, csv(ROWS), user_features=tmp_path / "log.user").dataset
    assert made.users["age"].to_list()[:3] == [20, 30, None]
    assert made.users["id"].to_list() == list(range(100, 108))


def test_result_does_not_depend_on_the_size_of_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(tmp_path, csv(ROWS)).dataset
    monkeypatch.setattr(read_blocks, "__kwdefaults__", {"quotes": False, "size": 64})
    again = tmp_path / "again"
    again.mkdir()
    assert run(again, csv(ROWS)).dataset.fingerprint == first.fingerprint


def test_config_and_summary_are_written(tmp_path: Path) -> None:
    summary = run(tmp_path, csv(ROWS), min_per_user=2)
    config = resolve_config(IngestConfig, file=tmp_path / "out" / "config.yaml")
    assert config.min_per_user == 2
    assert open_dataset(tmp_path / "out").fingerprint == summary.dataset.fingerprint
    assert f"{len(ROWS)} lines read, 0 bad, 0 repeats merged" in summary.table()
    assert {path.name for path in tmp_path.iterdir()} == {"log.csv", "out"}


def test_an_existing_folder_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    with pytest.raises(OutputError, match="already exists"):
        run(tmp_path, "no log at all")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_a_log_that_changes_meanwhile_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbering = job.number_rows

    def append(*args: Any, **options: Any) -> Any:
        with (tmp_path / "log.csv").open("a") as file:
            file.write("1,2,3,4\n")
        return numbering(*args, **options)

    monkeypatch.setattr(job, "number_rows", append)
    with pytest.raises(LogError, match=r"log\.csv changed while it was read"):
        run(tmp_path, csv(ROWS))
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


def test_a_killed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **options: Any) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(SSLError, match="No space left"):
        run(tmp_path, csv(ROWS))
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


@pytest.mark.parametrize("name", ["time", "leave_last_out"])
def test_splits_that_need_times_say_so(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="needs times"):
        run(tmp_path, csv([(1, 2), (3, 4)], "user,item"), split={"name": name})
