from pathlib import Path

import polars as pl

from medssl.report.headline import summary
from medssl.report.inputs import read_inputs
from tests.medssl.report_folders import manifest_rows, write_images, write_run


def test_the_summary_counts_the_images_that_the_encoder_saw(tmp_path: Path) -> None:
    root = tmp_path / "images"
    people = [f"p{number // 2}" for number in range(8)]
    rows = manifest_rows(write_images(root, 8), root, ["a"] * 8, people)
    parts = pl.Series("split", ["train"] * 3 + ["test"] * 5, dtype=rows.schema["split"])
    run = write_run(tmp_path / "run", rows.with_columns(parts), root)
    assert "on 3 images of 2 patients, without labels" in summary(read_inputs(run))
