import base64
import io
import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from torch import nn

from medssl.config import ReportConfig
from medssl.errors import DataError, Reason
from medssl.report import words
from medssl.report.build import write_report
from medssl.report.curves import calibration_bins, mean_roc
from medssl.report.figures import few_label_curves
from medssl.report.inputs import read_inputs
from medssl.report.results import read_results
from medssl.report.run_sections import training_section
from medssl.report.sheets import fitted, to_bytes
from medssl.report.view_section import view_section
from sslcore.errors import OutputError
from sslcore.plots import save_png, to_svg
from sslcore.report.parts import Note, Sheet
from sslcore.training.checkpoint import save_encoder
from tests.medssl.report_folders import (
    manifest_rows,
    write_embeddings,
    write_finetune,
    write_images,
    write_run,
)
from tests.page_reader import Reader

NOW = datetime(2024, 3, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> tuple[pl.DataFrame, Path]:
    root = tmp_path_factory.mktemp("hospital") / "secret-folder"
    paths = write_images(root, 40)
    labels = ["fine" if number % 2 else "coarse" for number in range(40)]
    patients = [f"{number // 4:08x}"[::-1] + "f00dfeed" for number in range(40)]
    return manifest_rows(paths, root, labels, patients), root


@pytest.fixture(scope="module")
def results(rows: tuple[pl.DataFrame, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("results")
    run = write_run(base / "run", *rows)
    folder = write_finetune(base / "finetune", rows[0], run)
    write_embeddings(folder, rows[0])
    return folder


@pytest.fixture(scope="module")
def page(results: Path) -> str:
    return write_report(results, ReportConfig(), now=NOW).read_text("utf-8")


@pytest.fixture
def bare(rows: tuple[pl.DataFrame, Path], tmp_path: Path) -> Path:
    """A fine-tuned result whose run is gone."""
    return write_finetune(tmp_path / "finetune", rows[0], tmp_path / "gone", models=("knn",))


def test_the_page_shows_every_chapter(page: str) -> None:
    assert Reader(page).headings == [
        "Few labels",
        "All numbers",
        "ROC and calibration",
        "Confusion matrix",
        "Leakage",
        "The images",
        "Augmented views",
        "Pretraining",
        "Map of the images",
        "Nearest neighbours",
        "How to read this",
        "Configuration and versions",
    ]


def test_nothing_is_missing_from_complete_results(page: str) -> None:
    assert "note missing" not in page


def test_the_page_needs_nothing_outside_itself(page: str) -> None:
    reader = Reader(page)
    assert all(address.startswith(("data:image/", "#")) for address in reader.addresses)
    assert "script" not in reader.tags
    assert not re.search(r"url\((?!#)|@import", page)
    assert "default-src 'none'" in page


def test_ids_are_unique_and_anchors_exist(page: str) -> None:
    reader = Reader(page)
    assert len(reader.ids) == len(set(reader.ids))
    anchors = {address[1:] for address in reader.addresses if address.startswith("#")}
    assert anchors <= set(reader.ids)
    assert set(re.findall(r"url\(#([^)]*)\)", page)) <= set(reader.ids)


def test_every_image_has_a_text_for_those_who_cannot_see_it(page: str) -> None:
    images = Reader(page).images
    assert len(images) > 80
    assert all(image.get("alt") or image.get("aria-label") for image in images)


def test_no_path_stands_in_the_page(page: str, results: Path) -> None:
    assert "secret" not in page
    assert str(results.parent) not in page


def test_no_full_key_stands_in_the_page(page: str, rows: tuple[pl.DataFrame, Path]) -> None:
    for column in ("sample", "patient", "content"):
        assert not any(key in page for key in rows[0][column])
    assert "f00dfeed" not in page


def test_figures_take_their_colours_from_the_page(page: str) -> None:
    drawings = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(drawings) > 15
    for drawing in drawings:
        assert not re.search(r"(fill|stroke): #", re.sub(r"data:image/[^\"]*", "", drawing))


def test_the_headline_compares_with_from_scratch_at_ten_per_cent(page: str, results: Path) -> None:
    found = read_results(results / "metrics.json")
    ours = found.measure("10%", "linear_probe", "auroc")
    theirs = found.measure("10%", "scratch", "auroc")
    assert ours is not None
    assert theirs is not None
    title = re.search(r"<h1>(.*?)</h1>", page)
    assert title is not None
    assert f"{ours.value:.3f}" in title[1]
    assert f"{theirs.value:.3f}" in title[1]


def test_equal_inputs_give_an_equal_page(page: str, results: Path, tmp_path: Path) -> None:
    again = write_report(results, ReportConfig(), tmp_path / "sub" / "again.html", now=NOW)
    assert again.read_text("utf-8") == page


def test_a_run_is_reported_without_label_results(results: Path) -> None:
    run = results.parent / "run"
    path = write_report(run, ReportConfig(), now=NOW)
    assert path == run / "report.html"
    reader = Reader(path.read_text("utf-8"))
    assert reader.headings[:3] == ["The images", "Augmented views", "Pretraining"]
    assert "Few labels" not in reader.headings


def test_the_sources_of_views_are_shown_as_they_are(results: Path) -> None:
    inputs = read_inputs(results)
    (sheet,) = view_section(inputs, ReportConfig(sources=3)).parts
    assert isinstance(sheet, Sheet)
    for strip in sheet.strips:
        code = strip.lead.uri.removeprefix("data:image/jpeg;base64,")
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(code))))
        assert 90 < shown[shown > 20].mean() < 166  # noise of 40 to 216, on a black square
        assert shown.std() > 10


def test_missing_parts_become_sentences(bare: Path) -> None:
    (bare / "predictions.parquet").write_bytes(b"no parquet")
    (bare / "config.yaml").unlink()
    text = write_report(bare, ReportConfig(), now=NOW).read_text("utf-8")
    assert text.count('class="note missing"') >= 7
    assert "no model that was trained from scratch" in text
    assert "predictions.parquet" in text


def test_images_that_moved_become_sentences(
    rows: tuple[pl.DataFrame, Path], tmp_path: Path
) -> None:
    run = write_run(tmp_path / "run", rows[0], tmp_path / "moved-away")
    write_embeddings(run, rows[0])
    text = write_report(run, ReportConfig(), now=NOW).read_text("utf-8")
    assert "no longer where the manifest says" in text
    assert "40 images of 10 patients" in text
    assert "<img" not in text


def test_an_image_that_became_unreadable_is_left_out(
    rows: tuple[pl.DataFrame, Path], tmp_path: Path
) -> None:
    root = tmp_path / "images"
    paths = write_images(root, 40)
    table = manifest_rows(paths, root, rows[0]["label"].to_list(), rows[0]["patient"].to_list())
    for path in paths[:30]:
        path.write_bytes(b"broken")
    run = write_run(tmp_path / "run", table, root)
    write_embeddings(run, table)
    assert "<img" in write_report(run, ReportConfig(), now=NOW).read_text("utf-8")


def test_many_classes_and_label_counts_are_drawn(
    rows: tuple[pl.DataFrame, Path], tmp_path: Path
) -> None:
    labels = ["<b>a</b>", "_hidden", r"$\frac$ and a name too long for any legend", "肺炎", "e"]
    names = pl.Series("label", [labels[number % 5] for number in range(40)])
    table = rows[0].with_columns(names)
    amounts = [(f"{count} per class", count / 40) for count in (1, 2, 5, 10, 20)]
    run = write_run(tmp_path / "run", table, rows[1], steps=3)
    folder = write_finetune(tmp_path / "results", table, run, amounts=amounts, draws=1)
    write_embeddings(folder, table)
    text = write_report(folder, ReportConfig(), now=NOW).read_text("utf-8")
    Reader(text)
    assert "<b>a</b>" not in text
    assert text.count('<p class="value">') == 3
    assert "1 label per class" in text
    assert "1 labels" not in text
    assert text.count(">\u200b_hidden<") == 2
    assert text.count("肺炎</text>") == 2
    assert "each class against all others" in text


@pytest.mark.parametrize("content", [None, "{", '{"run": "x"}', "[]", "\xff"])
def test_a_foreign_folder_is_an_error_with_a_way_out(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "metrics.json").write_text(content, "latin-1")
    with pytest.raises(DataError, match="medssl pretrain"):
        write_report(tmp_path, ReportConfig())
    assert not (tmp_path / "report.html").exists()


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        write_report(tmp_path / "none", ReportConfig())


def test_a_run_that_moved_with_its_results_is_found(results: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    for name in ("run", "finetune"):
        (moved / name).mkdir(parents=True)
        for file in (results.parent / name).iterdir():
            (moved / name / file.name).write_bytes(file.read_bytes())
    metrics = moved / "finetune" / "metrics.json"
    metrics.write_text(metrics.read_text().replace(str(results.parent), "/was/there"))
    assert read_inputs(moved / "finetune").run == moved / "run"


@pytest.mark.parametrize(
    ("manifest", "beside"),
    [
        ("manifest.parquet", "rejected.parquet"),
        ("chest.parquet", "chest.rejected.parquet"),
    ],
)
def test_rejected_files_are_found_beside_the_manifest(
    results: Path, tmp_path: Path, manifest: str, beside: str
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    config = (results.parent / "run" / "config.yaml").read_text()
    lines = re.sub(r"path: .*", f"path: {tmp_path}/{manifest}", config, count=1)
    (run / "config.yaml").write_text(lines)
    (run / "log.jsonl").write_text("")
    source = results.parent / "run" / "rejected.parquet"
    (tmp_path / beside).write_bytes(source.read_bytes())
    rejected = read_inputs(run).rejected
    assert rejected is not None
    assert len(rejected) == 3


def test_roc_of_perfect_and_inverted_scores() -> None:
    table = pl.DataFrame(
        {
            "draw": [0, 0, 0, 0, 1, 1, 1, 1],
            "label": ["no", "no", "yes", "yes"] * 2,
            "probabilities": [[1 - p, p] for p in (0.1, 0.2, 0.7, 0.9, 0.9, 0.8, 0.3, 0.1)],
        }
    )
    curve = mean_roc(table, ["no", "yes"])
    assert curve is not None
    across, up = curve
    assert np.trapezoid(up[0], across) == pytest.approx(1, abs=0.01)
    assert np.trapezoid(up[1], across) == pytest.approx(0, abs=0.01)
    one_class = table.filter(pl.col("label") == "yes")
    assert mean_roc(one_class, ["no", "yes"]) is None


def test_calibration_bins_hold_means_and_shares() -> None:
    table = pl.DataFrame(
        {
            "label": ["no", "yes", "yes", "yes"],
            "probabilities": [[0.79, 0.21], [0.71, 0.29], [0.0, 1.0], [0.05, 0.95]],
        }
    )
    claimed, observed, share = calibration_bins(table, ["no", "yes"])
    np.testing.assert_allclose(claimed, [0.25, 0.975])
    np.testing.assert_allclose(observed, [0.5, 1])
    np.testing.assert_allclose(share, [0.5, 0.5])


def test_thumbnails_keep_the_aspect() -> None:
    pixels = to_bytes(np.ones((3, 20, 10), np.float32))
    assert pixels.shape == (20, 10, 3)
    square = fitted(pixels, 8)
    assert square.shape == (8, 8, 3)
    assert square[:, 2:6].min() == 255
    assert square[:, :2].max() == 0


def test_a_figure_becomes_png_and_svg(results: Path, tmp_path: Path) -> None:
    figure = few_label_curves(read_results(results / "metrics.json"), "auroc")
    save_png(figure, tmp_path / "figure.png", scale=2)
    header = (tmp_path / "figure.png").read_bytes()[:24]
    assert header[1:4] == b"PNG"
    assert int.from_bytes(header[16:20], "big") == 760
    svg = to_svg(figure, name="one", alt='more than "100 <%>"')
    assert svg.startswith("<svg")
    assert "var(--series-1)" in svg
    assert "&quot;100 &lt;%&gt;&quot;" in svg
    assert all(name.startswith("one-") for name in re.findall(r'\bid="([^"]*)"', svg))


def test_every_reason_has_its_words() -> None:
    assert set(words.REASONS) == set(Reason)


def test_a_report_replaces_a_report_and_nothing_else(results: Path, tmp_path: Path) -> None:
    other = tmp_path / "numbers.csv"
    other.write_text("path,label\n")
    with pytest.raises(OutputError, match=r"numbers\.csv exists and is no report"):
        write_report(results, ReportConfig(), other, now=NOW)
    assert other.read_text() == "path,label\n"
    page = write_report(results, ReportConfig(), tmp_path / "report.html", now=NOW)
    assert write_report(results, ReportConfig(), page, now=NOW) == page


def test_a_run_that_is_not_finished_is_said_to_stand_where_it_does(
    rows: tuple[pl.DataFrame, Path], tmp_path: Path
) -> None:
    run = write_run(tmp_path / "run", *rows)
    save_encoder(run / "encoder.safetensors", nn.Linear(2, 2), {"step": 60, "steps": 90})
    section = training_section(read_inputs(run))
    assert [part.text for part in section.parts if isinstance(part, Note)] == [
        "The run stands at step 60 of 90: what follows is of the encoder of this step."
    ]
