import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recssl.dataset import INTERACTIONS, Dataset, open_dataset, write_dataset
from recssl.dataset_summary import gini
from recssl.errors import DatasetError, UnknownIdError
from sslcore.errors import OutputError
from tests.recssl.logs import make_dataset

TRAIN = [(0, 2), (0, 1), (2, 0)]
VALID = [(0, 0)]
TEST = [(2, 2), (3, 1)]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return make_dataset(tmp_path / "data", TRAIN, VALID, TEST, 4, 3, times=True)


def test_parts_come_back_as_they_were_given(dataset: Dataset) -> None:
    for pairs, matrix in zip((TRAIN, VALID, TEST), dataset.parts, strict=True):
        expected = np.zeros((4, 3), np.float32)
        for user, item in pairs:
            expected[user, item] = 1
        assert matrix.dtype == np.float32
        np.testing.assert_array_equal(matrix.toarray(), expected)


def test_matrices_are_sorted_int32_and_memory_mapped(dataset: Dataset) -> None:
    train = dataset.train
    assert train.indices.tolist() == [1, 2, 0]
    assert train.indices.dtype == train.indptr.dtype == np.int32
    assert not train.indices.flags.owndata
    assert not train.data.flags.writeable
    np.testing.assert_array_equal(train @ np.ones(3, np.float32), [2, 0, 1, 0])


def test_interactions_are_sorted_by_user_time_item(dataset: Dataset) -> None:
    table = dataset.interactions.collect()
    assert table.schema == INTERACTIONS
    assert table["user"].to_list() == [0, 0, 0, 2, 2, 3]
    assert table["item"].to_list() == [2, 1, 0, 0, 2, 1]
    assert dataset.has_times


def test_facts_count_the_parts(dataset: Dataset) -> None:
    assert dataset.facts["counts"]["train"] == {"interactions": 3, "users": 2, "items": 3}
    assert dataset.facts["counts"]["test"] == {"interactions": 2, "users": 2, "items": 2}
    assert dataset.facts["summary"]["density"] == pytest.approx(6 / 12)
    assert dataset.facts["summary"]["history_lengths"]["max"] == 2


def test_empty_parts_and_empty_rows_are_kept(tmp_path: Path) -> None:
    empty = make_dataset(tmp_path / "data", [(0, 0)], [], [], 3, 2)
    assert empty.test.nnz == 0
    assert empty.train.shape == (3, 2)
    assert not empty.has_times


def test_finds_rows_by_id(dataset: Dataset, tmp_path: Path) -> None:
    assert dataset.find_users(["u3", "u0", "u3"]).tolist() == [3, 0, 3]
    numbered = make_dataset(tmp_path / "n", TRAIN, VALID, TEST, 4, 3, item_ids=[10, -5, 7])
    assert numbered.find_items(["7", "-5"]).tolist() == [2, 1]
    assert numbered.item_ids.dtype == pl.Int64


@pytest.mark.parametrize("name", ["u9", "0", ""])
def test_unknown_ids_are_named(dataset: Dataset, name: str) -> None:
    with pytest.raises(UnknownIdError, match=rf"1 of 2 user id\(s\) are not in .*: {name}$"):
        dataset.find_users(["u0", name])


def test_fingerprint_depends_on_content_alone(tmp_path: Path) -> None:
    def fingerprint(name: str, *, train: list[tuple[int, int]] = TRAIN, **changes: object) -> str:
        made = make_dataset(tmp_path / name, train, VALID, TEST, 4, 3, **changes)  # type: ignore[arg-type]
        return made.fingerprint

    first = fingerprint("a")
    assert fingerprint("b", train=TRAIN[::-1]) == first
    others = {
        fingerprint("c", train=[*TRAIN, (1, 1)]),
        fingerprint("d", times=True),
        fingerprint("e", item_ids=["x", "y", "z"]),
        fingerprint("f", item_ids=[0, 1, 2]),
    }
    assert len(others | {first}) == 5


def test_fingerprint_depends_on_features(tmp_path: Path) -> None:
    def fingerprint(users: dict[str, list[object]], items: dict[str, list[object]]) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        pair = {"user": [0], "item": [0], "weight": [1.0], "time": [None], "part": ["train"]}
        tables = ({"user": [0, 1], "id": [7, 8]} | users, {"item": [0, 1], "id": [7, 8]} | items)
        return write_dataset(folder, pl.DataFrame(pair), *map(pl.DataFrame, tables)).fingerprint

    columns: list[dict[str, list[object]]] = [
        {"age": [1, 2]},
        {"age": [1, 3]},
        {"age": [1.0, 2.0]},
        {"age": ["1", "2"]},
        {"age": [1, None]},
        {"size": [1, 2]},
        {"tags": [["a", "b"], []]},
        {"tags": [["a"], ["b"]]},
        {"age": [1, 2], "size": [1, 2]},
    ]
    prints = [fingerprint({}, {})]
    prints += [fingerprint(extra, {}) for extra in columns]
    prints += [fingerprint({}, extra) for extra in columns]
    assert len(set(prints)) == len(prints)
    assert fingerprint(columns[-2], columns[0]) == fingerprint(columns[-2], columns[0])


def test_an_existing_folder_is_refused(dataset: Dataset) -> None:
    with pytest.raises(OutputError, match="already exists"):
        make_dataset(dataset.folder, TRAIN, VALID, TEST, 4, 3)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [([(0, 1), (0, 1)], "stands twice"), ([(9, 0)], "run from 0 to 9, of 4")],
)
def test_tables_that_do_not_fit_leave_nothing(
    tmp_path: Path, pairs: list[tuple[int, int]], message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        make_dataset(tmp_path / "data", [*TRAIN, *pairs], VALID, TEST, 4, 3)
    assert list(tmp_path.iterdir()) == []


def test_ids_must_be_unique(tmp_path: Path) -> None:
    users = pl.DataFrame({"user": [0, 1], "id": ["a", "a"]})
    items = pl.DataFrame({"item": [0], "id": ["x"]})
    with pytest.raises(DatasetError, match="unique"):
        write_dataset(tmp_path / "data", pl.DataFrame(schema=INTERACTIONS), users, items)


def test_other_folders_are_refused(tmp_path: Path, dataset: Dataset) -> None:
    with pytest.raises(DatasetError, match=r"no dataset\.json"):
        open_dataset(tmp_path)
    facts = dataset.folder / "dataset.json"
    facts.write_text(json.dumps(dict(dataset.facts) | {"format": 99}))
    with pytest.raises(DatasetError, match="format 99"):
        open_dataset(dataset.folder)
    facts.write_text("{")
    with pytest.raises(DatasetError, match="damaged"):
        open_dataset(dataset.folder)


def test_a_damaged_part_is_named(dataset: Dataset) -> None:
    np.save(dataset.folder / "train" / "indices.npy", np.zeros(1, np.int32))
    with pytest.raises(DatasetError, match="train is missing or damaged"):
        _ = dataset.train
    (dataset.folder / "users.parquet").unlink()
    with pytest.raises(DatasetError, match=r"users\.parquet is missing or damaged"):
        _ = dataset.users


@pytest.mark.parametrize(("counts", "expected"), [([4, 4, 4], 0.0), ([0, 0, 9], 2 / 3), ([], 0.0)])
def test_gini_of_even_and_uneven_items(counts: list[int], expected: float) -> None:
    assert gini(np.array(counts, np.int64)) == pytest.approx(expected)


def test_gini_matches_the_mean_difference() -> None:
    counts = [1, 5, 2, 8, 0]
    pairs = [abs(a - b) for a in counts for b in counts]
    expected = sum(pairs) / (2 * len(counts) ** 2 * np.mean(counts))
    assert gini(np.array(counts)) == pytest.approx(expected)


def test_a_log_is_no_data_set_yet(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("user,item\n1,2\n")
    with pytest.raises(DatasetError, match=r"is a file, not a data set; .*: recssl ingest \S+csv"):
        open_dataset(log)
