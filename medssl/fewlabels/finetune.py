"""Learn from few labels, with and without the pretrained encoder, and measure both.

OUT/
    metrics.json          split, leakage, metrics with intervals, comparisons; all notes
    predictions.parquet   see `medssl.fewlabels.evaluation.PREDICTIONS_SCHEMA`
    embeddings.parquet    of all labelled images, with the part each one was in
    manifest.parquet      the labelled images, `split` as it was used
    config.yaml           the configuration, resolved
    classifier.*          the network with the most labels; see `medssl.fewlabels.classifier`
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import torch

from medssl.backbones import Backbone
from medssl.config import FinetuneConfig
from medssl.embed import embedding_table
from medssl.encoder import build_spec_backbone, load_encoder, unfinished
from medssl.encoder_spec import EncoderSpec
from medssl.fewlabels.classifier import LEARNT_SCHEMA, Trained
from medssl.fewlabels.cohort import Cohort, gather_cohort
from medssl.fewlabels.evaluation import Outcome, TestSet, encode_labels
from medssl.fewlabels.groups import subject_groups
from medssl.fewlabels.label_budget import MIN_VAL_PER_CLASS
from medssl.fewlabels.labelled_images import open_labelled_images
from medssl.fewlabels.probe import ENOUGH_VAL, class_shares
from medssl.fewlabels.results_text import results_text
from medssl.fewlabels.trials import Bench, Kept, run_trials
from medssl.manifest import Manifest, write_manifest
from medssl.run_folder import RunFolder
from medssl.run_images import plan_store
from medssl.volumes.samples import as_slices
from sslcore.config import Section, dump_config
from sslcore.console import Progress
from sslcore.device import build_fabric
from sslcore.files import require_new_folder, whole_folder
from sslcore.random import seeded
from sslcore.tables import write_parquet
from sslcore.training.settings import RunConfig

_DECISION = (
    "each image goes to the class whose probability most exceeds its share of the training labels;"
    " accuracy, balanced accuracy and the confusion matrices count these decisions"
)
_VALIDATION = (
    "the penalty of probes and the moment to stop training are chosen on validation labels that"
    f" shrink with the training labels, to no fewer than {MIN_VAL_PER_CLASS} per class;"
    f" where these are fewer than {ENOUGH_VAL}, cross-validation over the training patients joins"
    " them for the penalty, which is the strongest within one standard error of the lowest log"
    " loss; nothing is chosen on test images"
)


@dataclass(frozen=True, slots=True)
class FinetuneResult:
    """What was found.

    Attributes:
        out: The folder of the results.
        metrics: The content of metrics.json.
    """

    out: Path
    metrics: dict[str, Any]

    def table(self) -> str:
        """Return the AUROCs as lines of text, with what has to be known about them."""
        rows = [
            ("labels", "to learn + choose", "model", "AUROC", "95 % interval", "balanced accuracy")
        ]
        for result in self.metrics["results"]:
            auroc, balanced = (result["metrics"][key] for key in ("auroc", "balanced_accuracy"))
            known = auroc["low"] is not None
            rows.append(
                (
                    result["labels"],
                    f"{result['num_labels']} + {result['num_val_labels']}",
                    result["model"],
                    f"{auroc['value']:.3f}",
                    f"{auroc['low']:.3f} to {auroc['high']:.3f}" if known else "not known",
                    f"{balanced['value']:.3f}",
                )
            )
        return results_text(rows, self.metrics)


def finetune(
    run: Path, config: FinetuneConfig, out: Path, *, data: Path | None, progress: Progress
) -> FinetuneResult:
    """Measure an encoder with few labels, beside the same network without pretraining.

    Args:
        run: Folder that pretraining made.
        config: What to try.
        out: New folder for the results; appears whole or not at all.
        data: Manifest, folder or MedMNIST archive; by default what the run was pretrained on.
        progress: Where the work stands.

    Raises:
        OutputError: `out` exists, or cannot be written.
        CheckpointError: The run has no encoder.
        DataError: Labels or split cannot be worked with; the message has the way out.
    """
    require_new_folder(out, way_out="give another name with --out")
    fabric = build_fabric(RunConfig(device=config.device, batch_size=config.batch_size))
    encoder = load_encoder(run, device=fabric.device)
    warning = unfinished(run)
    if warning:
        progress.note(warning)
    cohort = gather_cohort(RunFolder(run), config, data, progress)
    reading = RunFolder(run).read_config().data
    images = open_labelled_images(
        cohort.manifest,
        encoder.spec,
        device=fabric.device,
        cache_gb=reading.cache_gb,
        store=plan_store(reading),
    )
    build = partial(_build_untrained, encoder.spec, fabric.device)
    with seeded(config.seed):
        untrained = build()
    features = images.features(encoder.backbone, untrained, progress=progress)
    cohort = cohort.readable_only(features.rows).noting(warning)
    bench = Bench(
        images=images,
        features=features,
        splits=cohort.splits,
        codes=encode_labels(cohort.manifest.rows["label"], cohort.classes),
        num_classes=len(cohort.classes),
        patients=subject_groups(cohort.manifest.rows),
        pretrained=encoder.backbone,
        build_untrained=build,
        fabric=fabric,
    )
    test = TestSet(
        cohort.manifest.rows,
        cohort.tested,
        cohort.classes,
        resamples=config.bootstrap,
        seed=config.seed,
    )
    outcomes, kept = run_trials(bench, config, progress)
    for note in _short_of_shots(outcomes, len(cohort.classes)):
        cohort = cohort.noting(note)
    metrics = _describe(run, config, cohort) | measure(test, outcomes)
    used = cohort.with_parts()
    write_results(
        out,
        metrics,
        config,
        predictions=test.predictions_table(outcomes),
        embeddings=embedding_table(used, features.rows, features.pretrained),
        manifest=used,
        classifier=_trained(kept, encoder.spec, cohort),
    )
    return FinetuneResult(out, metrics)


def write_results(
    out: Path,
    metrics: Mapping[str, Any],
    config: Section,
    *,
    predictions: pl.DataFrame,
    embeddings: pl.DataFrame,
    manifest: Manifest,
    classifier: Trained,
) -> None:
    """Write a folder of results, whole or not at all.

    Raises:
        OutputError: The disk is full, or the place cannot be written.
    """
    with whole_folder(out) as draft:
        (draft / "metrics.json").write_text(json.dumps(metrics, indent=1), encoding="utf-8")
        (draft / "config.yaml").write_text(dump_config(config), encoding="utf-8")
        write_parquet(predictions, draft / "predictions.parquet")
        write_parquet(embeddings, draft / "embeddings.parquet")
        write_manifest(as_slices(manifest), draft / "manifest.parquet")
        classifier.store(draft)


def _build_untrained(spec: EncoderSpec, device: torch.device) -> Backbone:
    return build_spec_backbone(spec).to(device)


def _short_of_shots(outcomes: list[Outcome], num_classes: int) -> list[str]:
    """Say where classes have fewer labels than were asked for."""
    found = {
        f"{one.budget}: a class has fewer, so it is {one.num_labels} labels in all"
        for one in outcomes
        if one.draw == 0 and one.budget.shots and one.num_labels < one.budget.shots * num_classes
    }
    return sorted(found)


def _trained(kept: Kept, spec: EncoderSpec, cohort: Cohort) -> Trained:
    """Describe the network that is kept."""
    rows = cohort.manifest.rows
    learnt = pl.concat(
        rows[labelled.rows.tolist()].select("sample", "label", pl.lit(part).alias("part"))
        for part, labelled in (("train", kept.train), ("val", kept.val))
    )
    about = {
        "model": kept.model,
        "labels": str(kept.budget),
        "fraction": kept.budget.fraction,
        "shots": kept.budget.shots,
        "num_labels": len(kept.train.rows),
    }
    shares = class_shares(kept.train.codes, len(cohort.classes))
    return Trained(kept.network, spec, cohort.classes, shares, learnt.cast(LEARNT_SCHEMA), about)


def _describe(run: Path, config: FinetuneConfig, cohort: Cohort) -> dict[str, Any]:
    rows = cohort.manifest.rows
    return {
        "run": str(run.absolute()),
        "classes": list(cohort.classes),
        "mode": config.mode,
        "split": cohort.split.how,
        "data": {
            part: _describe_part(rows[members.tolist()], cohort.classes)
            for part, members in cohort.described.parts().items()
        },
        "leakage": asdict(cohort.leakage),
        "decision": _DECISION,
        "validation": _VALIDATION,
        "notes": list(cohort.notes),
    }


def _describe_part(rows: pl.DataFrame, classes: tuple[str, ...]) -> dict[str, Any]:
    labels = rows["label"].to_list()
    return {
        "images": len(rows),
        "patients": None if rows["patient"].has_nulls() else rows["patient"].n_unique(),
        "per_class": {name: labels.count(name) for name in classes},
    }


def measure(test: TestSet, outcomes: list[Outcome]) -> dict[str, Any]:
    """Return what metrics.json says about outcomes."""
    results, comparisons = test.evaluate(outcomes)
    return {
        "interval": test.describe_interval(),
        "results": results,
        "comparisons": comparisons,
    }
