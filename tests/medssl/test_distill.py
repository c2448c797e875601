"""The classifier that fine-tuning leaves: used on other images, and passed on to a student."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from medssl.backbone import Backbone
from medssl.config import DistillConfig, EmbedConfig, FinetuneConfig, ReportConfig
from medssl.errors import DataError
from medssl.fewlabels import distill as job
from medssl.fewlabels.classifier import Classifier, load_classifier
from medssl.fewlabels.distill import distill
from medssl.fewlabels.finetune import FinetuneResult, finetune
from medssl.fewlabels.student import Distillation
from medssl.manifest import read_manifest, write_manifest
from medssl.predict import predict
from medssl.pretrain import pretrain
from medssl.report.build import write_report
from sslcore.console import Progress
from sslcore.errors import CheckpointError, ConfigError, OutputError
from tests.medssl.tiny_run import tiny_config, tiny_images, use_tiny_backbone, write_tiny_data

COUNT = 48


@pytest.fixture(scope="module", autouse=True)
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Small networks, and a key of our own."""
    with pytest.MonkeyPatch.context() as patch:
        use_tiny_backbone(patch)
        patch.setenv("MEDSSL_KEY_FILE", str(tmp_path_factory.mktemp("key") / "site.key"))
        yield


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Leave a fine-tuned classifier; tests must not change it."""
    folder = tmp_path_factory.mktemp("teacher")
    data = write_tiny_data(folder, count=COUNT)
    pretrain(tiny_config(data, "run.steps=2"), folder / "run")
    config = FinetuneConfig(
        mode="full",
        fractions=(1.0,),
        shots=(2,),
        repeats=2,
        steps=30,
        batch_size=8,
        learning_rate=1e-2,
        bootstrap=10,
        device="cpu",
    )
    with Progress("finetune") as progress:
        finetune(folder / "run", config, folder / "results", data=None, progress=progress)
    return folder / "results"


def call(results: Path, out: Path, data: Path | None = None, **changes: Any) -> FinetuneResult:
    small = {"steps": 60, "scratch_steps": 4, "batch_size": 8, "bootstrap": 10, "device": "cpu"}
    config = DistillConfig.model_validate({**small, "learning_rate": 1e-2, **changes})
    with Progress("distill") as progress:
        return distill(results, config, out, data=data, progress=progress)


def test_the_classifier_kept_is_the_one_with_most_labels_and_gives_its_predictions(
    results: Path, tmp_path: Path
) -> None:
    kept = load_classifier(results, device=torch.device("cpu"))
    assert kept.about == {
        "model": "finetuned",
        "labels": "100%",
        "fraction": 1.0,
        "shots": None,
        "num_labels": len(kept.learnt.filter(pl.col("part") == "train")),
    }
    labelled = read_manifest(results / "manifest.parquet")
    learnt = labelled.rows.join(kept.learnt, on="sample")
    assert (learnt["part"] == learnt["split"]).all()
    assert (learnt["label"] == learnt["label_right"]).all()

    out = tmp_path / "predictions.parquet"
    found = predict(results, results / "manifest.parquet", out, EmbedConfig(batch_size=7))
    table = pl.read_parquet(out)
    assert found.failures == 0
    assert sum(found.counts.values()) == len(table) == COUNT
    before = pl.read_parquet(results / "predictions.parquet").filter(
        (pl.col("model") == "finetuned") & (pl.col("labels") == "100%")
    )
    both = before.join(table, on="sample")
    assert len(both) == len(before)
    assert (both["predicted"] == both["predicted_right"]).all()
    assert both["part"].is_null().all()
    assert found.learnt == len(kept.learnt) == len(table) - table["part"].null_count()
    chances, again = (np.stack(both[name]) for name in ("probabilities", "probabilities_right"))
    assert again == pytest.approx(chances, abs=1e-5)


def test_a_linear_probe_is_kept_too(results: Path, tmp_path: Path) -> None:
    run = results.parent / "run"
    config = FinetuneConfig(fractions=(1.0,), repeats=1, steps=2, batch_size=8, bootstrap=10)
    with Progress("finetune") as progress:
        finetune(run, config, tmp_path / "linear", data=None, progress=progress)
    kept = load_classifier(tmp_path / "linear", device=torch.device("cpu"))
    assert kept.about["model"] == "linear_probe"
    predict(tmp_path / "linear", run / "manifest.parquet", tmp_path / "p.parquet", EmbedConfig())
    table = pl.read_parquet(tmp_path / "p.parquet")
    before = pl.read_parquet(tmp_path / "linear" / "predictions.parquet")
    both = before.filter(pl.col("model") == "linear_probe").join(table, on="sample")
    chances, again = (np.stack(both[name]) for name in ("probabilities", "probabilities_right"))
    assert again == pytest.approx(chances, abs=1e-5)


def test_the_manifest_of_a_folder_is_kept_beside_its_predictions(
    results: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for number, image in enumerate(tiny_images(5)):
        Image.fromarray(image).save(folder / f"{number}.png")
    predict(results, folder, tmp_path / "p.parquet", EmbedConfig())
    manifest = read_manifest(tmp_path / "p.manifest.parquet")
    assert pl.read_parquet(tmp_path / "p.parquet")["sample"].equals(manifest.rows["sample"])
    with pytest.raises(OutputError, match="exists and is no table of predictions"):
        predict(results, folder, tmp_path / "p.manifest.parquet", EmbedConfig())


def test_a_folder_without_a_whole_classifier_says_so(results: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no classifier; give a folder that medssl"):
        predict(tmp_path, results / "manifest.parquet", tmp_path / "p.parquet", EmbedConfig())
    for name in ("classifier.safetensors", "classifier.json"):
        (tmp_path / name).write_bytes((results / name).read_bytes())
    with pytest.raises(CheckpointError, match="no whole classifier"):
        load_classifier(tmp_path, device=torch.device("cpu"))
    pl.DataFrame({"sample": ["a"]}).write_parquet(tmp_path / "learnt.parquet")
    with pytest.raises(CheckpointError, match="do not belong together"):
        load_classifier(tmp_path, device=torch.device("cpu"))


def test_a_student_comes_close_to_its_teacher_without_a_label(
    results: Path, tmp_path: Path
) -> None:
    metrics = call(results, tmp_path / "student").metrics
    found = {one["model"]: one["metrics"]["auroc"]["value"] for one in metrics["results"]}
    assert set(found) == {"distilled", "teacher", "scratch"}
    assert found["teacher"] == 1.0
    assert found["distilled"] > 0.9
    before = json.loads((results / "metrics.json").read_text())
    teacher = next(one for one in before["results"] if one["model"] == "finetuned")
    assert metrics["data"] == before["data"]
    assert teacher["labels"] in ("100%", "2 per class")
    assert "without those of test patients; teacher" in metrics["notes"][0]

    kept = load_classifier(tmp_path / "student", device=torch.device("cpu"))
    assert kept.about["model"] == "distilled"
    predict(
        tmp_path / "student", results / "manifest.parquet", tmp_path / "p.parquet", EmbedConfig()
    )
    with Progress("report") as progress:
        page = write_report(tmp_path / "student", ReportConfig(), None, progress=progress)
    text = page.read_text(encoding="utf-8")
    assert "Student" in text
    assert "Its teacher" in text


def test_no_image_of_a_test_patient_is_learnt_from(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    original = job.open_labelled_images

    def spy(manifest: Any, *args: Any, **options: Any) -> Any:
        seen.append(manifest.rows)
        return original(manifest, *args, **options)

    monkeypatch.setattr(job, "open_labelled_images", spy)
    call(results, tmp_path / "student", steps=2, scratch_steps=2)
    labelled, pool = seen
    test = labelled.filter(pl.col("split") == "test")
    assert len(pool) == COUNT - len(test)
    assert not set(pool["patient"]) & set(test["patient"])


def test_the_teacher_stays_as_it_is_and_gets_no_gradient(results: Path, tmp_path: Path) -> None:
    before = (results / "classifier.safetensors").read_bytes()
    student, teacher = toy(0), toy(1).train()
    method = Distillation(student, teacher.eval(), temperature=1.0)
    method.train()
    assert not teacher.training
    method(torch.randn(6, 1, 4, 4)).loss.backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert all(p.grad is not None for p in student.parameters())
    assert set(dict(method.named_parameters())) == {
        f"student.{name}" for name, _ in student.named_parameters()
    }
    call(results, tmp_path / "student", steps=2, scratch_steps=2)
    assert (results / "classifier.safetensors").read_bytes() == before


@pytest.mark.parametrize("temperature", [0.1, 1.0, 4.0])
def test_the_loss_is_the_cross_entropy_at_one_temperature(temperature: float) -> None:
    student, teacher, view = toy(0), toy(1).eval(), torch.randn(6, 1, 4, 4)
    loss = Distillation(student, teacher, temperature=temperature)(view).loss
    total = 0.0
    with torch.no_grad():
        pairs = list(zip(student.logits(view).double(), teacher.logits(view).double(), strict=True))
    for own, given in pairs:
        target = F.softmax(given / temperature, 0)
        total -= float((target * F.log_softmax(own / temperature, 0)).sum())
    assert loss.item() == pytest.approx(total / 6, rel=1e-5)


def toy(seed: int) -> Classifier:
    torch.manual_seed(seed)
    network = Classifier(Backbone(nn.Sequential(nn.Flatten(), nn.Linear(16, 5)), 5), 3)
    nn.init.normal_(network.head.weight)
    return network


def test_what_cannot_be_distilled_says_why(results: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"backbone: unknown 'resnet11'; .*resnet10"):
        call(results, tmp_path / "a", backbone="resnet11")
    with pytest.raises(ConfigError, match=r"batch_size 64 is more than .* of test patients"):
        call(results, tmp_path / "a", batch_size=64)
    with pytest.raises(OutputError, match="give another name with --out"):
        call(results, results)
    labelled = read_manifest(results / "manifest.parquet")
    test = labelled.where(pl.col("split") == "test")
    write_manifest(test, tmp_path / "test.parquet")
    with pytest.raises(DataError, match="without those of test patients"):
        call(results, tmp_path / "a", data=tmp_path / "test.parquet")
    assert not (tmp_path / "a").exists()


def test_results_of_folds_have_no_test_part_to_measure_a_student_on(
    results: Path, tmp_path: Path
) -> None:
    config = FinetuneConfig(fractions=(1.0,), repeats=1, folds=2, steps=2, bootstrap=5)
    with Progress("finetune") as progress:
        finetune(results.parent / "run", config, tmp_path / "ff", data=None, progress=progress)
    with pytest.raises(DataError, match=r"learnt from \d+ of 48 test images, as with --folds"):
        call(tmp_path / "ff", tmp_path / "student", batch_size=2)


def test_results_that_are_not_whole_say_so(results: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(results, broken)
    for content, words in (("{", "not what medssl finetune writes"), ("{}", "without data")):
        (broken / "metrics.json").write_text(content)
        with pytest.raises(DataError, match=words):
            call(broken, tmp_path / "a")
    found = json.loads((results / "metrics.json").read_text())
    (broken / "metrics.json").write_text(json.dumps(found | {"run": str(tmp_path / "moved")}))
    with pytest.raises(DataError, match=r"where the encoder was trained, is gone; give images"):
        call(broken, tmp_path / "a")


def test_a_split_by_image_leaves_images_out_not_patients(results: Path, tmp_path: Path) -> None:
    broken = tmp_path / "by_image"
    shutil.copytree(results, broken)
    found = json.loads((results / "metrics.json").read_text())
    (broken / "metrics.json").write_text(json.dumps(found | {"split": "image"}))
    note = call(broken, tmp_path / "a", steps=2, scratch_steps=2).metrics["notes"][0]
    assert "images without those of test images; teacher" in note
