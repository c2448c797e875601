import csv
import gzip
import re
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import typer

from recssl.cli import app
from recssl.dataset import Dataset
from recssl.demo import run_demo
from recssl.demo_log import BAD_LINES, FILES, SUBJECTS, InventedLog, write_log
from recssl.ingest import ingest
from recssl.settings.ingest import IngestConfig
from sslcore.console import Progress
from sslcore.errors import OutputError

SIZES = {"users": 300, "items": 120, "interactions": 6000}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, InventedLog]:
    base = tmp_path_factory.mktemp("shop")
    return base, write_log(base / "logs", base / "items.csv", **SIZES)


@pytest.fixture(scope="module")
def dataset(shop: tuple[Path, InventedLog]) -> Dataset:
    base, _ = shop
    config = IngestConfig(item_features=base / "items.csv")
    with Progress("ingest") as progress:
        return ingest([base / "logs"], config, base / "dataset", progress).dataset


def test_the_bad_lines_and_only_these_are_set_aside(dataset: Dataset) -> None:
    bad = pl.read_parquet(dataset.folder / "bad_lines.parquet")
    assert len(bad) == len(BAD_LINES)
    assert bad["reason"].n_unique() == len(BAD_LINES)


def test_the_log_has_about_the_size_that_was_asked_for(dataset: Dataset) -> None:
    total = sum(part.nnz for part in dataset.parts)
    assert total == pytest.approx(SIZES["interactions"], rel=0.2)
    assert dataset.num_users == SIZES["users"]
    assert 0.9 * SIZES["items"] <= dataset.num_items <= SIZES["items"]
    assert dataset.has_times


def test_a_few_books_are_popular_and_most_are_rare(dataset: Dataset) -> None:
    popularity = dataset.facts["summary"]["popularity"]
    assert 0.2 < popularity["top_shares"]["0.1"] < 0.6
    assert 0.3 < popularity["gini"] < 0.8


def test_every_book_has_a_title_of_its_own_and_a_subject(dataset: Dataset) -> None:
    assert dataset.items["title"].n_unique() == dataset.num_items
    assert set(dataset.items["category"]) <= set(SUBJECTS)
    for title, subject in dataset.items.select("title", "category").iter_rows():
        assert any(thing in title for thing in SUBJECTS[subject])


def test_readers_stay_with_few_subjects(dataset: Dataset) -> None:
    """Of two books of one reader more are of one subject than chance would give."""
    subjects = dataset.items["category"].cast(pl.Categorical).to_physical().to_numpy()
    matrix = dataset.train
    pairs, random = [], np.random.default_rng(0)
    for user in range(matrix.shape[0]):
        own = subjects[matrix.indices[matrix.indptr[user] : matrix.indptr[user + 1]]]
        if len(own) > 1:
            pairs.append(random.choice(own, 2, replace=False))
    same = np.mean([first == second for first, second in pairs])
    shares = np.bincount(subjects[matrix.indices]) / matrix.nnz
    assert same > 2 * (shares**2).sum()


def test_ratings_are_one_to_five_and_times_lie_in_two_years(
    shop: tuple[Path, InventedLog],
) -> None:
    rows = []
    for name in FILES:
        text = gzip.decompress((shop[0] / "logs" / name).read_bytes()).decode()
        rows += [row for row in csv.DictReader(text.splitlines()) if None not in row.values()]
    good = [row for row in rows if re.fullmatch(r"\d{10}", row["timestamp"])]
    ratings = [row["rating"] for row in good if row["rating"].isdigit()]
    assert set(ratings) == set("12345")
    times = [int(row["timestamp"]) for row in good]
    assert 1_640_995_200 <= min(times) <= max(times) < 1_704_067_200


def test_what_it_names_stands_in_the_log(shop: tuple[Path, InventedLog], dataset: Dataset) -> None:
    known = shop[1]
    user = int(dataset.find_users([known.user])[0])
    item = int(dataset.find_items([known.item])[0])
    assert dataset.train[[user]].nnz > np.median(np.diff(dataset.train.indptr))
    assert (dataset.train.indices == item).sum() > dataset.train.nnz / SIZES["items"]


def test_equal_seeds_give_equal_bytes_and_others_do_not(tmp_path: Path) -> None:
    contents = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        folder = tmp_path / name
        write_log(folder, folder / "items.csv", users=20, items=30, interactions=150, seed=seed)
        contents.append([(folder / file).read_bytes() for file in (*FILES, "items.csv")])
    assert contents[0] == contents[1]
    assert all(one != other for one, other in zip(contents[0], contents[2], strict=True))


def test_refuses_a_folder_that_no_demo_made(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="holds other files; choose another folder"):
        run_demo(tmp_path, run_command=lambda words: None)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_second_demo_replaces_the_first(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    for _ in range(2):
        commands: list[list[str]] = []
        run_demo(out, run_command=commands.append, users=20, items=30, interactions=150)
        (out / "run").mkdir()
    assert [words[0] for words in commands] == [
        *("ingest", "train", "evaluate", "export", "recommend", "similar", "report"),
    ]


@pytest.mark.slow
def test_the_whole_line_runs_and_ends_with_a_report(tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "demo", ignore_errors=True)

    def run_command(words: list[str]) -> None:
        typer.main.get_command(app).main(words, "recssl", standalone_mode=False)

    report = run_demo(
        tmp_path / "demo",
        run_command=run_command,
        **SIZES,
        train_options=("--epochs", "1", "--batch-size", "1024", "--set", "encoder.dim=8"),
        evaluate_options=(
            *("--set", "baselines.names=[popularity]", "--set", "resamples=20"),
            *("--set", "baselines.tune=false"),
        ),
    )
    assert report == (tmp_path / "demo" / "run" / "report.html").resolve()
    text = report.read_text("utf-8")
    assert "note missing" not in text
    assert "Most popular" in text
    assert "colours are the category" in text
