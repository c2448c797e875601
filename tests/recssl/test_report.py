import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from recssl.dataset import open_dataset
from recssl.errors import DatasetError
from recssl.report.build import write_report
from recssl.settings.report import ReportConfig
from sslcore.console import Progress
from sslcore.errors import CheckpointError, OutputError
from tests.page_reader import Reader
from tests.recssl.report_runs import measure, write_data, write_embeddings, write_run

NOW = datetime(2024, 3, 1, tzinfo=UTC)
SMALL = ReportConfig(map_items=40, queries=2, users=3, top=4)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("rec")
    folder = write_run(base / "run", write_data(base / "data"))
    measure(folder)
    return folder


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return write_report(run, SMALL, now=NOW).read_text("utf-8")


def text_of(run: Path, out: Path, config: ReportConfig = SMALL) -> str:
    return write_report(run, config, out / "page.html", now=NOW).read_text("utf-8")


def test_the_page_shows_every_chapter(page: str) -> None:
    assert Reader(page).headings == [
        "Against baselines",
        "All numbers",
        "Variety of the lists",
        "Rare and popular items",
        "Short and long histories",
        "The log",
        "Training",
        "Map of the items",
        "Similar items",
        "Example users",
        "How to read this",
        "Configuration and versions",
    ]


def test_nothing_is_missing_from_a_complete_run(page: str) -> None:
    assert "note missing" not in page


def test_the_page_needs_nothing_outside_itself(page: str) -> None:
    reader = Reader(page)
    assert all(address.startswith("#") for address in reader.addresses)
    assert "script" not in reader.tags
    assert not re.search(r"url\((?!#)|@import", page)


def test_ids_are_unique_and_anchors_exist(page: str) -> None:
    reader = Reader(page)
    assert len(reader.ids) == len(set(reader.ids))
    assert {address[1:] for address in reader.addresses} <= set(reader.ids)
    assert all(image.get("aria-label") for image in reader.images)


def test_the_headline_compares_with_the_best_baseline(page: str, run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    ours, *others = [model["metrics"]["recall@20"]["value"] for model in metrics["models"]]
    title = re.search(r"<h1>(.*?)</h1>", page)
    assert title is not None
    assert f"{ours:.3f}" in title[1]
    assert f"{max(others):.3f}" in title[1]
    assert page.count('<p class="value">') == 4


def test_every_metric_of_every_method_stands_in_the_page(page: str, run: Path) -> None:
    for model in json.loads((run / "metrics.json").read_text())["models"]:
        for name, measure_of in model["metrics"].items():
            assert f"{measure_of['value']:.3f}" in page, name


def test_items_have_their_titles_and_are_escaped(page: str) -> None:
    assert "<b>Tale" not in page
    assert "&lt;b&gt;Tale" in page
    assert "colours are the genre" in page
    assert "reader-" in page


def test_recommendations_leave_out_what_was_seen_and_mark_what_was_taken(
    page: str, run: Path
) -> None:
    dataset = open_dataset(run.parent / "data")
    tables = re.findall(r"User (reader-\d+): .*?</table>", page, flags=re.DOTALL)
    assert len(tables) == 3
    for table in re.finditer(r"User (reader-\d+): (.*?)</table>", page, flags=re.DOTALL):
        user = int(dataset.find_users([table[1]])[0])
        past = {f"item-{item}" for item in dataset.train[[user]].indices}
        past |= {f"item-{item}" for item in dataset.valid[[user]].indices}
        advised = re.findall(r"<td[^>]*>.*?id (item-\d+)", table[2])
        assert len(advised) == 4
        assert not past & set(advised)
        hits = {f"item-{item}" for item in dataset.test[[user]].indices} & set(advised)
        assert table[2].count("taken in test") == len(hits)


def test_no_path_stands_in_the_page(page: str, run: Path) -> None:
    assert str(run.parent) not in page
    assert "secret" not in page


def test_users_are_left_out_on_request(run: Path, tmp_path: Path) -> None:
    text = text_of(run, tmp_path, SMALL.model_copy(update={"users": 0}))
    assert "reader-" not in text
    assert "personal data" not in text


def test_a_run_that_was_not_measured_says_so(run: Path, tmp_path: Path) -> None:
    bare = write_run(tmp_path / "run", open_dataset(run.parent / "data"))
    text = text_of(bare, tmp_path)
    assert "has not been measured yet: recssl evaluate" in text
    assert "Matrix factorisation with sampled softmax" in text
    assert '<p class="value">' not in text


@pytest.mark.parametrize("content", ["{", '{"models": []}', "[]"])
def test_damaged_metrics_become_a_sentence(run: Path, tmp_path: Path, content: str) -> None:
    bare = write_run(tmp_path / "run", open_dataset(run.parent / "data"))
    (bare / "metrics.json").write_text(content)
    text = text_of(bare, tmp_path)
    assert "run recssl evaluate again" in text
    assert str(tmp_path) not in text


def test_metrics_of_an_earlier_step_are_not_shown(run: Path, tmp_path: Path) -> None:
    dataset = open_dataset(run.parent / "data")
    older = write_run(tmp_path / "run", dataset)
    measure(older)
    write_embeddings(older, dataset, step=99)
    text = text_of(older, tmp_path)
    assert (
        "measured are the embeddings of step 30; the run went on, and has those of step 99" in text
    )
    assert "confidence" not in text
    assert "Recall@20 is" not in text


def test_a_data_set_that_moved_becomes_a_sentence_or_is_named(tmp_path: Path) -> None:
    dataset = write_data(tmp_path / "data")
    run = write_run(tmp_path / "run", dataset)
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    assert "name its place with --set data=DIR" in text_of(run, tmp_path)
    named = SMALL.model_copy(update={"data": tmp_path / "elsewhere"})
    assert "no longer where it was" not in text_of(run, tmp_path, named)


def test_another_data_set_is_refused(run: Path, tmp_path: Path) -> None:
    write_data(tmp_path / "other", times=False)
    config = SMALL.model_copy(update={"data": tmp_path / "other"})
    with pytest.raises(DatasetError, match="give its own data set with --set data=DIR"):
        text_of(run, tmp_path, config)


def test_a_log_without_times_and_features_is_described(tmp_path: Path) -> None:
    dataset = write_data(tmp_path / "data", features=False, times=False, bad=False)
    text = text_of(write_run(tmp_path / "run", dataset), tmp_path)
    assert "in no order: the log has no times" in text
    assert "Every line of the log could be read" in text
    assert "Interactions over time" not in text
    assert "item-" in text


def test_a_run_without_logs_and_embeddings_still_has_a_page(run: Path, tmp_path: Path) -> None:
    bare = write_run(tmp_path / "run", open_dataset(run.parent / "data"))
    for name in ("log.jsonl", "health.jsonl", "embeddings.safetensors"):
        (bare / name).unlink()
    text = text_of(bare, tmp_path)
    assert "log.jsonl of the run is missing" in text
    assert "no health checks" in text
    assert "embeddings of the run are missing" in text
    assert "60 users with 40 items" in text


@pytest.mark.parametrize("exists", [True, False])
def test_a_foreign_folder_is_an_error_with_a_way_out(tmp_path: Path, *, exists: bool) -> None:
    folder = tmp_path / "run"
    if exists:
        folder.mkdir()
    with pytest.raises(CheckpointError, match="that recssl train made"):
        write_report(folder, SMALL)


def test_two_reports_of_one_run_are_equal_and_progress_is_told(
    run: Path, page: str, tmp_path: Path
) -> None:
    with Progress("report") as progress:
        path = write_report(run, SMALL, tmp_path / "again.html", now=NOW, progress=progress)
    assert path.read_text("utf-8") == page


def test_a_report_replaces_a_report_and_nothing_else(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "items.csv"
    other.write_text("item,title\n")
    with pytest.raises(OutputError, match=r"items\.csv exists and is no report"):
        write_report(run, SMALL, other, now=NOW)
    assert other.read_text() == "item,title\n"
    assert text_of(run, tmp_path) == text_of(run, tmp_path)


def test_a_data_set_is_no_run(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data").folder
    before = sorted(data.iterdir())
    with pytest.raises(CheckpointError, match=r"is a data set, not a run; give .* train made"):
        write_report(data, SMALL, now=NOW)
    assert sorted(data.iterdir()) == before
