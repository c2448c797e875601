import json
from pathlib import Path

import polars as pl

from medssl.report.headline import summary, tiles
from medssl.report.inputs import Inputs, read_inputs
from tests.medssl.report_folders import manifest_rows, write_finetune, write_images, write_run


def test_the_summary_counts_the_images_that_the_encoder_saw(tmp_path: Path) -> None:
    root = tmp_path / "images"
    people = [f"p{number // 2}" for number in range(8)]
    rows = manifest_rows(write_images(root, 8), root, ["a"] * 8, people)
    parts = pl.Series("split", ["train"] * 3 + ["test"] * 5, dtype=rows.schema["split"])
    run = write_run(tmp_path / "run", rows.with_columns(parts), root)
    assert "on 3 images of 2 patients, without labels" in summary(read_inputs(run))


def results_of(tmp_path: Path, **changes: object) -> Inputs:
    root = tmp_path / "images"
    labels = ["ill", "well"] * 12
    people = [f"p{number // 2}" for number in range(24)]
    rows = manifest_rows(write_images(root, 24), root, labels, people)
    run = write_run(tmp_path / "run", rows, root)
    folder = write_finetune(tmp_path / "results", rows, run, draws=1, bootstrap=4)
    metrics = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps(metrics | changes))
    return read_inputs(folder)


def test_patients_are_other_ones_only_if_the_encoder_did_not_see_them(tmp_path: Path) -> None:
    text = summary(results_of(tmp_path / "unseen"))
    assert text.endswith("tested on 12 images of 6 other patients.")
    text = summary(results_of(tmp_path / "seen", leakage={"test_seen_in_pretraining": 12}))
    assert text.endswith("12 images of 6 patients, which the encoder had seen without labels.")


def test_the_numbers_of_a_student_are_not_said_to_be_those_of_the_pretrained_network(
    tmp_path: Path,
) -> None:
    text = summary(results_of(tmp_path, mode="distilled"))
    assert "taught a small student on unlabelled images; the student's numbers, tested on" in text
    assert "was then used" not in text


def test_a_tile_counts_the_labels_that_settings_were_chosen_by(tmp_path: Path) -> None:
    found = results_of(tmp_path).results
    assert found is not None
    plain = tiles(found)[0].title
    with_val = tuple(item.model_copy(update={"num_val_labels": 4}) for item in found.results)
    assert tiles(found.model_copy(update={"results": list(with_val)}))[0].title == (
        f"{plain[:-1]} + 4 to choose by)"
    )
