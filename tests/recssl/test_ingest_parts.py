"""What a stranger trips over: parts of a split in a folder, lines of one length, ids, features."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from recssl.cli import app
from recssl.dataset import open_dataset
from recssl.errors import UnknownIdError
from recssl.run_folder import RunFolder
from sslcore.errors import CheckpointError
from tests.recssl.runs import grouped_dataset, make_run


def call(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.output


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


LINES = "".join(f"{user} {user + 1} {user + 2} {user + 3} {user + 4} 1 2\n" for user in range(40))


CSV = "user,item\n" + "".join(f"{user},{item}\n" for user in range(20) for item in range(5))


@pytest.mark.parametrize("names", [("train.txt", "test.txt"), ("x.train.inter", "x.valid.inter")])
def test_parts_of_a_split_in_a_folder_are_not_joined(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    for name in names:
        write(tmp_path / "d" / name, "user_id:token\titem_id:token\n1\t2\n")
    code, output = call("ingest", tmp_path / "d", "--out", tmp_path / "out")
    assert code == 2
    assert "holds parts of a split" in output
    assert f"--{'test' if 'test.txt' in names else 'valid'}" in output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("train", "held_out", "option"),
    [
        ("train/part0.csv", "test/part0.csv", "test"),
        ("a/train/2024/part0.csv", "a/test/2024/part0.csv", "test"),
        ("train/part0.csv", "dev/part0.csv", "valid"),
        ("trainset.csv", "testset.csv", "test"),
        ("training.csv", "holdout.csv", "test"),
        ("train_data.csv", "held-out.csv", "test"),
        ("ratingsTrain.csv", "ratingsTest.csv", "test"),
        ("MLTrainSet.csv", "MLValidationSet.csv", "valid"),
        ("u1_base.csv", "u1_test.csv", "test"),
        ("TRAIN1.csv", "EVAL1.csv", "test"),
        ("test/train.csv", "test/val.csv", "valid"),
        ("train_test/train.csv", "train_test/test.csv", "test"),
    ],
)
def test_words_of_all_names_below_the_folder_tell_the_parts(
    tmp_path: Path, train: str, held_out: str, option: str
) -> None:
    folder = tmp_path / "d"
    paths = [write(folder / name, CSV) for name in (train, held_out)]
    write(folder / "more.csv", CSV)
    code, output = call("ingest", folder, "--out", tmp_path / "out")
    assert code == 2
    assert f"parts of a split ({train}, {held_out}); name them" in output
    assert f"recssl ingest {paths[0]} --{option} {paths[1]} ..." in output


@pytest.mark.parametrize(
    "names",
    [
        ("trainers.csv", "latest.csv", "train.csv"),
        ("2024/01/part-0.csv", "2024/02/part-0.csv"),
        ("test/2024/part-0.csv", "test/2025/part-0.csv"),
        ("test/deep/train_a.csv", "test/deep/train_b.csv"),
        ("train_test.csv", "train.csv"),
        ("train_test/a.csv", "train_test/b.csv"),
        ("database/a.csv", "contest/a.csv", "devices.csv", "training.csv"),
    ],
)
@pytest.mark.parametrize("root", ["d", "train/test"])
def test_a_folder_of_logs_called_otherwise_is_joined(
    tmp_path: Path, names: tuple[str, ...], root: str
) -> None:
    for name in names:
        write(tmp_path / root / name, CSV)
    code, output = call("ingest", tmp_path / root, "--out", tmp_path / "out")
    assert (code, f"{100 * len(names)} lines read" in output) == (0, True), output


def test_lines_of_one_length_are_what_the_other_file_is(tmp_path: Path) -> None:
    train = write(tmp_path / "train.txt", LINES.replace("0 1 2 3 4 1 2", "0 1 2", 1))
    test = write(tmp_path / "test.txt", "".join(f"{user} 30 31\n" for user in range(20)))
    out = tmp_path / "out"
    code, output = call("ingest", train, "--test", test, "--out", out)
    assert code == 0, output
    assert open_dataset(out).test.nnz == 40
    code, output = call("ingest", test, "--out", tmp_path / "alone")
    assert (code, "--set format=adjacency" in output) == (2, True)


def test_features_of_no_item_are_refused_and_of_some_are_counted(tmp_path: Path) -> None:
    rows = "".join(f"{user},{item}\n" for user in range(20) for item in range(5))
    log = write(tmp_path / "log.csv", "user,item\n" + rows)
    table = write(tmp_path / "f.csv", "item_id,kind\nzz1,a\nzz2,b\n")
    words = ("ingest", log, "--item-features", table, "--out", tmp_path / "out")
    code, output = call(*words)
    assert code == 2
    assert "is that of one of the 5 items" in output
    assert not (tmp_path / "out").exists()
    write(table, "item_id,kind\n1,a\n2,b\n")
    code, output = call(*words)
    assert (code, "2 of 5 items have a row" in output) == (0, True)


def test_ids_with_and_without_zeros_in_front_are_refused(tmp_path: Path) -> None:
    one = write(tmp_path / "a.csv", "user,item\n" + "001,7\n002,8\n" * 3)
    two = write(tmp_path / "b.csv", "user,item\n" + "1,7\nx,8\n" * 3)
    code, output = call("ingest", one, two, "--out", tmp_path / "out")
    assert code == 2
    assert "zeros in front" in output


def test_an_object_as_an_id_is_a_bad_line(tmp_path: Path) -> None:
    rows = [json.dumps({"user_id": f"u{n % 9}", "item_id": n % 7}) for n in range(300)]
    rows[5] = json.dumps({"user_id": {"a": 1}, "item_id": 3})
    rows[9] = json.dumps({"user_id": "{x", "item_id": 3})  # a text, however odd
    log = write(tmp_path / "log.jsonl", "\n".join(rows) + "\n")
    code, output = call("ingest", log, "--out", tmp_path / "out")
    assert code == 0, output
    users = open_dataset(tmp_path / "out").user_ids.to_list()
    assert sorted(users) == [*(f"u{n}" for n in range(9)), "{x"]
    assert "1 bad" in output


def test_numbers_are_ids_as_they_are_written(tmp_path: Path) -> None:
    rows = "".join(f"{user},{item}\n" for user in range(20) for item in range(5))
    log = write(tmp_path / "log.csv", "user,item\n" + rows)
    assert call("ingest", log, "--out", tmp_path / "out")[0] == 0
    dataset = open_dataset(tmp_path / "out")
    assert dataset.find_users(["5"]).tolist() == [5]
    with pytest.raises(UnknownIdError, match="05"):
        dataset.find_users(["05"])


def test_embeddings_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", grouped_dataset(tmp_path / "data"))
    stored = RunFolder(run).read_embeddings()
    stored.items[3, 1] = np.nan
    RunFolder(run).write_embeddings(stored)
    with pytest.raises(CheckpointError, match="not all numbers are finite"):
        RunFolder(run).read_embeddings()


def test_metrics_of_the_validation_part_have_a_file_of_their_own(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", grouped_dataset(tmp_path / "data"))
    small = ("--set", "baselines.names=[popularity]", "--set", "resamples=10")
    assert call("evaluate", run, *small)[0] == 0
    test = (run / "metrics.json").read_bytes()
    code, output = call("evaluate", run, *small, "--set", "part=valid")
    assert (code, "metrics_valid.json" in output) == (0, True)
    assert (run / "metrics.json").read_bytes() == test
    assert json.loads((run / "metrics_valid.json").read_text())["protocol"]["part"] == "valid"


def test_a_setting_may_begin_with_a_percent_sign(tmp_path: Path) -> None:
    rows = "".join(f"u{n % 20},i{n % 7},{2001 + n % 20}\n" for n in range(200))
    log = write(tmp_path / "log.csv", "user,item,time\n" + rows)
    code, output = call(
        "ingest", log, "--out", tmp_path / "out", "--set", "time_format=%Y", "--split", "random"
    )
    assert code == 0, output
    times = open_dataset(tmp_path / "out").interactions.collect()["time"]
    assert times.drop_nulls().n_unique() == 20
