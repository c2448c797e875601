"""Pass on what a fine-tuned classifier knows to a small network, with images that need no label.

OUT/ holds what `medssl.fewlabels.finetune` writes, of the student.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from lightning_fabric import Fabric

from medssl.config import Dims, DistillConfig
from medssl.embed import encoded_table
from medssl.encoder import Encoder, build_spec_backbone
from medssl.encoder_spec import EncoderSpec
from medssl.errors import DataError
from medssl.fewlabels.classifier import Classifier, Trained, load_classifier
from medssl.fewlabels.evaluation import Outcome, TestSet, encode_labels
from medssl.fewlabels.finetune import FinetuneResult, measure, write_results
from medssl.fewlabels.groups import Unit, plural, unit_of
from medssl.fewlabels.label_budget import LabelBudget
from medssl.fewlabels.labelled_images import open_labelled_images
from medssl.fewlabels.metrics import FloatArray, IntArray, Predictions
from medssl.fewlabels.probe import decide
from medssl.fewlabels.student import Distillation, student_spec
from medssl.fewlabels.supervised import (
    Labelled,
    predict,
    train_classifier,
)
from medssl.fewlabels.training import TrainingPlan, build_adamw, warmed_up
from medssl.loading.loader import build_loader
from medssl.loading.sampler import StepSampler
from medssl.manifest import Manifest, read_manifest
from medssl.run_data import open_data, training_rows, usable_images
from medssl.run_folder import RunFolder
from medssl.view_maker import move_canvases
from medssl.volumes.samples import as_samples, samples_of
from sslcore.console import Progress
from sslcore.device import build_fabric
from sslcore.errors import ConfigError
from sslcore.files import require_new_folder
from sslcore.random import seeded
from sslcore.training.loop import LoopSettings, StepRecord, fit
from sslcore.training.settings import RunConfig

_BATCH = 256  # images at a time, where none is learnt from


def distill(
    results: Path, config: DistillConfig, out: Path, *, data: Path | None, progress: Progress
) -> FinetuneResult:
    """Train a student on what the classifier of `results` says about unlabelled images.

    The test images are those of the teacher; neither they nor other images of their patients are
    learnt from. Beside the student stand its teacher, and the same small network trained on the
    teacher's labels alone.

    Args:
        results: Folder that fine-tuning made, with one split.
        config: Settings.
        out: New folder for the results; appears whole or not at all.
        data: Images to learn from: manifest, folder or MedMNIST archive; by default those of the
            pretraining.
        progress: Where the work stands.

    Raises:
        OutputError: `out` exists, or cannot be written.
        CheckpointError: `results` holds no classifier.
        ConfigError: The student is unknown.
        DataError: The teacher learnt from test images, or no image remains to learn from.
    """
    require_new_folder(out, way_out="give another name with --out")
    fabric = build_fabric(RunConfig(device=config.device, batch_size=config.batch_size))
    teacher = load_classifier(results, device=fabric.device)
    spec = student_spec(teacher.spec, config)
    known = samples_of(read_manifest(results / "manifest.parquet"), spec)
    labelled = known.where(pl.col("label").is_not_null())
    described = _read_metrics(results / "metrics.json")
    _require_unseen_test(labelled, teacher)
    unit = unit_of(described["split"])
    pool = _unlabelled(labelled, Path(described["run"]), data, progress, unit)
    if len(pool) < config.batch_size:
        raise ConfigError(
            f"batch_size {config.batch_size} is more than the {len(pool)} images that remain to"
            f" learn from {_left_out(unit)}"
        )
    progress.note(
        f"{spec.backbone} learns what {teacher.spec.backbone} says about {len(pool)} images"
    )
    progress.expect(config.steps + config.scratch_steps, unit="steps")
    bench = _Bench(labelled, teacher, spec, config, fabric, progress)
    student = bench.distilled(pool)
    networks = {"distilled": student, "scratch": bench.scratch(), "teacher": teacher.network}
    test = TestSet(
        labelled.rows, bench.test, teacher.classes, resamples=config.bootstrap, seed=config.seed
    )
    outcomes = [bench.outcome(model, network) for model, network in networks.items()]
    about = teacher.about | {"model": "distilled"}
    note = (
        f"the student learnt from the teacher's probabilities on {len(pool)} images"
        f" {_left_out(unit)}; teacher and scratch had the same labels"
    )
    metrics = {
        **described,
        "mode": "distilled",
        "notes": [note, *described["notes"]],
        **measure(test, outcomes),
    }
    write_results(
        out,
        metrics,
        config,
        predictions=test.predictions_table(outcomes),
        embeddings=bench.embeddings(student),
        manifest=labelled,
        classifier=replace(teacher, network=student, spec=spec, about=about),
    )
    return FinetuneResult(out, metrics)


def _read_metrics(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        missing = {"run", "split", "notes", "data"} - set(found)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not what medssl finetune writes: {error}") from error
    if missing:
        raise DataError(f"{path}: not what medssl finetune writes: without {sorted(missing)[0]}")
    return found


def _require_unseen_test(labelled: Manifest, teacher: Trained) -> None:
    """Refuse results of folds, whose test part is what other folds learnt from."""
    test = labelled.rows.filter(pl.col("split") == "test")["sample"]
    seen = teacher.learnt["sample"].is_in(test.implode()).sum()
    if seen:
        raise DataError(
            f"the teacher learnt from {seen} of {len(test)} test images, as with --folds; run"
            " medssl finetune with one split (--folds 1) and distill that"
        )


def _left_out(unit: Unit) -> str:
    return f"without those of test {plural(unit)}"


def _unlabelled(
    labelled: Manifest, run: Path, data: Path | None, progress: Progress, unit: Unit
) -> Manifest:
    """Return the images to learn from: no copy of a test image, and none of a test patient.

    In a split by study none of a test study either, in one by image only the copies stay out.
    """
    folder = RunFolder(run)
    if data is not None:
        given = open_data(data, progress=progress)
        dims: Dims = 3 if labelled.holds_volumes else 2
        images = as_samples(given, dims, labelled.slab, labelled.patch)
        if folder.config.exists():
            images = usable_images(images, folder.read_config().data)
    elif folder.manifest.exists():
        images = training_rows(read_manifest(folder.manifest), folder.read_config().data)
    else:
        raise DataError(f"{run}, where the encoder was trained, is gone; give images with --data")
    test = labelled.rows.filter(pl.col("split") == "test")
    left_out = pl.col("content").is_in(test["content"].drop_nulls().implode())
    for column in {"image": (), "study": ("patient", "study"), "patient": ("patient",)}[unit]:
        left_out |= pl.col(column).is_in(test[column].drop_nulls().implode()).fill_null(value=False)
    pool = images.where(~left_out.fill_null(value=False))
    if not len(pool):
        raise DataError(
            f"none of {len(images)} images is left to learn from"
            f" {_left_out(unit)}; give others with --data"
        )
    return pool


class _Bench:
    """What teacher, student and scratch share."""

    def __init__(
        self,
        labelled: Manifest,
        teacher: Trained,
        spec: EncoderSpec,
        config: DistillConfig,
        fabric: Fabric,
        progress: Progress,
    ) -> None:
        self.test: IntArray = np.flatnonzero(
            (labelled.rows["split"] == "test").fill_null(value=False)
        )
        self._labelled = labelled
        self._teacher = teacher
        self._spec = spec
        self._config = config
        self._fabric = fabric
        self._progress = progress
        self._images = open_labelled_images(labelled, spec, device=fabric.device)
        self._train, self._val = (self._learnt(part) for part in ("train", "val"))

    def distilled(self, pool: Manifest) -> Classifier:
        """Train the student."""
        config, fabric, student = self._config, self._fabric, self._new_student()
        method = Distillation(student, self._teacher.network, temperature=config.temperature)
        images = open_labelled_images(pool, self._spec, device=fabric.device)
        order = StepSampler(len(pool), config.batch_size, seed=config.seed, last_step=config.steps)
        with seeded(config.seed):
            fit(
                method,
                iter(build_loader(images.dataset, order)),
                build_adamw(student, config.learning_rate),
                LoopSettings(config.steps, config.batch_size),
                fabric=fabric,
                prepare=lambda batch: images.light.one(
                    move_canvases(batch.pixels, fabric.device),
                    batch.index.to(fabric.device),
                    seed=config.seed,
                    epoch=batch.epoch,
                ),
                schedule=warmed_up,
                on_step=self._show("distilled"),
            )
        return student

    def scratch(self) -> Classifier:
        """Train the same network on the labels alone."""
        network = self._new_student()
        config = self._config
        plan = TrainingPlan(
            steps=config.scratch_steps,
            batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            seed=config.seed,
        )
        with seeded(config.seed):
            train_classifier(
                network,
                self._images,
                self._train,
                self._val,
                plan,
                fabric=self._fabric,
                on_step=self._show("scratch"),
            )
        return network

    def outcome(self, model: str, network: Classifier) -> Outcome:
        """Test a network."""
        about = self._teacher.about
        chances: FloatArray = predict(network, self._images, self.test)
        return Outcome(
            budget=LabelBudget(fraction=about["fraction"], shots=about["shots"]),
            draw=0,
            model=model,
            num_labels=len(self._train.rows),
            num_val_labels=len(self._val.rows),
            rows=self.test,
            predictions=Predictions(chances, decide(chances, self._teacher.shares)),
        )

    def embeddings(self, student: Classifier) -> pl.DataFrame:
        """Return the student's vectors of all labelled images."""
        encoder = Encoder(student.backbone, self._spec)
        return encoded_table(encoder, self._labelled, _BATCH, self._progress)[0]

    def _new_student(self) -> Classifier:
        with seeded(self._config.seed):
            backbone = build_spec_backbone(self._spec).to(self._fabric.device)
            return Classifier(backbone, len(self._teacher.classes)).to(self._fabric.device)

    def _show(self, model: str) -> Callable[[StepRecord], None]:
        return lambda record: self._progress.advance(model=model, loss=f"{record.loss:.3f}")

    def _learnt(self, part: str) -> Labelled:
        """Return what the teacher learnt from, as rows of the labelled images."""
        samples = self._teacher.learnt.filter(pl.col("part") == part)["sample"]
        rows = np.flatnonzero(self._labelled.rows["sample"].is_in(samples.implode()))
        codes = encode_labels(self._labelled.rows[rows.tolist()]["label"], self._teacher.classes)
        return Labelled(rows, codes)
