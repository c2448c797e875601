import gzip
from datetime import date, time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from recssl.errors import LogError
from recssl.ingest.blocks import read_blocks
from recssl.ingest.values import free_ids
from tests.recssl.test_ingest import ROWS, csv, pairs_of, run


def refused(
    tmp_path: Path, message: str, log: str | Path, name: str = "log.csv", **options: Any
) -> None:
    """Expect a `LogError`, and nothing left behind."""
    before = {path.name for path in tmp_path.iterdir()} | {name}
    with pytest.raises(LogError, match=message):
        run(tmp_path, log, name, **options)
    assert {path.name for path in tmp_path.iterdir()} <= before


def test_a_missing_column_lists_those_there_are(tmp_path: Path) -> None:
    refused(
        tmp_path, "no column looks like the item.*--item.*who, what", "who,what\na,b\n", user="who"
    )
    refused(
        tmp_path, "no column 'itm'; did you mean 'item'.*user, item", "user,item\n1,2\n", item="itm"
    )
    refused(tmp_path, r"no header: columns are numbered.*--user 1", "1,2,3\n4,5,6\n")


@pytest.mark.parametrize(
    ("log", "message"), [("who,what\n1,2\n", "no column"), ("user,item\n1,2\n", "leaves no valid")]
)
def test_a_log_that_is_refused_leaves_no_new_folder(tmp_path: Path, log: str, message: str) -> None:
    (tmp_path / "log.csv").write_text(log)
    (tmp_path / "old").mkdir()
    with pytest.raises(LogError, match=message):
        run(tmp_path / "old" / "new" / "deep", tmp_path / "log.csv")
    assert {path.name for path in tmp_path.rglob("*")} == {"log.csv", "old"}


def test_one_column_cannot_be_two_things(tmp_path: Path) -> None:
    refused(tmp_path, "'item' is taken for both", csv(ROWS), user="item")


@pytest.mark.parametrize("value", ["yesterday", "13/45/2020"])
def test_unparsable_times_name_line_value_and_way_out(tmp_path: Path, value: str) -> None:
    rows = [(*row[:3], value) for row in ROWS]
    refused(tmp_path, rf"line 2: time '{value}' cannot be read.*--set 'time_format=", csv(rows))


@pytest.mark.parametrize(
    ("texts", "options"),
    [
        (["2024-03-01T12:00:00Z", "2024-03-01T13:00:00+01:00"], {}),
        (["2024-03-01 12:00:00", "2024-03-01 12:00:00.000"], {}),
        (["1709294400", "1709294400.0"], {}),
        (["1709294400000", "1709294400000"], {}),
        (["1709294400000000000"] * 2, {}),
        (["01/03/2024 12:00"] * 2, {"time_format": "%d/%m/%Y %H:%M"}),
        (["1709294400"] * 2, {"time_unit": "s"}),
    ],
)
def test_times_are_read_to_the_microsecond(
    tmp_path: Path, texts: list[str], options: dict[str, str]
) -> None:
    rows = [(user, item, 1, texts[item % 2]) for user in range(2) for item in range(10)]
    made = run(tmp_path, csv(rows), **options).dataset  # type: ignore[arg-type]
    assert set(made.interactions.collect()["time"]) == {1_709_294_400_000_000}


@pytest.mark.parametrize("dtype", [pl.Int32, pl.Int64, pl.UInt32])
def test_integers_of_parquet_are_read_in_the_given_form(
    tmp_path: Path, dtype: type[pl.DataType]
) -> None:
    columns = {"user": [1, 2] * 9, "item": range(18), "time": [20240301] * 18}
    path = tmp_path / "log.parquet"
    pl.DataFrame(columns, schema_overrides={"time": dtype}).write_parquet(path)
    made = run(tmp_path, path, time_format="%Y%m%d").dataset
    assert set(made.interactions.collect()["time"]) == {1_709_251_200_000_000}


def test_integers_that_the_given_form_does_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    pl.DataFrame({"user": [1], "item": [2], "time": [1_709_294_400]}).write_parquet(path)
    refused(tmp_path, "line 1: time '1709294400' cannot be read", path, time_format="%d/%m/%Y")


@pytest.mark.parametrize(
    ("role", "column", "kind"),
    [
        ("user", pl.Series([["a"], ["b"]]), r"List\(String\)"),
        ("item", pl.Series([{"a": 1}, {"a": 2}]), "Struct"),
        ("time", pl.Series([time(1), time(2)]), "Time"),
        ("time", pl.Series([{"a": 1}, {"a": 2}]), "Struct"),
        ("time", pl.Series([b"1", b"2"]), "Binary"),
        ("weight", pl.Series([[1], [2]]), r"List\(Int64\)"),
        ("weight", pl.Series([date(2024, 1, 1)] * 2), "Date"),
    ],
)
def test_columns_of_a_type_without_a_meaning_are_refused(
    tmp_path: Path, role: str, column: pl.Series, kind: str
) -> None:
    path = tmp_path / "log.parquet"
    table = pl.DataFrame({"user": [1, 2], "item": [3, 4]})
    table.with_columns(column.alias(role)).write_parquet(path)
    refused(tmp_path, rf"column '{role}' \({role}\) is of type {kind}.*known: .*--{role}", path)


def test_ids_as_bytes_are_texts_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    users = [b"a", b"b", b"c"] * 6
    pl.DataFrame({"uid": users, "item": range(18)}).write_parquet(path)
    assert run(tmp_path, path).dataset.user_ids.to_list() == ["a", "b", "c"]
    other = tmp_path / "other"
    other.mkdir()
    pl.DataFrame({"uid": [*users, b"\xff"], "item": range(19)}).write_parquet(path)
    refused(other, r"column 'uid' \(user\) is of type Binary and not UTF-8; write it as", path)


def test_features_whose_ids_are_lists_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "features.parquet"
    pl.DataFrame({"user": [[100], [101]], "age": [30, 40]}).write_parquet(path)
    refused(tmp_path, r"column 'user' \(user\) is of type List", csv(ROWS), user_features=path)


def test_logs_without_times_among_others_are_named(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "a.csv").write_text(csv(ROWS))
    (logs / "b.csv").write_text("user,item\n1,2\n")
    (logs / "c.csv").write_text("user,item,time\n")
    refused(tmp_path, r"1 of 2 logs have no times: \S+b\.csv; .*--time", logs)
    test = (logs / "b.csv",)
    refused(tmp_path, r"no times: \S+b\.csv; .*--time", logs / "a.csv", test=test)


def test_empty_results_say_which_filter_took_what(tmp_path: Path) -> None:
    count = len(ROWS)
    refused(
        tmp_path, rf"nothing is left of {count} lines.*min_weight {count}", csv(ROWS), min_weight=9
    )
    refused(tmp_path, rf"min_per_user, min_per_item {count}", csv(ROWS), min_per_user=50)
    refused(tmp_path, "empty", "")
    refused(tmp_path, "nothing is left of 0 lines; taken by: no filter", "user,item\n")


def test_a_split_without_validation_is_refused(tmp_path: Path) -> None:
    rows = [(1, 2), (3, 4)]
    refused(tmp_path, "leaves no valid part: train 2, valid 0", csv(rows, "user,item"))  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["nan", "inf", "0", "-2", "1e39", "1e-60"])
def test_weights_that_are_none_stop(tmp_path: Path, value: str) -> None:
    refused(tmp_path, r"line 4: weight .*float32", csv([*ROWS[:2], (1, 2, value, 5), *ROWS[2:]]))


def test_ids_that_differ_only_in_type_are_refused(tmp_path: Path) -> None:
    lines = '{"user": 5, "item": 1}\n{"user": "5", "item": 2}\n'
    refused(tmp_path, r"1 user id\(s\) differ only in type: 5 ", lines, "log.jsonl")
    refused(tmp_path, "integers as well as decimals", "user,item\n5,1\n5.0,2\n")
    logs = tmp_path / "logs"
    logs.mkdir()
    pl.DataFrame({"user": [5, 6], "item": [1, 2]}).write_parquet(logs / "a.parquet")
    pl.DataFrame({"user": ["5", "x"], "item": [1, 2]}).write_parquet(logs / "b.parquet")
    refused(tmp_path, "numbers as well as texts", logs)


def test_ids_of_both_types_that_never_meet_are_kept(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    pl.DataFrame({"user": [5, 5, 5], "item": [1, 2, 3]}).write_parquet(logs / "a.parquet")
    pl.DataFrame({"user": ["x"] * 9, "item": range(9)}).write_parquet(logs / "b.parquet")
    assert run(tmp_path, logs).dataset.user_ids.to_list() == ["5", "x"]


def test_bad_lines_are_counted_shown_and_set_aside(tmp_path: Path) -> None:
    good = [f"{user},{item},1" for user in range(50) for item in range(20)]
    bad = ["9,9", ",9,1", "9,,1", "9,9,one", "1,2,3,4", "\ufffd,1,1"]
    lines = ["user,item,rating", *bad, *good]
    summary = run(tmp_path, "\n".join(lines) + "\n\n")
    assert summary.num_bad == 6
    table = pl.read_parquet(tmp_path / "out" / "bad_lines.parquet")
    assert dict(table.select("line", "reason").iter_rows()) == {
        2: "2 fields, expected 3",
        3: "no user",
        4: "no item",
        5: "weight is no number",
        6: "4 fields, expected 3",
        7: "not UTF-8",
    }
    other = tmp_path / "other"
    other.mkdir()
    refused(
        other,
        r"6 of 1006 lines \(0\.60%\) are bad(.|\n)*line 2: 2 fields",
        "\n".join(lines),
        max_bad=0.005,
    )


def test_bad_json_lines_are_named(tmp_path: Path) -> None:
    good = [f'{{"user": {n % 7}, "item": {n // 7}}}' for n in range(400)]
    bad = {
        1: ("nonsense", "not JSON"),
        2: ('{"user": 1', "not JSON"),
        403: ('{"user": 1, "item": 2,}', "not JSON"),
        404: ('{"user": 1}', "no item"),
        405: ('{"user": "1"}', "no item"),
        406: ('{"item": 1}', "no user"),
        407: ("[1, 2]", "not a JSON object"),
        408: ('{"user": 2, "item": null}', "no item"),
    }
    texts = [text for text, _ in bad.values()]
    summary = run(tmp_path, "\n".join([*texts[:2], *good, *texts[2:]]), "log.jsonl", max_bad=0.5)
    table = pl.read_parquet(tmp_path / "out" / "bad_lines.parquet")
    assert table["line"].to_list() == list(bad)
    assert table["reason"].to_list() == [reason for _, reason in bad.values()]
    assert (summary.num_lines, summary.num_bad) == (408, 8)


def test_bad_lines_follow_the_order_of_files_and_lines(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    good = [f'{{"user": {n % 7}, "item": {n // 7}}}' for n in range(70)]
    for name in ("b.jsonl", "a.jsonl"):
        (logs / name).write_text("\n".join(['{"user": 3}', '{"user": "x"}', "no", *good]))
    refused(tmp_path, r"a\.jsonl: line 1(.|\n)*line 2(.|\n)*line 3(.|\n)*b\.jsonl: line 1", logs)


def test_nan_in_json_is_what_it_is_in_other_formats(tmp_path: Path) -> None:
    lines = [f'{{"user": {n % 7}, "item": "i{n // 7}", "rating": {n}.5}}' for n in range(70)]
    for name in ("NaN", "Infinity", "-Infinity"):
        broken = [*lines[:4], f'{{"user": 5, "item": "i1", "rating": {name}}}', *lines[4:]]
        refused(tmp_path, "line 5: weight -?(nan|inf)", "\n".join(broken), "log.jsonl")
    other = '{"user": "a", "item": "i1", "rating": 2, "price": NaN}'
    made = run(tmp_path, "\n".join([other, *lines]), "log.jsonl").dataset
    assert pairs_of(made)["a", "i1", 2.0] == 1


def test_quotes_may_hold_separators_and_newlines(tmp_path: Path) -> None:
    rows = "".join(f'{n % 5},{n // 5},"a, b\nand ""c""",1\n' for n in range(200))
    summary = run(tmp_path, "user,item,title,rating\n" + rows + "3,99\n")
    assert summary.dataset.facts["counts"]["train"]["interactions"] == 160
    table = pl.read_parquet(tmp_path / "out" / "bad_lines.parquet")
    assert table["line"].to_list() == [402]


@pytest.mark.parametrize("name", ["since", "until"])
def test_a_range_of_times_needs_times_and_is_named_as_it_is_given(
    tmp_path: Path, name: str
) -> None:
    message = rf"no times, which {name} \(--set {name}=\.\.\.\) needs"
    refused(tmp_path, message, "user,item\n1,2\n", **{name: "2024-01-01"})


def test_files_that_are_no_logs(tmp_path: Path) -> None:
    refused(tmp_path, "unknown kind of file; known: .csv.*--set format=csv", "x", "log.doc")
    refused(tmp_path, "no such file", tmp_path / "nowhere.csv")
    refused(tmp_path, "JSON array", "[1]", "log.json")
    refused(tmp_path, "not a Parquet file", "x", "log.parquet")
    refused(tmp_path, "cannot be read to its end", "x", "log.csv.gz")
    refused(tmp_path, "two columns have one name", "user,user,item\n1,2,3\n")


def test_a_truncated_gzip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.csv.gz"
    whole = gzip.compress(csv(ROWS).encode())
    path.write_bytes(whole[:-20])
    refused(tmp_path, "cannot be read to its end", path)


def test_a_file_named_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    refused(tmp_path, "named twice", csv(ROWS), test=(path, path))


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_blocks_hold_whole_lines(tmp_path: Path, size: int) -> None:
    path = tmp_path / "text"
    text = b"\xef\xbb\xbfone\n\ntwo\r\nthree"
    path.write_bytes(text)
    blocks = list(read_blocks(path, size=max(size, 5)))
    assert b"".join(blocks) == text[3:] + b"\n"
    assert all(block.endswith(b"\n") for block in blocks)


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [(["5", "-3"], True), (["5", "05"], False), (["+5"], False), (["5.0"], False), (["0"], True)],
)
def test_only_plain_integers_become_numbers(texts: list[str], numbers: bool) -> None:
    ids = free_ids(pl.Series(texts))
    assert (ids.dtype == pl.Int64) == numbers
    assert ids.cast(pl.String).to_list() == texts
