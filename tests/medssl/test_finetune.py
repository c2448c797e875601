"""The whole of `medssl finetune` on a tiny run: what it writes, repeats and refuses."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from medssl.config import FinetuneConfig, ReportConfig
from medssl.errors import DataError
from medssl.fewlabels.cohort import gather_cohort, sorted_classes
from medssl.fewlabels.evaluation import MODELS, PREDICTIONS_SCHEMA
from medssl.fewlabels.finetune import FinetuneResult, finetune
from medssl.fewlabels.label_budget import list_budgets
from medssl.fewlabels.metrics import METRICS
from medssl.manifest import read_manifest
from medssl.pretrain import pretrain
from medssl.report.build import write_report
from medssl.run_folder import RunFolder
from sslcore.config import resolve_config
from sslcore.console import Progress
from sslcore.errors import CheckpointError, OutputError
from tests.medssl.tiny_run import tiny_config, tiny_images, write_tiny_data

COUNT = 48


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Leave a finished run; tests must not change it."""
    folder = tmp_path_factory.mktemp("run")
    data = write_tiny_data(folder, count=COUNT)
    pretrain(tiny_config(data, "run.steps=2"), folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def full(run: Path, tmp_path_factory: pytest.TempPathFactory) -> FinetuneResult:
    """Leave the results of one complete call; tests must not change them."""
    out = tmp_path_factory.mktemp("full") / "results"
    return call(run, out, shots=(4,), fractions=(1.0,), repeats=2, mode="full")


@pytest.fixture(autouse=True)
def own_site_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the tests away from the user's key."""
    monkeypatch.setenv("MEDSSL_KEY_FILE", str(tmp_path / "key" / "site.key"))


def call(run: Path, out: Path, *, data: Path | None = None, **changes: Any) -> FinetuneResult:
    small = {"shots": (4,), "repeats": 1, "steps": 2, "bootstrap": 20, "device": "cpu"}
    config = FinetuneConfig.model_validate(small | changes)
    with Progress("finetune") as progress:
        return finetune(run, config, out, data=data, progress=progress)


def gather(run: Path, data: Path | None = None, **changes: Any) -> Any:
    with Progress("finetune") as progress:
        return gather_cohort(RunFolder(run), FinetuneConfig(**changes), data, progress)


def other_data(folder: Path, **columns: Sequence[object]) -> Path:
    return write_tiny_data(folder, count=COUNT, **columns)


def test_it_leaves_its_files_and_nothing_else(full: FinetuneResult) -> None:
    assert sorted(path.name for path in full.out.parent.iterdir()) == ["results"]
    assert sorted(path.name for path in full.out.iterdir()) == [
        "classifier.json",
        "classifier.safetensors",
        "config.yaml",
        "embeddings.parquet",
        "learnt.parquet",
        "manifest.parquet",
        "metrics.json",
        "predictions.parquet",
    ]
    assert json.loads((full.out / "metrics.json").read_text()) == full.metrics


def test_every_model_has_a_result_for_every_number_of_labels(full: FinetuneResult) -> None:
    found = {(one["labels"], one["model"]) for one in full.metrics["results"]}
    assert found == {(labels, model) for labels in ("100%", "4 per class") for model in MODELS}
    for one in full.metrics["results"]:
        assert set(one["metrics"]) == set(METRICS)
        assert one["draws"] == (1 if one["labels"] == "100%" else 2)
    assert {one["model"] for one in full.metrics["comparisons"]} == set(MODELS) - {"scratch"}


def test_the_split_is_by_patient_and_described(full: FinetuneResult) -> None:
    metrics = full.metrics
    assert metrics["split"] == "patient"
    assert metrics["classes"] == ["plain", "striped"]
    assert sum(part["images"] for part in metrics["data"].values()) == COUNT
    assert sum(part["patients"] for part in metrics["data"].values()) == COUNT / 3
    assert metrics["leakage"]["patients_across_splits"] == 0
    assert metrics["interval"]["unit"] == "patient"


def test_predictions_are_listed_for_every_test_image(full: FinetuneResult) -> None:
    table = pl.read_parquet(full.out / "predictions.parquet")
    assert table.schema == PREDICTIONS_SCHEMA
    tested = full.metrics["data"]["test"]["images"]
    assert len(table) == tested * len(MODELS) * (1 + 2)
    used = read_manifest(full.out / "manifest.parquet").rows.filter(pl.col("split") == "test")
    assert set(table["sample"]) == set(used["sample"])


def test_predictions_reproduce_the_metrics(full: FinetuneResult) -> None:
    table = pl.read_parquet(full.out / "predictions.parquet")
    for one in full.metrics["results"]:
        rows = table.filter(labels=one["labels"], model=one["model"])
        by_draw = rows.group_by("draw").agg((pl.col("label") == pl.col("predicted")).mean())
        assert one["metrics"]["accuracy"]["value"] == pytest.approx(by_draw["label"].mean())


def test_embeddings_are_listed_with_the_part_they_were_in(full: FinetuneResult) -> None:
    table = pl.read_parquet(full.out / "embeddings.parquet")
    assert table.columns == ["sample", "patient", "label", "split", "embedding"]
    assert len(table) == COUNT
    counts = dict(table["split"].value_counts().iter_rows())
    assert counts == {part: about["images"] for part, about in full.metrics["data"].items()}


def test_folds_test_every_patient_and_say_so(run: Path, tmp_path: Path) -> None:
    result = call(run, tmp_path / "out", folds=3, repeats=2)
    metrics = result.metrics
    assert metrics["data"]["test"]["images"] == COUNT
    assert metrics["interval"]["note"].startswith("16 test patients")
    assert {one["draws"] for one in metrics["results"]} == {2 * 3}
    assert "2 x 3 folds by patient" in result.table()
    table = pl.read_parquet(result.out / "predictions.parquet").filter(model="linear_probe")
    assert table["sample"].value_counts()["count"].to_list() == [2] * COUNT
    used = read_manifest(result.out / "manifest.parquet").rows
    assert used["split"].to_list() == ["test"] * COUNT


def test_the_stored_configuration_can_be_read_back(full: FinetuneResult) -> None:
    stored = resolve_config(FinetuneConfig, file=full.out / "config.yaml")
    assert (stored.mode, stored.shots, stored.fractions) == ("full", (4,), (1.0,))


def test_only_the_manifest_names_files_of_the_data(full: FinetuneResult) -> None:
    names = read_manifest(full.out / "manifest.parquet").rows["path"].unique().to_list()
    for path in full.out.iterdir():
        if path.name != "manifest.parquet":
            content = path.read_bytes()
            assert not [name for name in names if name.encode() in content], path.name


def test_the_table_names_every_model_and_the_notes(full: FinetuneResult) -> None:
    text = full.table()
    assert all(model in text for model in MODELS)
    assert full.metrics["leakage"]["note"] in text


def test_equal_seeds_give_equal_results(run: Path, tmp_path: Path) -> None:
    first, second = (call(run, tmp_path / name).metrics for name in ("a", "b"))
    assert first == second
    models = {one["model"] for one in first["results"]}
    assert models == set(MODELS) - {"finetuned"}  # linear mode trains nothing but from scratch


def test_an_existing_result_is_left_alone(run: Path, tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("mine")
    with pytest.raises(OutputError, match="already exists; give another name with --out"):
        call(run, tmp_path)
    assert (tmp_path / "metrics.json").read_text() == "mine"


def test_an_error_leaves_no_folder(run: Path, tmp_path: Path) -> None:
    data = other_data(tmp_path / "data", label=[None] * COUNT)
    with pytest.raises(DataError, match=r"none of the 48 images has a label.*--class-folders"):
        call(run, tmp_path / "out", data=data)
    assert not (tmp_path / "out").exists()


def test_a_folder_without_an_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no encoder"):
        call(tmp_path, tmp_path / "out")


def test_labels_come_from_a_table(run: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    names = [f"sample{row:04d},{'new' if row % 2 else 'old'}" for row in range(40)]
    table.write_text("\n".join(["sample,label", *names]))
    cohort = gather(run, labels=table)
    assert cohort.classes == ("new", "old")
    assert "8 of 48 images have no label" in cohort.notes[0]


def test_labels_come_from_class_folders(run: Path, tmp_path: Path) -> None:
    folders = [f"{'cat' if row % 4 < 2 else 'dog'}/{row}.png" for row in range(COUNT)]
    cohort = gather(run, other_data(tmp_path, path=folders), class_folders=True)
    assert cohort.classes == ("cat", "dog")


def test_a_folder_or_archive_is_scanned(run: Path, tmp_path: Path) -> None:
    archive = tmp_path / "cells.npz"
    labels = np.arange(COUNT)[:, None] % 2
    np.savez(archive, train_images=tiny_images(COUNT), train_labels=labels)
    cohort = gather(run, archive, split="image")
    assert len(cohort.manifest) == COUNT
    assert cohort.classes == ("0", "1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells.npz", "key"]


def test_data_that_is_not_there_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist; expected a folder, manifest"):
        gather(run, tmp_path / "nowhere")


def test_modalities_that_were_not_pretrained_on_are_left_out(run: Path, tmp_path: Path) -> None:
    modalities = ["SEG", "SEG", "SEG", *["CT"] * (COUNT - 3)]
    assert len(gather(run, other_data(tmp_path, modality=modalities)).manifest) == COUNT - 3


def test_images_without_patients_are_refused_until_asked_for(run: Path, tmp_path: Path) -> None:
    data = other_data(tmp_path, patient=[None] * COUNT)
    with pytest.raises(DataError, match=r"48 of 48 .*--split image"):
        gather(run, data)
    assert gather(run, data, split="image").split.how == "image"


def test_copies_of_test_images_leave_the_training_part(run: Path, tmp_path: Path) -> None:
    parts = ["train"] * 24 + ["val"] * 12 + ["test"] * 12
    contents = [f"c{row}" for row in range(COUNT)]
    contents[0] = contents[47]
    data = other_data(tmp_path, split=parts, content=contents)
    cohort = gather(run, data)
    assert 0 not in cohort.split.train
    assert cohort.leakage.duplicates_across_splits == 1
    assert cohort.with_parts().rows["split"].to_list() == [None, *parts[1:]]


def test_test_images_seen_in_pretraining_are_counted(tmp_path: Path) -> None:
    contents = [f"c{row}" for row in range(COUNT)]
    data = other_data(tmp_path, content=contents)
    pretrain(tiny_config(data, "run.steps=1"), tmp_path / "run")
    cohort = gather(tmp_path / "run")
    assert cohort.leakage.test_seen_in_pretraining == len(cohort.split.test)


def test_unreadable_images_are_left_out_and_named(run: Path) -> None:
    cohort = gather(run)
    fewer = cohort.readable_only(np.arange(2, COUNT))
    assert not {0, 1} & set(np.concatenate(list(fewer.split.parts().values())))
    assert "2 labelled images could not be read" in fewer.notes[-1]


def test_classes_that_are_numbers_are_sorted_as_numbers() -> None:
    assert sorted_classes(pl.Series(["10", "9", "1"])) == ("1", "9", "10")
    assert sorted_classes(pl.Series(["b", "10", "a"])) == ("10", "a", "b")


def test_shots_replace_the_default_fractions_but_not_given_ones() -> None:
    names = [
        [str(budget) for budget in list_budgets(FinetuneConfig.model_validate(given))]
        for given in ({}, {"shots": (10,)}, {"shots": (10,), "fractions": (1.0, 0.1)})
    ]
    assert names == [["1%", "10%", "100%"], ["10 per class"], ["10%", "100%", "10 per class"]]


@pytest.mark.parametrize(
    "wrong",
    [
        {"test_share": 0.6, "val_share": 0.4},
        {"fractions": (1.5,)},
        {"shots": (0,)},
        {"labels": "labels.csv", "class_folders": True},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FinetuneConfig.model_validate(wrong)


def test_the_encoder_of_an_unfinished_run_is_noted_with_the_numbers(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    early = tmp_path / "early"
    shutil.copytree(run, early)
    description = json.loads((early / "encoder.json").read_text())
    (early / "encoder.json").write_text(json.dumps(description | {"steps": 9}))
    result = call(early, tmp_path / "results")
    said = "the run stands at step 2 of 9"
    assert said in capsys.readouterr().err
    assert [note for note in result.metrics["notes"] if said in note]
    assert "stands at" not in str(call(run, tmp_path / "others").metrics["notes"])


def test_more_shots_than_there_are_images_are_told(run: Path, tmp_path: Path) -> None:
    result = call(run, tmp_path / "results", shots=(2, 1000))
    (note,) = [note for note in result.metrics["notes"] if "per class" in note]
    count = next(r for r in result.metrics["results"] if r["shots"] == 1000)["num_labels"]
    assert note == f"1000 per class: a class has fewer, so it is {count} labels in all"
    lines = result.table().splitlines()
    assert lines[0].split("  ")[0] == "labels"
    assert f"1000 per class  {count} + " in result.table()


def test_too_few_test_patients_give_no_interval_and_say_so(run: Path, tmp_path: Path) -> None:
    patients = [f"p{row // 8}" for row in range(COUNT)]
    labels = ["striped" if row // 8 % 2 else "plain" for row in range(COUNT)]
    data = other_data(tmp_path / "data", patient=patients, label=labels)
    result = call(run, tmp_path / "results", data=data, shots=(2,))
    assert result.metrics["interval"]["note"].startswith("no intervals: a class is on 1 of 2 test")
    for one in result.metrics["results"]:
        assert one["metrics"]["auroc"]["value"] is not None
        assert one["metrics"]["auroc"]["low"] is one["metrics"]["auroc"]["high"] is None
        assert one["confusion_share"]["low"] is None
    assert {one["difference"]["low"] for one in result.metrics["comparisons"]} == {None}
    assert "not known" in result.table()
    with Progress("report") as progress:
        page = write_report(tmp_path / "results", ReportConfig(), None, progress=progress)
    text = page.read_text(encoding="utf-8")
    assert "no intervals: a class is on" in text.lower()
    assert "than from scratch" not in text
