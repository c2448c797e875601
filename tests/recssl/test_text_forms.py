"""Text files: columns and lists `user item item ...` are told apart, and never mixed up."""

from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from recssl.dataset import open_dataset
from recssl.ingest.text_forms import text_form
from tests.recssl.test_ingest import pairs_of
from tests.recssl.test_ingest_parts import call, write

ROWS = [
    (user, 10 * user + item, 1 + (user + item) % 5) for user in range(1, 9) for item in range(5)
]
PLAIN = "".join(f"{user} {item} {rating} {1000 + user}\n" for user, item, rating in ROWS)
HEAD = "user item rating\n" + "".join(f"{user} {item} {rating}\n" for user, item, rating in ROWS)
COMMA = HEAD.replace(" ", ",")
LISTS = "".join(  # one to twelve items, as in LightGCN's files
    f"{user} {' '.join(str(7 * user + item) for item in range(1 + 5 * user % 12))}\n"
    for user in range(24)
)
TRIPLES = "".join(f"{user} 30 31\n" for user in range(20))


@pytest.mark.parametrize(
    ("text", "form"),
    [
        (LISTS, "lists"),
        ("0 5 7 9\n1 5\n3\n2 9 5 \n", "lists"),
        ("".join(f"{user} 1 2 3 4 5 6\n" for user in range(9)), "lists"),
        ("0 " + " ".join(map(str, range(300_000))) + "\n1 5\n", "lists"),  # a line beyond the look
        ("2 10\n3 20\n", "pairs"),
        ("2 10\n3\n\n2 20\n", "pairs"),
        ("", "pairs"),
        (TRIPLES, "numbers"),
        ("1 10 5 100\n2 20\n3 10 4 90\n", "numbers"),
        (PLAIN, "columns"),
        (PLAIN + "3 7\n", "columns"),
        (PLAIN + "3 7 5 1003 3 8 1 1003\n", "columns"),  # an end of line was lost
        ("".join(f"{row % 5} {row} 3 1 2 3 4\n" for row in range(40)), "columns"),
        (HEAD, "columns"),
        (COMMA, "columns"),
        ("u1 a b\nu2 a b c d e f\n", "columns"),
    ],
)
def test_lines_tell_the_form(tmp_path: Path, text: str, form: str) -> None:
    assert text_form(write(tmp_path / "log.txt", text)) == form


@pytest.mark.parametrize("text", [HEAD, COMMA])
def test_pairs_make_no_lists_of_columns(tmp_path: Path, text: str) -> None:
    log, pairs = write(tmp_path / "log.txt", text), write(tmp_path / "pairs.txt", "2 10\n3 20\n")
    code, output = call("ingest", log, "--test", pairs, "--out", tmp_path / "out")
    assert (code, "42 lines read, 0 bad" in output) == (0, True), output
    dataset = open_dataset(tmp_path / "out")
    expected = Counter((user, item, float(rating)) for user, item, rating in ROWS)
    assert pairs_of(dataset) == expected + Counter([(2, 10, 1.0), (3, 20, 1.0)])
    assert dataset.test.nnz == 2


def test_columns_without_a_header_have_to_be_named(tmp_path: Path) -> None:
    log, pairs = write(tmp_path / "log.txt", PLAIN), write(tmp_path / "pairs.txt", "2 10\n3 20\n")
    words = ("ingest", log, "--test", pairs, "--out", tmp_path / "out")
    code, output = call(*words)
    assert (code, "--user 1 --item 2" in output, "format=adjacency" in output) == (2, True, True)
    code, output = call(*words, "--user", 1, "--item", 2)
    assert code == 0, output
    expected = Counter((user, item, 1.0) for user, item, _ in ROWS)
    assert pairs_of(open_dataset(tmp_path / "out")) == expected + Counter(
        [(2, 10, 1.0), (3, 20, 1.0)]
    )


def test_a_short_line_is_bad_and_makes_no_lists(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a.txt", PLAIN), write(tmp_path / "b.txt", "9 1 5 99\n8 2\n7 3 4 98\n")
    words = ("ingest", a, b, "--out", tmp_path / "out")
    code, output = call(*words)
    assert (code, "--user 1 --item 2" in output) == (2, True)
    code, output = call(*words, "--user", 1, "--item", 2, "--max-bad", 0.1, "--split", "random")
    assert (code, "2 fields, expected 4" in output) == (0, True), output
    assert sum(pairs_of(open_dataset(tmp_path / "out")).values()) == len(ROWS) + 2


@pytest.mark.parametrize("text", [HEAD, COMMA, PLAIN])
@pytest.mark.parametrize("is_test", [False, True])
def test_lists_beside_columns_are_refused(tmp_path: Path, text: str, is_test: bool) -> None:
    lists, other = write(tmp_path / "lists.txt", LISTS), write(tmp_path / "other.txt", text)
    files = (other, "--test", lists) if is_test else (lists, other)
    code, output = call("ingest", *files, "--out", tmp_path / "out")
    assert code == 2
    assert f"{lists} has lines of user item item ..., but {other} has columns" in output
    assert not (tmp_path / "out").exists()


def test_columns_with_a_telling_name_stand_beside_lists(tmp_path: Path) -> None:
    lists, other = write(tmp_path / "lists.txt", LISTS), write(tmp_path / "other.csv", HEAD)
    code, output = call("ingest", other, "--test", lists, "--out", tmp_path / "out")
    assert code == 0, output
    num_users = len(LISTS.splitlines())
    assert open_dataset(tmp_path / "out").test.nnz == len(LISTS.split()) - num_users


def test_numbers_are_lists_beside_lists_and_that_is_said(tmp_path: Path) -> None:
    lists, other = write(tmp_path / "train.txt", LISTS), write(tmp_path / "test.txt", TRIPLES)
    code, output = call("ingest", lists, "--test", other, "--out", tmp_path / "out")
    assert (code, f"{other}: read as user item item ..., like {lists}" in output) == (0, True)
    assert open_dataset(tmp_path / "out").test.nnz == 40
    code, output = call("ingest", lists, "--out", tmp_path / "alone")
    assert (code, "read as user item" in output) == (0, False)


def test_lists_are_found_in_a_folder_and_as_test(tmp_path: Path) -> None:
    lines = LISTS.splitlines(keepends=True)
    single = "".join(f"{user} {user}\n" for user in range(24))
    for number in range(3):
        write(tmp_path / "train" / f"part-{number}.txt", "".join(lines[number::3]))
    test = write(tmp_path / "test.txt", single)
    words = ("ingest", tmp_path / "train", "--test", test, "--out", tmp_path / "out")
    code, output = call(*words)
    assert code == 0, output
    dataset = open_dataset(tmp_path / "out")
    pairs = Counter(
        (int(user), int(item), 1.0) for user, *items in map(str.split, lines) for item in items
    )
    assert pairs_of(dataset) == pairs + Counter((user, user, 1.0) for user in range(24))
    assert dataset.test.nnz == 24


def test_a_line_parted_by_commas_is_no_user_without_items(tmp_path: Path) -> None:
    log = write(tmp_path / "log.txt", LISTS + "5,6,7\n")
    words = ("ingest", log, "--set", "format=adjacency", "--split", "random")
    code, output = call(*words, "--max-bad", 0.1, "--out", tmp_path / "out")
    assert code == 0, output
    bad = pl.read_parquet(tmp_path / "out" / "bad_lines.parquet")
    assert bad["line"].to_list() == [25]
    assert "another separator" in bad["reason"][0]
    write(log, COMMA)
    code, output = call(*words, "--out", tmp_path / "all")
    assert (code, "41 of 41 lines" in output) == (2, True)
